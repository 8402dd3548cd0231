"""`python -m mdmcourse` is the command `mdmcourse`: for where its folder is not on the path."""

from __future__ import annotations

import sys

from mdmcourse.cli import main

if __name__ == "__main__":
    sys.exit(main())
