"""Exercises that answer back: ``check("2.1", answer)`` looks at an answer and says what is wrong with it.

A chapter's exercise has a start with dots to fill in, a hint, and a solution, and the first and the last end with the
same call of ``check``. It prints one of three things: that the dots are still there, what is wrong, or that the answer
is right. A chapter's checkers stand in a module of its own, such as ``diffbook.exercises.chapter_02``.
"""

from diffbook.exercises.answers import NotYet, Unanswered, call, compare, exercise, number, present, word, words
from diffbook.exercises.checking import check

__all__ = ["NotYet", "Unanswered", "call", "check", "compare", "exercise", "number", "present", "word", "words"]
