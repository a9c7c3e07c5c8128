"""`python -m lorimer` is the console script."""

import os
import sys
from contextlib import suppress

with suppress(OSError):  # the folder is gone
    # Python looks for modules in the current folder first, which is often a workspace: what a
    # stranger or an agent has put there is not to be loaded here.
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():
        del sys.path[0]

from lorimer.cli import main

if __name__ == "__main__":
    main()
