"""Stores: `KVSessionStore`, the makers of one line, and stores of the users' own."""
