"""The stored format: which documents a session is, and how they are read, written and merged."""
