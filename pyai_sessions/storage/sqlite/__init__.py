"""Storages in SQLite files: our own, those of SqliteDict, and directories of diskcache."""
