"""SQLite files: those of SqliteDict and of diskcache, on connections of our own."""
