"""The exports and transcripts of other programs, as sessions: a module for each program."""
