"""Faults are planted where they are said to be, met by every caller, and gone afterwards."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap

import pytest
import torch

from diffbook.faults import Fault
from diffutils import process
from diffutils.process import diffuse
from diffutils.schedule import Schedule

PACKAGE = '''
    import contextlib
    import functools

    import torch

    SCALE = 10


    def plain(a, b=2, *, c=3):
        """Return a + b + c."""
        return SCALE * (a + b + c)


    def outer(a):
        offset = 1

        def inner(b):
            return a + b + offset

        return inner(5)


    @functools.lru_cache(maxsize=None)
    def cached(a):
        return a + 1


    @torch.no_grad()
    def without_gradients(x):
        return 2 * x


    @contextlib.contextmanager
    def block():
        yield 1


    def maker(k):
        def made(a):
            return a + k

        return made


    made = maker(7)
    shout = lambda a: a + 1


    class Base:
        def method(self, a):
            return a + 1


    class Child(Base):
        def __init__(self, start):
            self.start = start

        def method(self, a):
            return super().method(a) + self.start

        @classmethod
        def build(cls, start):
            return cls(start + 1)

        @staticmethod
        def double(a):
            return 2 * a

        @property
        def half(self):
            return self.start / 2

        @functools.cached_property
        def third(self):
            return self.start / 3

        @classmethod
        @torch.no_grad()
        def noisy(cls, x):
            return 3 * x
'''


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A small package with one function of every kind."""
    folder = tmp_path / "faulty_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("def top(a):\n    return a + 1\n", encoding="utf-8")
    (folder / "part.py").write_text(textwrap.dedent(PACKAGE), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("faulty_package.part")
    for name in [name for name in sys.modules if name.startswith("faulty_package")]:
        del sys.modules[name]


def fault(target: str, before: str, after: str) -> Fault:
    return Fault("a bug", f"faulty_package.part.{target}", before, after)


KINDS = [
    ("plain", "a + b + c", "a - b + c", lambda m: m.plain(1, c=4), 70, 30),
    ("outer", "a + b + offset", "a + b - offset", lambda m: m.outer(1), 7, 5),
    ("cached", "a + 1", "a + 2", lambda m: m.cached(1), 2, 3),
    ("without_gradients", "2 * x", "4 * x", lambda m: m.without_gradients(1), 2, 4),
    ("block", "yield 1", "yield 2", lambda m: m.block().__enter__(), 1, 2),
    ("made", "a + k", "a - k", lambda m: m.made(1), 8, -6),
    ("Base.method", "a + 1", "a + 2", lambda m: m.Child(3).method(1), 5, 6),
    ("Child.method", "+ self.start", "- self.start", lambda m: m.Child(3).method(1), 5, -1),
    ("Child.__init__", "= start", "= -start", lambda m: m.Child(3).method(1), 5, -1),
    ("Child.build", "start + 1", "start - 1", lambda m: m.Child.build(3).start, 4, 2),
    ("Child.double", "2 * a", "3 * a", lambda m: m.Child.double(1), 2, 3),
    ("Child.half", "/ 2", "* 2", lambda m: m.Child(3).half, 1.5, 6),
    ("Child.third", "/ 3", "* 3", lambda m: m.Child(3).third, 1, 9),
    ("Child.noisy", "3 * x", "5 * x", lambda m: m.Child.noisy(1), 3, 5),
]


@pytest.mark.parametrize("target, before, after, call, sound, wrong", KINDS, ids=[kind[0] for kind in KINDS])
def test_planted_inside_the_block_only(faulty, target, before, after, call, sound, wrong):
    assert call(faulty) == sound
    with fault(target, before, after).planted():
        assert call(faulty) == wrong
    assert call(faulty) == sound


def test_a_function_of_the_package_itself(faulty):
    import faulty_package

    with Fault("a bug", "faulty_package.top", "a + 1", "a").planted():
        assert faulty_package.top(1) == 1
    assert Fault("a bug", "faulty_package.top", "a + 1", "a").diff().startswith("--- faulty_package/__init__.py\n")


def test_everyone_who_imported_the_function_meets_the_bug():
    schedule, noise = Schedule.linear(50), torch.ones(1, 2)
    sound = diffuse(schedule, torch.zeros(1, 2), 7, noise=noise)
    with Fault("no root", "diffutils.process.diffuse", "signal, x0, spread,", "signal, x0, spread.square(),").planted():
        assert torch.equal(diffuse(schedule, torch.zeros(1, 2), 7, noise=noise), sound.square())
        assert process.diffuse is diffuse
    assert torch.equal(diffuse(schedule, torch.zeros(1, 2), 7, noise=noise), sound)


def test_the_right_code_is_back_after_an_error(faulty):
    code = faulty.plain.__code__
    with pytest.raises(ZeroDivisionError):
        with fault("plain", "a + b + c", "1 / 0").planted():
            faulty.plain(1)
    assert faulty.plain.__code__ is code and faulty.plain(1) == 60


def test_two_faults_in_one_function_and_in_two(faulty):
    first, second = fault("plain", "a + b", "a - b"), fault("plain", "- b + c", "- b - c")
    other = fault("Child.double", "2 * a", "3 * a")
    with first.planted():
        with other.planted(), second.planted():
            assert (faulty.plain(1), faulty.Child.double(1)) == (-40, 3)
        assert (faulty.plain(1), faulty.Child.double(1)) == (20, 2)
        with second.planted():
            assert faulty.plain(1) == -40
    assert faulty.plain(1) == 60
    with pytest.raises(ValueError, match="not 0 times"):
        second.diff()


def test_the_same_fault_can_be_planted_again_but_not_twice_at_once(faulty):
    once = fault("plain", "a + b", "a - b")
    for _ in range(2):
        with once.planted():
            assert faulty.plain(1) == 20
            with pytest.raises(ValueError, match="not 0 times"):
                with once.planted():
                    pass
            assert faulty.plain(1) == 20
    assert faulty.plain(1) == 60


def test_the_diff(faulty):
    one = fault("plain", "a + b", "a - b")
    expected = [
        "--- faulty_package/part.py",
        "+++ faulty_package/part.py",
        "@@ -10,5 +10,5 @@",
        " def plain(a, b=2, *, c=3):",
        '     """Return a + b + c."""',
        "-    return SCALE * (a + b + c)",
        "+    return SCALE * (a - b + c)",
        " ",
        " ",
    ]
    assert one.diff().splitlines() == expected
    with one.planted():
        assert one.diff().splitlines() == expected
    assert len(one.diff(context=0).splitlines()) == 5


def test_a_diff_reaches_into_folders():
    inside = Fault("a bug", "diffutils.objectives.simple.l_simple", "a * x0 + s * eps", "a * x0 - s * eps")
    assert inside.diff().startswith("--- diffutils/objectives/simple.py\n+++ diffutils/objectives/simple.py\n@@ -")


@pytest.mark.parametrize(
    "target, before, after, message",
    [
        ("plane", "a", "b", "target must be .* holds plain, got 'faulty_package.part.plane'"),
        ("Child.methods", "a", "b", "Child holds method"),
        ("plain.inner", "a", "b", "plain holds nothing of a similar name"),
        ("SCALE", "10", "11", "target must be a function written in Python"),
        ("Child", "start", "stop", "target must be a function written in Python"),
        ("shout", "a + 1", "a + 2", "target must be a function made by `def`"),
        ("plain", "a * b", "a", "before must be text found once .* not 0 times, got 'a \\* b'"),
        ("outer", "offset", "0", "before must be text found once .* not 2 times, got 'offset'"),
        ("plain", "b=2", "b=3", "not 0 times"),
        ("plain", "Return", "Give", "not 0 times"),
        ("plain", "a + b", "a + (", "after must be code that compiles"),
        ("plain", "a + b", "(a + b)", "after must be code that runs differently"),
        ("Child.method", "super().method(a)", "a", "after must be code that uses the variables"),
    ],
)
def test_what_cannot_be_planted_is_refused(faulty, target, before, after, message):
    with pytest.raises(ValueError, match=message):
        one = fault(target, before, after)
        one.diff()
        with one.planted():
            pass


def test_texts_that_make_no_fault_are_refused():
    for texts in (("", "a.b", "x", "y"), ("n", " ", "x", "y"), ("n", "a.b", "", "y"), ("n", "a.b", "x", "x")):
        with pytest.raises(ValueError, match="must be"):
            Fault(*texts)
    with pytest.raises(ValueError, match="its module's first"):
        Fault("n", "no_such_package.f", "x", "y").diff()
    with pytest.raises(ValueError, match="written in Python"):
        Fault("n", "torch.randn", "x", "y").diff()


def test_a_file_that_has_changed_is_refused(faulty):
    with open(faulty.__file__, "a", encoding="utf-8") as file:
        file.write("\n\nx = 1\n")
    with fault("plain", "a + b", "a - b").planted():
        assert faulty.plain(1) == 20
    text = open(faulty.__file__, encoding="utf-8").read()
    with open(faulty.__file__, "w", encoding="utf-8") as file:
        file.write(text.replace("a + b + c)", "a + b * c)"))
    with pytest.raises(ValueError, match="has not changed since it was imported"):
        fault("plain", "a + b", "a - b").diff()


def test_a_function_whose_source_is_gone_is_refused(faulty):
    text = open(faulty.__file__, encoding="utf-8").read()
    with open(faulty.__file__, "w", encoding="utf-8") as file:
        file.write(text.replace("def plain(", "def renamed("))
    with pytest.raises(ValueError, match="has not changed since it was imported"):
        fault("plain", "a + b", "a - b").diff()
    os.remove(faulty.__file__)
    with pytest.raises(ValueError, match="target must be a function in a file, got faulty_package.part.plain"):
        fault("plain", "a + b", "a - b").diff()


def test_a_module_that_cannot_be_imported_says_why(faulty, tmp_path):
    (tmp_path / "faulty_package" / "broken.py").write_text("import no_such_library\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        Fault("a bug", "faulty_package.broken.f", "a", "b").diff()
