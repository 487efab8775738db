"""A claim prints one line when it holds and stops the chapter when it does not."""

import math

import pytest
import torch

from diffbook.claims import ClaimError, Claims


@pytest.fixture
def claims():
    return Claims(4)


def test_a_claim_that_holds_prints_one_line(claims, capsys):
    claims.at_most("the error is small", torch.tensor(0.01234567), 0.05)
    assert capsys.readouterr().out == "claim 4.1 holds: the error is small | bound <= 0.05 | measured 0.01235\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda c: c.at_most("too large", 0.2, 0.1),
        lambda c: c.at_least("too small", 0.1, 0.2),
        lambda c: c.between("outside", 3.0, 1.0, 2.0),
        lambda c: c.between("outside below", 0.5, 1.0, 2.0),
        lambda c: c.equal("another count", 24, 25),
        lambda c: c.at_most("not a number", math.nan, 1.0),
        lambda c: c.at_least("infinite", math.inf, 1.0),
    ],
)
def test_a_claim_that_does_not_hold_raises_and_is_not_recorded(claims, make, capsys):
    with pytest.raises(ClaimError, match=r"claim 4\.1 FAILS"):
        make(claims)
    assert len(claims) == 0
    assert capsys.readouterr().out == ""


def test_bounds_are_met_at_equality(claims):
    claims.at_most("at most", 1.0, 1.0)
    claims.at_least("at least", 1.0, 1.0)
    claims.between("between", 1.0, 1.0, 1.0)
    claims.equal("equal", 25, 25)
    assert len(claims) == 4


def test_a_cell_run_twice_keeps_the_claims_number(claims):
    for measured in (0.3, 0.4):
        claims.at_most("first", measured, 1.0)
        claims.at_most("second", measured, 1.0)
    assert [claim.number for claim in claims] == ["4.1", "4.2"]
    assert [claim.measured for claim in claims] == ["0.4", "0.4"]


def test_the_table_holds_every_claim_and_escapes_its_text(claims):
    claims.at_most("KL(p || q) < bound", 0.01, 0.02)
    claims.equal("modes found", 25, 25)
    table = claims._repr_html_()
    assert "KL(p || q) &lt; bound" in table
    assert table.count("<tr>") == 3
    assert repr(claims).count("\n") == 1


def test_equal_refuses_a_float(claims):
    with pytest.raises(ValueError, match="measured must be an exact value"):
        claims.equal("a float", 1.0, 1)


def test_between_refuses_bounds_in_the_wrong_order(claims):
    with pytest.raises(ValueError, match="low must be at most high"):
        claims.between("swapped", 1.0, 2.0, 1.0)
