"""`python -m pyai_sessions`: the same as the program `pyai-sessions`."""

import sys

from pyai_sessions.cli import main

if __name__ == "__main__":
    sys.exit(main())
