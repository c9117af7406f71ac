"""Broken mappings and stores, each of which must fail its contract."""
