"""`python -m trioraft`."""

import sys

from trioraft._cli import main

if __name__ == "__main__":
    sys.exit(main())
