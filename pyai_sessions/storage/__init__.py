"""Storages: documents under keys, and ordered lists of members, in one kind of place each."""
