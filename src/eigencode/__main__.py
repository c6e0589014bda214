"""``python -m eigencode``: the command line."""

import sys

from eigencode.cli import main

if __name__ == "__main__":
    sys.exit(main())
