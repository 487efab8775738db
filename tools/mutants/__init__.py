"""The planted faults of this book: small bugs that the tests must find, one by one.

Each is a ``diffbook.faults.Fault``. ``python -m mutants`` (``make mutants``) plants each of them and runs the unit
tests; ``python -m mutants chapters`` (``make mutants-chapters``) runs the chapters instead. What came out is written to
tests/MUTANTS.md.
"""

from __future__ import annotations

from diffbook.faults import Fault
from mutants import core, doctor, house, laws, models, sampling, trainer

_ROOMS = (core, sampling, laws, models, trainer, doctor, house)


def faults() -> list[Fault]:
    """Return all faults, room by room."""
    return [
        Fault(name, f"{module}.{function}", before, after)
        for room in _ROOMS
        for module, entries in room.FAULTS.items()
        for name, function, before, after in entries
    ]
