"""Looking at an answer: finding the exercise's checker, running it and printing what it has to say."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from diffbook.exercises.answers import CHECKERS, Checker, NotYet, Unanswered
from diffutils.validation import require


@dataclass(frozen=True)
class Verdict:
    """What was said about an answer; true if the answer is right."""

    right: bool
    text: str

    def __bool__(self) -> bool:
        return self.right

    def _ipython_display_(self) -> None:
        """Show nothing under a cell that ends with ``check``: the text has been printed."""


def check(number: str, *answer: Any) -> Verdict:
    """Look at the answer to an exercise, print what is to be said about it, and return the verdict.

    The parts of an answer are looked at in their order, up to the first that is wrong or still missing. An error inside
    the reader's own function is not caught: its traceback shows where.

    Args:
        number: of the exercise, such as "2.1".
        answer: what the exercise asks for: a function, a number, or several of these.

    Raises:
        ValueError: there is no such exercise.
    """
    checker = _checker(number)
    try:
        verdict = Verdict(True, f"right. {_asked(checker, answer)}")
    except Unanswered as found:
        verdict = Verdict(False, _missing(checker, answer, found.args))
    except NotYet as wrong:
        verdict = Verdict(False, f"not yet. {wrong}")
    print(f"Exercise {number}: {verdict.text}")
    return verdict


def _asked(checker: Checker, answer: tuple) -> str:
    """What the checker says of a whole answer, or of the parts before the first one that is missing."""
    names = list(inspect.signature(checker).parameters)
    if all(map(_is_missing, answer)):
        raise Unanswered
    if len(answer) != len(names):
        raise NotYet(f"The answer has {len(names)} parts ({', '.join(names)}), and this has {len(answer)}.")
    return checker(*(... if _is_missing(part) else part for part in answer))


def _is_missing(part: Any) -> bool:
    return part is ... or part is None


def _missing(checker: Checker, answer: tuple, dotted: tuple) -> str:
    """What is said where parts are missing; ``dotted`` holds the function that returned dots, if one did."""
    first = next((i for i, part in enumerate(answer) if _is_missing(part) or any(part is one for one in dotted)), 0)
    if first == 0:
        return "no answer yet. Put yours where the dots are and run the cell again."
    return f"nothing wrong so far. Part {first + 1}, {list(inspect.signature(checker).parameters)[first]}, is still missing."


def _checker(number: str) -> Checker:
    require(isinstance(number, str) and "." in number, "number", number, 'that of an exercise, such as "2.1"')
    chapter = number.partition(".")[0]
    module = f"diffbook.exercises.chapter_{chapter.zfill(2)}"
    if chapter.isdigit() and find_spec(module):
        import_module(module)
    require(number in CHECKERS, "number", number, "that of an exercise of the book")
    return CHECKERS[number]
