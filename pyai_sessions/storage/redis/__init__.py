"""Redis and Valkey servers and clusters: hashes of documents, sorted sets for lists, one script for each write."""
