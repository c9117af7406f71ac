"""Processes, threads and calls: locks that survive an interruption, and logic that runs sync and async."""
