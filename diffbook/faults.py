"""Faults: switch a bug on, look at what it does, switch it off again.

A ``Fault`` is one small edit to one function: the text ``before`` becomes the text ``after``. Nothing on disk changes.
While the fault is planted, the function runs the edited code wherever it is called from:

    fault = Fault("noise too strong", "diffutils.process.diffuse", "spread * noise", "spread.sqrt() * noise")
    print(fault.diff())
    with fault.planted():
        ...                    # everyone who calls diffuse meets the bug here
    ...                        # and nobody does here, even if an error ended the block

The source file is compiled once more with the edit in it, and the code of that one function takes the place of the old
(``function.__code__``). The function object stays the same, so modules that imported it long ago run the bug too, with
the same defaults and globals. What was computed before the bug came stays as it is: a ``Schedule`` made outside the
block keeps its tables. What is not in a function's body cannot be planted: a module's constants, a default of an
argument, the fields of a class.

Home chapter: the bug museum (12).
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from diffutils.validation import require

# For each function with a bug in it, its file's text as edited: a second fault edits what the first has left.
_planted: dict[FunctionType, str] = {}


@dataclass(frozen=True)
class Fault:
    """One small bug: an edit to the body of one function.

    Args:
        name: what is wrong, in a few words.
        target: the function's full name, "diffutils.process.diffuse" or "diffutils.schedule.Schedule.respaced". It may
            be a function, a method, a class method, a static method or a property, and may be decorated. A function
            inside a function belongs to the outer one.
        before: source text in that function's body (the docstring left out), as in the file, found there exactly once.
        after: what stands there instead; it may be empty.

    Raises:
        ValueError: if a text is empty or ``after`` is ``before``. From ``diff`` and ``planted``: if there is no such
            function, ``before`` is not found exactly once, or what results does not compile, runs as before, or needs
            a variable of an enclosing function that the old code did not use.
    """

    name: str
    target: str
    before: str
    after: str

    def __post_init__(self) -> None:
        for argument in ("name", "target", "before"):
            value = getattr(self, argument)
            require(isinstance(value, str) and value.strip() != "", argument, value, "a text that is not empty")
        require(isinstance(self.after, str) and self.after != self.before, "after", self.after, "other than `before`")

    def diff(self, context: int = 2) -> str:
        """Return the edit as a unified diff with ``context`` lines around it; paths start at the package."""
        function = _layers(self.target)[-1]
        text = _source(function)
        parents = function.__module__.count(".") + (Path(_file(function)).name == "__init__.py")
        path = Path(*Path(_file(function)).parts[-parents - 1 :]).as_posix()
        old, new = text.splitlines(), self._edit(function, text).splitlines()
        return "\n".join(difflib.unified_diff(old, new, path, path, lineterm="", n=context))

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """Run the edited code inside the ``with`` block; whatever happens there, the old code is back after it.

        Faults may be planted inside one another, in one function too. What a decorator such as ``lru_cache`` remembers
        of the function itself is forgotten on the way in and on the way out.
        """
        layers = _layers(self.target)
        function, old_code = layers[-1], layers[-1].__code__
        old_text = _planted.get(function)
        text = self._edit(function, _source(function) if old_text is None else old_text)
        code = self._compiled(old_code, text)
        try:
            _planted[function], function.__code__ = text, code
            _forget(layers)
            yield
        finally:
            function.__code__ = old_code
            _planted.pop(function)
            if old_text is not None:
                _planted[function] = old_text
            _forget(layers)

    def _edit(self, function: FunctionType, text: str) -> str:
        start, end = _body(function, text, self.target)
        count = text.count(self.before, start, end)
        require(count == 1, "before", self.before, f"text found once in the body of {self.target}, not {count} times")
        at = text.index(self.before, start, end)
        return text[:at] + self.after + text[at + len(self.before) :]

    def _compiled(self, old: CodeType, text: str) -> CodeType:
        try:
            code = _code_in(text, old)
        except SyntaxError as error:
            raise ValueError(f"after must be code that compiles there, got {self.after!r} ({error})") from error
        require(code is not None, "after", self.after, f"code that leaves {self.target} where it is")
        names = f"code that uses the variables {old.co_freevars} of enclosing functions, not {code.co_freevars}"
        require(code.co_freevars == old.co_freevars, "after", self.after, names)
        require(not _same(code, old), "after", self.after, f"code that runs differently from {self.before!r}")
        return code


def _layers(target: str) -> list[Any]:
    """Return what the name stands for and, one by one, what its decorators wrap; the last is the plain function."""
    place, names = _import(target)
    for name in names:
        known = vars(place) if isinstance(place, (type, ModuleType)) else {}
        near = ", ".join(difflib.get_close_matches(name, known)) or "nothing of a similar name"
        require(name in known, "target", target, f"a function's full name; {place.__name__} holds {near}")
        place = known[name]
    layers = [place]
    while not isinstance(place, type) and (inner := _inside(place)) is not None:
        place = inner
        layers.append(place)
    require(isinstance(place, FunctionType), "target", target, "a function written in Python")
    return layers


def _import(target: str) -> tuple[Any, list[str]]:
    parts = target.split(".")
    module, rest = None, parts
    for count in range(1, len(parts)):
        name = ".".join(parts[:count])
        try:
            module, rest = importlib.import_module(name), parts[count:]
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            break
    require(module is not None, "target", target, "a function's full name, its module's first")
    return module, rest


def _inside(layer: Any) -> Any:
    """Return what functools.wraps, a class method, a static method, a property or a cached property holds."""
    return next((inner for name in ("__wrapped__", "fget", "func") if (inner := getattr(layer, name, None))), None)


def _forget(layers: list[Any]) -> None:
    for layer in layers:
        if hasattr(layer, "cache_clear"):
            layer.cache_clear()


def _file(function: FunctionType) -> str:
    return function.__code__.co_filename


def _source(function: FunctionType) -> str:
    """Return the text of the function's file; refuse one that has changed since it was imported."""
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        text = Path(_file(function)).read_text(encoding="utf-8")
    except OSError:
        raise ValueError(f"target must be a function in a file, got {name}") from None
    if function not in _planted:
        code = _code_in(text, function.__code__)
        unchanged = code is not None and _same(code, function.__code__)
        require(unchanged, "target", name, "a function whose file has not changed since it was imported")
    return text


def _body(function: FunctionType, text: str, target: str) -> tuple[int, int]:
    """Return where in the text the function's body begins, after its docstring, and where it ends."""
    code = function.__code__
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            if min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) == code.co_firstlineno:
                documented = ast.get_docstring(node) is not None
                first = node.body[0].end_lineno + 1 if documented else node.body[0].lineno
                lines = text.splitlines(keepends=True)
                return sum(map(len, lines[: first - 1])), sum(map(len, lines[: node.end_lineno]))
    raise ValueError(f"target must be a function made by `def`, got {target}")


def _code_in(text: str, like: CodeType) -> CodeType | None:
    """Compile a whole file, so that closures come out as they were, and return the code in the place of ``like``."""
    todo = [compile(text, like.co_filename, "exec", dont_inherit=True)]
    while todo:
        code = todo.pop()
        if (code.co_qualname, code.co_firstlineno) == (like.co_qualname, like.co_firstlineno):
            return code
        todo.extend(const for const in code.co_consts if isinstance(const, CodeType))
    return None


def _same(one: Any, other: Any) -> bool:
    """Return whether two codes, or constants of a code, run alike, whatever their line numbers are."""
    if not (isinstance(one, CodeType) and isinstance(other, CodeType)):
        # 1, 1.0 and True are equal, and so are 0.0 and -0.0; a set has no order.
        alike = one == other if isinstance(one, frozenset) else repr(one) == repr(other)
        return type(one) is type(other) and alike
    names = ("co_code", "co_names", "co_varnames", "co_freevars")
    same = all(getattr(one, name) == getattr(other, name) for name in names)
    return same and len(one.co_consts) == len(other.co_consts) and all(map(_same, one.co_consts, other.co_consts))
