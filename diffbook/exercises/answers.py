"""What the checkers of exercises are made of: calling a reader's function, comparing what it returns.

A checker is a function of the answer, registered by ``@exercise("2.1")``. It returns a sentence that is printed when
the answer is right. It raises ``NotYet`` with what is wrong, mostly through ``compare``, which knows usual mistakes.
"""

from __future__ import annotations

import dis
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Checker = Callable[..., str]
CHECKERS: dict[str, Checker] = {}


class NotYet(Exception):
    """An answer is wrong; the message is a sentence that says in what."""


class Unanswered(Exception):
    """The dots that stand for the answer are still there; where they stand in a function, it is the argument."""


def exercise(number: str) -> Callable[[Checker], Checker]:
    """Register the checker of the exercise with this number; raise ``ValueError`` if it has one already."""

    def register(checker: Checker) -> Checker:
        if number in CHECKERS:
            raise ValueError(f"number must be that of an exercise without a checker, got {number!r}")
        CHECKERS[number] = checker
        return checker

    return register


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a reader's function returns for copies of these arguments, which it may change in place.

    Raises:
        Unanswered: it is missing or returns dots, or there is nothing in it but dots.
        NotYet: it is no function, or returns nothing.
    """
    if function is ...:
        raise Unanswered
    if not callable(function):
        raise NotYet(f"A function is asked for, and this is of type {type(function).__name__}.")
    result = function(*(_copied(argument) for argument in arguments))
    if result is ... or (result is None and _operations(function) == _operations(_dots)):
        raise Unanswered(function)
    if result is None:
        raise NotYet("Your function returns nothing. Is the return at its end missing?")
    return result


def _copied(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.clone()
    return list(argument) if isinstance(argument, list | tuple) else argument


def _dots() -> None: ...


def _operations(function: Callable[..., Any]) -> list[str]:
    return [step.opname for step in dis.get_instructions(function)] if hasattr(function, "__code__") else []


def present(part: Any) -> Any:
    """Return a part of an answer, other than a function, a number or words; raise ``Unanswered`` if it is missing."""
    if part is ...:
        raise Unanswered
    return part


def compare(
    what: str,
    answer: Any,
    right: float | Tensor,
    *,
    tolerance: float = 1e-6,
    mistakes: Mapping[str, float | Tensor] | None = None,
) -> None:
    """Compare numbers with the right ones; return if they agree.

    Args:
        what: names the numbers at the start of a message, "the variance at beta = 0.1".
        answer: the reader's number or tensor; anything ``torch.as_tensor`` takes.
        right: the right value; its shape is asked of the answer.
        tolerance: the largest difference allowed, over the largest absolute value in ``right`` (over 1 if that is 0).
        mistakes: sentences and the values that, if they are the answer, call for them: "This is the standard
            deviation, not the variance." The tolerance is relative to each of these values.

    Raises:
        Unanswered: the answer is dots.
        NotYet: the numbers differ. The message says which known mistake they fit, or how far they are off, and where.
    """
    right = torch.as_tensor(right, dtype=torch.float64).cpu()
    given = _numbers(what, answer, right.shape)
    scale = float(right.abs().max()) or 1.0
    if bool(((given - right).abs() <= tolerance * scale).all()):
        return
    for sentence, value in (mistakes or {}).items():
        mistake = torch.as_tensor(value, dtype=torch.float64).cpu().expand(right.shape)
        if bool(((given - mistake).abs() <= tolerance * (float(mistake.abs().max()) or scale)).all()):
            raise NotYet(sentence)
    raise NotYet(_how_far(what, given, right))


def number(what: str, answer: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a reader's number as a float; raise ``NotYet`` if it is none, or not strictly between low and high."""
    value = float(_numbers(what, answer, torch.Size()))
    if not low < value < high:
        raise NotYet(f"{_capital(what)}: yours is {value:.4g}, and it must lie between {low:g} and {high:g}.")
    return value


def word(answer: Any, *choices: str) -> str:
    """Return the choice that a reader's word is; raise ``NotYet`` if it is none of them, or there are several words."""
    given = words(answer, *choices)
    if len(given) != 1:
        raise NotYet(f"One word is asked for, and these are {len(given)}.")
    return given.pop()


def words(answer: Any, *choices: str) -> set[str]:
    """Return the choices that a reader's words are, one or several, as a set.

    Capitals, and what joins two words, do not matter: "Rotation-invariant" is "rotation invariant".

    Raises:
        Unanswered: the answer is dots.
        NotYet: there are no words, or one of them is none of the choices.
    """
    if answer is ...:
        raise Unanswered
    if not isinstance(answer, Iterable):
        raise NotYet(f"Words are asked for, and this is {answer!r}.")
    known, given = {_plain(choice): choice for choice in choices}, set()
    for one in [answer] if isinstance(answer, str) else answer:
        if one is ...:
            raise Unanswered
        if _plain(one) not in known:
            raise NotYet(f"The words to choose from are {', '.join(choices)}; {one!r} is another.")
        given.add(known[_plain(one)])
    return given


def _plain(text: Any) -> str:
    return " ".join(re.split(r"[\s_-]+", str(text).strip().casefold()))


def _numbers(what: str, answer: Any, shape: torch.Size) -> Tensor:
    if answer is ...:
        raise Unanswered
    try:
        given = torch.as_tensor(answer).detach()
        if given.dtype == torch.bool or given.is_complex():
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"{_capital(what)}: a number is asked for, and this is {answer!r}.") from None
    given = given.to("cpu", torch.float64)
    if given.shape != shape and not (given.numel() == shape.numel() == 1):
        raise NotYet(f"{_capital(what)}: the shape should be {tuple(shape)}, and this has {tuple(given.shape)}.")
    given = given.reshape(shape)
    if not bool(given.isfinite().all()):
        raise NotYet(f"{_capital(what)}: not every number is finite.")
    return given


def _how_far(what: str, given: Tensor, right: Tensor) -> str:
    worst = int((given - right).abs().argmax())
    mine, good = float(given.reshape(-1)[worst]), float(right.reshape(-1)[worst])
    place = f" Entry {_place(worst, right.shape)} is the worst." if right.ndim else ""
    if mine == 0 or good == 0 or (mine < 0) != (good < 0):
        return f"{_capital(what)}: yours is {mine:.4g}, off by {mine - good:.2g}.{place}"
    ratio = mine / good
    size = f"{ratio:.4g} times the right one" if not 0.5 < ratio < 2 else f"{100 * (ratio - 1):+.2g} percent off"
    return f"{_capital(what)}: yours is {mine:.4g}, {size}.{place}"


def _place(index: int, shape: torch.Size) -> str:
    place = [int(i) for i in torch.unravel_index(torch.tensor(index), shape)]
    return str(place[0] if len(place) == 1 else tuple(place))


def _capital(text: str) -> str:
    """``text`` as the start of a sentence, but for a name of code, which keeps its letters."""
    return text if "_" in text.split()[0] else text[:1].upper() + text[1:]
