"""Storages on Redis and Valkey: one server, a cluster, or the primary that Sentinel names."""
