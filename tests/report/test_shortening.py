"""Long names in what people read."""

from dataclasses import replace

import pytest

from gradcli.comparison import KinkAt, Worst
from gradcli.report import shown
from gradcli.report.formats import Dress
from gradcli.report.shortening import LONG
from tests.report import examples

NAME = "encoder/" + "block/" * 50 + "attention"
PATH = f"models/{'deep/' * 30}network.onnx"
SPACED = "a name with spaces " * 16 + "and an end"


def named(name):
    c = examples.smooth()
    worst = Worst(name, (0, 3), -1.2345678901234567e-300, 1.0, name)
    kink = KinkAt(name, "Relu", (), 1e-9, False, "0 at 0")
    return replace(
        c,
        subject=replace(c.subject, wrt={name: (1, 2)}, path=PATH),
        methods=tuple(replace(j, worst=worst) for j in c.methods),
        kinks=(kink,),
        notes=(f"it ends at node {name!r} (Floor)",),
    )


@pytest.mark.parametrize("form", ["table", "markdown"])
@pytest.mark.parametrize("name", [NAME, SPACED])
def test_the_middle_of_a_long_name_is_left_out_and_no_number_is(form, name):
    long = shown(named(name), form, Dress(width=2000, detail="verbose"))
    short = shown(named(name), form, Dress(width=2000))
    assert name in long
    assert name not in short
    assert f"{name[: LONG // 2]}…" in short
    assert PATH in short


def test_a_path_of_a_model_and_short_names_stay_whole():
    text = shown(named("n" * LONG), "table", Dress(width=2000))
    assert "n" * LONG in text


def test_names_that_would_look_the_same_stay_whole():
    head, tail = LONG // 2, LONG - LONG // 2 - 1
    twins = f"{'a' * head}{'x' * 40}{'b' * tail}", f"{'a' * head}{'y' * 40}{'b' * tail}"
    c = examples.smooth()
    both = replace(c, notes=twins)
    text = shown(both, "table", Dress(width=2000))
    assert [name for name in twins if name not in text] == []
    assert "…" in shown(replace(c, notes=twins[:1]), "table", Dress(width=2000))
