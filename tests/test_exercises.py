"""The checkers of the exercises accept right answers and say of wrong ones what is wrong."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from exercises import Answers

from diffbook.exercises import NotYet, Unanswered, call, check, compare, number, word, words
from diffbook.exercises.answers import exercise

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
MODULES = sorted(path.stem for path in (Path(__file__).parent / "exercises").glob("chapter_*.py"))
ANSWERS: dict[str, Answers] = {
    name: answers for module in MODULES for name, answers in import_module(f"exercises.{module}").ANSWERS.items()
}


def said(capsys) -> str:
    return capsys.readouterr().out


def test_every_exercise_of_the_book_has_answers_to_try():
    numbers = [n for path in CHAPTERS.glob("[0-9]*.md") for n in re.findall(r"\*\*Exercise ([\d.]+)\.\*\*", path.read_text())]
    assert sorted(ANSWERS) == sorted(numbers)
    assert all(answers.right and len(answers.wrong) >= 2 for answers in ANSWERS.values())


RIGHT = {f"{name}-{i}": (name, one) for name, answers in ANSWERS.items() for i, one in enumerate(answers.right)}
WRONG = {f"{name}-{text}": (name, text, one) for name, answers in ANSWERS.items() for text, one in answers.wrong.items()}


@pytest.mark.parametrize("name, answer", RIGHT.values(), ids=RIGHT.keys())
def test_right_answers_are_accepted(name, answer, capsys):
    assert check(name, *answer)
    assert re.fullmatch(rf"Exercise {re.escape(name)}: right\. [A-Z].+\.\n", said(capsys))


@pytest.mark.parametrize("name, message, answer", WRONG.values(), ids=WRONG.keys())
def test_wrong_answers_are_told_what_is_wrong(name, message, answer, capsys):
    assert not check(name, *answer)
    text = said(capsys)
    assert re.fullmatch(rf"Exercise {re.escape(name)}: not yet\. ([A-Z0-9]|beta_end).+[.?]\n", text)
    assert re.search(message, text)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_start_of_an_exercise_asks_for_an_answer(name, capsys):
    assert not check(name, ...)
    assert said(capsys) == f"Exercise {name}: no answer yet. Put yours where the dots are and run the cell again.\n"


@pytest.mark.parametrize("name", ["15.1", "2.99", "2", 2.1, "x.1", "../chapter_02.1"])
def test_an_exercise_that_does_not_exist_is_refused(name):
    with pytest.raises(ValueError, match="number must be that of an exercise"):
        check(name, 1)


def test_a_notebook_shows_what_was_said_once(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_cell("from diffbook.exercises import check\ncheck('2.1', ...)")
    assert said(capsys).count("\n") == 1


def test_two_checkers_for_one_exercise_are_refused():
    check("2.1", ...)
    with pytest.raises(ValueError, match="without a checker, got '2.1'"):
        exercise("2.1")(lambda answer: "")


def test_an_error_in_the_readers_own_function_keeps_its_traceback():
    def broken(beta):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        check("2.1", broken)


PARTS = {
    f"{name}-{part + 1}": (name, part, answers.right[0])
    for name, answers in ANSWERS.items()
    for part in range(1, len(answers.right[0]))
}


@pytest.mark.parametrize("name", ["1.1", "2.2", "3.1"])
def test_a_function_full_of_dots_is_missing_wherever_it_stands(name, capsys):
    right = ANSWERS[name].right[0]
    place = next(i for i, part in enumerate(right) if callable(part))
    untouched = [(lambda *_: ...) if callable(part) else ... for part in right]
    check(name, *untouched)
    assert said(capsys).startswith(f"Exercise {name}: no answer yet")
    check(name, *right[:place], untouched[place], *right[place + 1 :])
    expected = "no answer yet" if place == 0 else f"nothing wrong so far. Part {place + 1}, "
    assert said(capsys).startswith(f"Exercise {name}: {expected}")


@pytest.mark.parametrize("rest", [True, False], ids=["and what follows", "alone"])
@pytest.mark.parametrize("name, part, answer", PARTS.values(), ids=PARTS.keys())
def test_what_stands_before_a_missing_part_is_looked_at(name, part, answer, rest, capsys):
    check(name, *answer[:part], ..., *((...,) * len(answer[part + 1 :]) if rest else answer[part + 1 :]))
    assert said(capsys).startswith(f"Exercise {name}: nothing wrong so far. Part {part + 1}, ")


def test_a_wrong_part_is_found_before_a_missing_one(capsys):
    check("4.2", lambda a, b, v, bar: (a, v), ..., ...)
    assert "leaves out the x_0" in said(capsys)


@pytest.mark.parametrize("answer", [(1.0,), (1.0, 2.0, 3.0, 4.0)])
def test_an_answer_has_the_parts_that_the_exercise_asks_for(answer, capsys):
    assert not check("1.1", *answer)
    assert f"3 parts (slope_of_first_form, slope_of_non_saturating, times), and this has {len(answer)}." in said(capsys)


def empty(x):
    """Say what it should do."""
    ...


def forgotten(x):
    x + 1


def test_dots_are_no_answer_and_a_missing_return_is_a_mistake():
    for dots in (..., empty, lambda x: ...):
        with pytest.raises(Unanswered):
            call(dots, 1)
    with pytest.raises(NotYet, match="Is the return at its end missing?"):
        call(forgotten, 1)
    with pytest.raises(Unanswered):
        compare("it", ..., 1.0)


@pytest.mark.parametrize("given", ["Rotation-invariant", " rotation_invariant", ["ROTATION INVARIANT"], ("rotation  invariant",)])
def test_a_word_may_be_written_in_several_ways(given):
    assert word(given, "rotation invariant", "standard") == "rotation invariant"
    assert words(given, "rotation invariant", "standard") == {"rotation invariant"}


def test_words_that_are_no_choice_are_refused():
    with pytest.raises(NotYet, match="are rotation invariant, standard; 'invariant' is another"):
        words({"invariant"}, "rotation invariant", "standard")
    with pytest.raises(NotYet, match="Words are asked for, and this is 3"):
        word(3, "rotation invariant", "standard")
    with pytest.raises(NotYet, match="One word is asked for, and these are 2"):
        word(["standard", "rotation invariant"], "rotation invariant", "standard")
    with pytest.raises(Unanswered):
        word(..., "rotation invariant", "standard")


def test_a_name_of_code_keeps_its_letters():
    with pytest.raises(NotYet, match="^beta_end: yours is 2"):
        compare("beta_end", 2, 1)


@pytest.mark.parametrize(
    "answer, right, message",
    [
        ("one", 1.0, "It: a number is asked for, and this is 'one'"),
        (None, 1.0, "It: a number is asked for, and this is None"),
        (True, 1.0, "It: a number is asked for, and this is True"),
        (1 + 0j, 1.0, "It: a number is asked for, and this is"),
        ([1.0, 2.0], 1.0, r"It: the shape should be \(\), and this has \(2,\)"),
        (float("nan"), 1.0, "It: not every number is finite"),
        (2.0, 1.0, "It: yours is 2, 2 times the right one"),
        (1.1, 1.0, r"It: yours is 1.1, \+10 percent off"),
        (0.9, 1.0, r"It: yours is 0.9, -10 percent off"),
        (-1.0, 1.0, "It: yours is -1, off by -2"),
        (0.0, 1.0, "It: yours is 0, off by -1"),
        ([[1.0, 2.0], [3.0, 5.0]], torch.tensor([[1.0, 2.0], [3.0, 4.0]]), r"Entry \(1, 1\) is the worst"),
        ([1.0, 1.0], torch.tensor([1.0, 2.0]), "Entry 1 is the worst"),
        (3.0, 1.0, "three"),
    ],
)
def test_a_comparison_says_how_far_off_a_number_is(answer, right, message):
    with pytest.raises(NotYet, match=message):
        compare("it", answer, right, mistakes={"This is three.": 3.0})


@pytest.mark.parametrize("answer, right", [(1, 1.0), ([1.0], 1.0), (1 + 1e-7, 1.0), ([0.0, 1e3], torch.tensor([1e-4, 1e3]))])
def test_a_comparison_allows_what_rounding_does(answer, right):
    compare("it", answer, right)


def test_a_mistake_is_recognised_on_its_own_scale():
    for answer, message in ((1.005e-3, "This is small."), (2e-3, "times the right one"), (0.0, "off by")):
        with pytest.raises(NotYet, match=message):
            compare("it", answer, 1e3, tolerance=0.01, mistakes={"This is small.": 1e-3})


@pytest.mark.parametrize("answer", [0.0, 1.0, 2.0])
def test_a_number_outside_its_range_is_told_the_range(answer):
    with pytest.raises(NotYet, match=r"It: yours is .*, and it must lie between 0 and 1\."):
        number("it", answer, 0, 1)


def test_a_number_is_returned_as_a_float():
    assert number("it", torch.tensor([0.5]), 0, 1) == 0.5
