"""Threads, processes and event loops: locks that survive interruptions, and awaiting from sync code."""
