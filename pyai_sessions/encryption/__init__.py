"""Encryption: a storage that encrypts what another one stores, and the rotation of its keys."""
