"""Prompts: what a model is given of a conversation, in the format of its API."""
