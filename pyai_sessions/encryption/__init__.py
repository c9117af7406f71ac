"""Encryption: a storage around a storage, and how its keys are changed."""
