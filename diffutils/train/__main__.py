"""``python -m diffutils.train``."""

import sys

from diffutils.train.command import main

sys.exit(main(sys.argv[1:]))
