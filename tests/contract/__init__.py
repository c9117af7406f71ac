"""The contracts of `pyai_sessions.testing`, kept by what sessions are stored in."""
