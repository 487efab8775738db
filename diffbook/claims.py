"""Claims: what a chapter says and a cell has measured.

A claim is named, measured, bounded, printed on one line, and raises when it does not hold. A chapter makes one
``Claims`` object, calls one of its methods at each claim, and ends by showing the object: the table of its claims.

The line a claim prints starts the same on every machine; only the number behind ``measured`` differs, and the
notebook tests replace it before they compare (``tests/nbval.cfg``).
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

from diffutils.validation import require


class ClaimError(AssertionError):
    """A claim of the book does not hold."""


@dataclass(frozen=True)
class Claim:
    """One claim: its number in the chapter, what it says, what was measured and the bound it must meet."""

    number: str
    text: str
    measured: str
    bound: str

    def __str__(self) -> str:
        return f"claim {self.number} holds: {self.text} | bound {self.bound} | measured {self.measured}"


def _format(value: float) -> str:
    return f"{value:.4g}"


class Claims:
    """The claims of one chapter, numbered in the order they are first made.

    Args:
        chapter: the chapter's number; claim 3 of chapter 4 is called 4.3.
    """

    def __init__(self, chapter: int | str) -> None:
        self.chapter = str(chapter)
        self._claims: dict[str, Claim] = {}

    def at_most(self, text: str, measured: float, bound: float) -> None:
        """Claim that ``measured <= bound``."""
        self._record(text, float(measured), f"<= {bound:g}", float(measured) <= bound)

    def at_least(self, text: str, measured: float, bound: float) -> None:
        """Claim that ``measured >= bound``."""
        self._record(text, float(measured), f">= {bound:g}", float(measured) >= bound)

    def between(self, text: str, measured: float, low: float, high: float) -> None:
        """Claim that ``low <= measured <= high``."""
        require(low <= high, "low", low, f"at most high = {high:g}")
        self._record(text, float(measured), f"{low:g} to {high:g}", low <= float(measured) <= high)

    def equal(self, text: str, measured: int | str | bool, expected: int | str | bool) -> None:
        """Claim that a count, a name or a truth value is exactly ``expected``; floats go to ``at_most``."""
        require(not isinstance(measured, float), "measured", measured, "an exact value (use at_most for a float)")
        self._store(Claim(self._number(text), text, str(measured), f"= {expected}"), measured == expected)

    def _record(self, text: str, measured: float, bound: str, holds: bool) -> None:
        claim = Claim(self._number(text), text, _format(measured), bound)
        self._store(claim, holds and math.isfinite(measured))

    def _number(self, text: str) -> str:
        known = self._claims.get(text)
        return known.number if known else f"{self.chapter}.{len(self._claims) + 1}"

    def _store(self, claim: Claim, holds: bool) -> None:
        if not holds:
            raise ClaimError(
                f"claim {claim.number} FAILS: {claim.text} | bound {claim.bound} | measured {claim.measured}"
            )
        self._claims[claim.text] = claim
        print(claim)

    def __len__(self) -> int:
        return len(self._claims)

    def __iter__(self):
        return iter(self._claims.values())

    def __repr__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{c.number}</td><td>{html.escape(c.text)}</td>"
            f"<td>{html.escape(c.measured)}</td><td>{html.escape(c.bound)}</td></tr>"
            for c in self
        )
        head = "<tr><th>claim</th><th>what was checked</th><th>measured</th><th>bound</th></tr>"
        return f'<table class="claims"><thead>{head}</thead><tbody>{rows}</tbody></table>'
