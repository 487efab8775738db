"""Training on images from a command line, for minutes on a laptop or for days on a cluster.

``python -m diffutils.train --data digits8 --out runs/digits`` trains the digits model of chapter 5; ``--help`` lists what
else it does. The same command under ``accelerate launch`` runs on several GPUs or machines. ``recipe`` says what is
trained, ``images`` reads the data, ``parallel`` shares the steps among processes, ``checkpoint`` writes and reads what a
run needs to go on, ``command`` is the command itself.

Home chapter: scaling up (chapters/13_scaling_up.md).
"""

from diffutils.train.checkpoint import CheckpointError
from diffutils.train.recipe import Recipe, load_model

__all__ = ["CheckpointError", "Recipe", "load_model"]
