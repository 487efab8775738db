"""``python -m diffutils.train``."""

import sys

from diffutils.train.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
