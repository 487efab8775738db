"""diffutils: the mathematics of diffusion models, written to be read.

The shared package of the book. Every core function has one chapter as its home: the chapter derives it in a few
lines of plain PyTorch, asserts that those lines and this package agree, and later chapters import it from here.

Conventions, kept everywhere:

- time is 1-based, t = 1..T; arrays of a schedule have length T + 1 and index 0 means "no noise";
- ``alpha_t = 1 - beta_t`` and ``alpha_bar_t`` is the product of ``alpha_1`` to ``alpha_t``;
- randomness enters through a ``torch.Generator`` or a seed, never through hidden global state;
- device and dtype follow the input.
"""

__version__ = "0.1.0"
