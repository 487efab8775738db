"""Right and wrong answers to the book's exercises, a module for each chapter; ``test_exercises`` tries them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answers:
    """To one exercise: each answer is the tuple of what follows the number in ``check``.

    Attributes:
        right: answers that the checker must accept.
        wrong: answers that it must not accept, each under a pattern that what it says must match.
    """

    right: list[tuple]
    wrong: dict[str, tuple]
