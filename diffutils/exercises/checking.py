"""Looking at an answer: finding the exercise's checker, running it and printing what it has to say."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from diffutils.exercises.answers import CHECKERS, Checker, NotYet, Unanswered
from diffutils.validation import require


def check(number: str, *answer: Any) -> bool:
    """Look at the answer to an exercise, print what is to be said about it, and return whether it is right.

    An error inside the reader's own function is not caught: its traceback shows where.

    Args:
        number: of the exercise, such as "2.1".
        answer: what the exercise asks for: a function, a number, or several of these.

    Raises:
        ValueError: there is no such exercise.
    """
    checker = _checker(number)
    try:
        if any(part is ... or part is None for part in answer):
            raise Unanswered
        verdict, right = f"right. {checker(*answer)}", True
    except Unanswered:
        verdict, right = "no answer yet. Put yours where the dots are and run the cell again.", False
    except NotYet as wrong:
        verdict, right = f"not yet. {wrong}", False
    print(f"Exercise {number}: {verdict}")
    return right


def _checker(number: str) -> Checker:
    require(isinstance(number, str) and "." in number, "number", number, 'that of an exercise, such as "2.1"')
    chapter = number.partition(".")[0]
    module = f"diffutils.exercises.chapter_{chapter.zfill(2)}"
    if chapter.isdigit() and find_spec(module):
        import_module(module)
    require(number in CHECKERS, "number", number, "that of an exercise of the book")
    return CHECKERS[number]
