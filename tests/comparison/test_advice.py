"""What a reader is advised to use."""

from __future__ import annotations

from gradcli.comparison import Cause, Judgement, Verdict
from gradcli.comparison.advice import advise
from gradcli.engines.base import Times


def row(method, digits, median, *, verdict=Verdict.AGREE, **more):
    run = Times((median,))
    return Judgement(
        method, "computed", dtype=more.pop("dtype", "float32"), verdict=verdict, run=run,
        correct_digits=digits, prepare=0.0, **more,
    )  # fmt: skip


def texts(*methods):
    return [advice.text for advice in advise(methods)]


def test_a_sample_is_not_advised_and_its_digits_are_told():
    cheap, accurate = texts(
        row("reverse", 6.0, 1e-3), row("finite", 9.0, 1e-5, sampled=True, dtype="float64")
    )
    assert cheap.startswith("for 1, 1,000 and 1,000,000 evaluations, reverse")
    assert accurate == (
        "the most accurate that computed every element is reverse, with 6.0 correct digits;"
        " finite has 9.0 on its sample"
    )


def test_a_sample_of_fewer_digits_is_not_told():
    _, accurate = texts(row("reverse", 6.0, 1e-3), row("finite", 5.0, 1e-5, sampled=True))
    assert accurate == "the most accurate is reverse, with 6.0 correct digits"


def test_among_equals_none_is_the_most_accurate():
    assert len(texts(row("reverse", 17.0, 1e-3), row("forward", 17.0, 2e-3))) == 1
    assert len(texts(row("reverse", 17.0, 1e-3))) == 2


def test_what_float32_is_too_coarse_for_is_to_be_asked_in_float64():
    off = row("reverse", 1.8, 1e-3, verdict=Verdict.DISAGREE, cause=Cause.ROUNDING)
    (advice,) = texts(off, row("complex-step", 11.0, 1.0, sampled=True, dtype="float64"))
    assert advice.startswith("float32 is too coarse for reverse here: --dtype float64")
    # Where it is float64 that rounds too much, there is nothing wider to ask for.
    assert texts(row("reverse", 1.8, 1e-3, verdict=Verdict.DISAGREE, cause=Cause.ROUNDING,
                     dtype="float64")) == []  # fmt: skip
