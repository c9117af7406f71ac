"""One session in a storage: loaded, saved, appended to, forked, listed and expired."""
