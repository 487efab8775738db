"""Faults made by rule: the operators of cosmic-ray, applied at every place in the modules that everything rests on.

``python -m mutants operators [MODULE ...]`` (``make mutants-operators``). Cosmic-ray itself starts one process for each
edit, which here would take hours. So only its operators are used: each edit of a function's body becomes a ``Fault``
and is planted as those of the list are. Of many operators that replace one sign by each of the others a few stand for
all; edits outside of functions' bodies are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

from diffbook.faults import Fault, _body, _layers

MODULES = (
    "schedule",
    "schedule_kinds",
    "schedule_inputs",
    "process",
    "oracle",
    "samplers.base",
    "samplers.ancestral",
    "samplers.ddim",
    "samplers.ode",
    "samplers.dpm_solver",
    "samplers.corrector",
    "samplers.langevin",
    "samplers.denoiser",
)
OPERATORS = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq", "NotEq_Eq")),
    *(f"ReplaceUnaryOperator_{pair}" for pair in ("Delete_USub", "Delete_Not")),
    "AddNot",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceFalseWithTrue",
    "ReplaceTrueWithFalse",
    "ZeroIterationForLoop",
)


def faults(modules: list[str]) -> list[Fault]:
    """Return a fault for each edit that the operators make in these modules."""
    return [fault for module in modules for fault in _of_module(import_module(f"diffutils.{module}"))]


def _of_module(module: ModuleType) -> Iterator[Fault]:
    text = Path(module.__file__).read_text(encoding="utf-8")
    spans = [(target, *_body(_layers(target)[-1], text, target)) for target in _targets(module)]
    seen = set()
    for operator, edited in _edits(text):
        at = next(i for i, (old, new) in enumerate(zip(text, edited)) if old != new)
        span = next((span for span in spans if span[1] <= at < span[2]), None)
        if span is None or edited in seen:
            continue
        seen.add(edited)
        target, start, stop = span
        line = text.count("\n", 0, at)
        name = f"{operator}: {text.splitlines()[line].strip()} -> {edited.splitlines()[line].strip()}"
        yield Fault(name, target, text[start:stop], edited[start : stop + len(edited) - len(text)])


def _targets(module: ModuleType) -> Iterator[str]:
    """The full names of the functions that the module defines."""
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) == module.__name__:
            names = [f"{name}.{inner}" for inner in vars(value)] if isinstance(value, type) else [name]
            yield from (target for name in names if _is_function(module, target := f"{module.__name__}.{name}"))


def _is_function(module: ModuleType, target: str) -> bool:
    try:
        innermost = _layers(target)[-1]
    except ValueError:
        return False
    # Not what a dataclass or a named tuple writes for itself.
    return innermost.__code__.co_filename == module.__file__


def _edits(text: str) -> Iterator[tuple[str, str]]:
    """Each edit: the operator's name and the edited text."""
    provider = OperatorProvider()
    for name in OPERATORS:
        for occurrence in itertools.count():
            edit = _Edit(provider[name](), occurrence)
            edited = edit.walk(get_ast(text))
            if not edit.done:
                break
            yield name, edited.get_code()


class _Edit(Visitor):
    """Applies an operator at one of the places where it can be applied, counted from 0."""

    def __init__(self, operator: Operator, occurrence: int) -> None:
        self.operator, self.left, self.done = operator, occurrence, False

    def visit(self, node):
        """Return the node, edited if it is its turn."""
        places = len(list(self.operator.mutation_positions(node)))
        if not self.done and self.left < places:
            self.done = True
            return self.operator.mutate(node, self.left)
        self.left -= places
        return node
