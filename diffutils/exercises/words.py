"""Answers in words, out of some that the exercise names."""

from __future__ import annotations

from collections.abc import Iterable

from diffutils.exercises.answers import NotYet


def words(given: str | Iterable[str], known: Iterable[str]) -> set[str]:
    """Return the words of an answer as a set; raise ``NotYet`` if there is one that the exercise does not name.

    Args:
        given: one word, or several.
        known: the words to choose from.
    """
    if not isinstance(given, Iterable):
        raise NotYet(f"Words are asked for, and this is {given!r}.")
    chosen, allowed = {given} if isinstance(given, str) else set(given), list(known)
    for word in sorted(map(str, chosen - set(allowed))):
        raise NotYet(f"The words to choose from are {', '.join(map(repr, allowed))}; {word!r} is another.")
    return chosen
