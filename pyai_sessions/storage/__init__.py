"""Storages of documents and ordered lists: any mapping, SQLite files, Redis and Valkey servers. None knows sessions."""
