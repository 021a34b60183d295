"""Verdicts on evidence made by hand: numbers in, judgement out, no engine and no clock."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcli.comparison import MARGIN, RTOL, hold_primal, judge
from gradcli.comparison.facts import Cause, Judgement, Verdict
from gradcli.engines.base import (
    Estimate,
    Near,
    Outcome,
    Probes,
    Sides,
    Survey,
)
from gradcli.graph import Builder, DType
from gradcli.ops import OPS
from gradcli.problem import Problem
from tests.comparison.made import (
    AGREE,
    DISAGREE,
    INCONCLUSIVE,
    X,
    evidence,
    judged,
    only,
    outcome,
    problem,
    said,
    verdict,
)

# ---- bands --------------------------------------------------------------------------------------


def test_enormous_uncertainties_are_no_arithmetic_errors():
    """Finite differences just before an overflow: NumPy would warn, on the user's screen."""
    huge = said([1.0], 1.7e308)
    made = evidence((1.0,), outcome("finite", huge), witness=outcome("finite", huge))
    assert judge(made).methods[0].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("off", "u", "expected"),
    [
        (0.0, 0.0, AGREE),
        (3.9e-6, 0.0, AGREE),
        (4.1e-6, 0.0, DISAGREE),
        (3.9e-6, 5e-6, INCONCLUSIVE),
        (0.0, 5e-6, INCONCLUSIVE),
        (8e-6, 5e-6, INCONCLUSIVE),
        (1e-5, 5e-6, DISAGREE),
        (1.0, math.inf, INCONCLUSIVE),
        (1.0, math.nan, INCONCLUSIVE),
    ],
)
def test_a_band_of_a_millionth_and_the_uncertainty(off, u, expected):
    assert judged([1.0, 2.0, 4.0 + off], [0, 0, u]).verdict is expected


def test_small_elements_are_held_to_a_thousandth_of_the_largest():
    truth = (1000.0, 1e-9)
    assert judged([1000.0, 9e-7], truth=truth).verdict is AGREE
    assert judged([1000.0, 1.1e-6], truth=truth).verdict is DISAGREE


def test_tolerances_by_arithmetic_and_by_request():
    narrow = outcome("forward", said([1.0, 2.0, 4.01]), dtype=DType.FLOAT32)
    asked = problem(dtype=DType.FLOAT32)
    assert only(judge(evidence((1, 2, 4), narrow, problem=asked))).verdict is AGREE
    found = judge(evidence((1, 2, 4), narrow, problem=asked), rtol=1e-3)
    assert only(found).verdict is DISAGREE
    assert found.subject.rtol == {"float32": 1e-3, "float64": 1e-3}
    assert only(judge(evidence((1, 2, 4), narrow, problem=asked), 1e-3, atol=0.1)).verdict is AGREE


def test_a_formula_that_comes_to_fewer_digits_is_held_to_those():
    def held(reach: float) -> Judgement:
        own = outcome("m", said((1.0, 2.0, 4.0), 1e-4), reach=reach)
        return only(judge(evidence((1.0, 2.0, 4.0), own)))

    assert held(0.0).verdict is INCONCLUSIVE
    assert held(2.0**-26).verdict is AGREE
    assert held(2.0**-26).rtol == MARGIN * 2.0**-26
    assert held(1e-15).rtol == RTOL[DType.FLOAT64]


def test_a_difference_knows_nothing_that_is_small_beside_the_outputs():
    """The outputs are 1; of a derivative of 1e-5 a difference is held to a thousandth of that."""

    def held(reach: float, x: float) -> Verdict | None:
        asked = replace(problem(1), point={"x": np.full(1, x)})
        own = outcome("m", said([1e-5], 9e-10), reach=reach)
        return only(judge(evidence((1e-5,), own, problem=asked))).verdict

    assert held(0.0, 1.0) is INCONCLUSIVE
    assert held(1e-14, 1.0) is AGREE
    assert held(1e-14, 0.0) is AGREE
    assert held(1e-14, 100.0) is INCONCLUSIVE  # steps there are a hundred times as long


@pytest.mark.parametrize(
    ("noise", "truth", "expected"),
    [
        (
            1e-16,
            (1.0, 1e-12),
            INCONCLUSIVE,
        ),  # what outputs of 1e-6 are rounded at tells nothing new
        (1e-13, (1.0, 1e-12), AGREE),  # that of their terms, which are about 150
        (1e-13, (1e-5, 1e-12), INCONCLUSIVE),  # no element is known to much: it is lost as a whole
    ],
)
def test_a_difference_knows_nothing_that_is_small_beside_terms_that_cancel(noise, truth, expected):
    own = outcome("m", said(truth, [0.0, 9e-9]), reach=1e-14)
    small = {"y": np.full(2, 1e-6)}
    found = evidence(truth, own, exact_primal=small, file_primal=small)
    assert only(judge(replace(found, exact_noise={"y": np.full(2, noise)}))).verdict is expected
    assert only(judge(found)).verdict is INCONCLUSIVE


@pytest.mark.parametrize(("length", "expected"), [(1.0, AGREE), (1e-3, INCONCLUSIVE)])
def test_how_small_that_is_follows_the_length_of_a_tangent(length, expected):
    asked = replace(problem(2, "jvp"), tangents={"x": np.full(2, length)})
    own = outcome("m", said([1e-6, 1e-6], 9e-10, ("y", "")), reach=1e-14)
    found = judge(evidence((1e-6, 1e-6), own, problem=asked))
    assert only(found).verdict is expected


@pytest.mark.parametrize("u", [0.0, 1e-5, 1e-2])
@pytest.mark.parametrize("off", [0.0, 1e-9, 1e-4, 0.3])
@pytest.mark.parametrize("atol", [0.0, 1e-3])
def test_the_smallest_tolerance_that_would_pass_is_just_that(off, u, atol):
    found = evidence((1.0, -2.0, 4e-9), outcome("m", said((1.0, -2.0 - off, 4e-9), u)))
    needed = only(judge(found, atol=atol)).needed_rtol
    assert needed is not None
    assert only(judge(found, needed, atol)).verdict is AGREE
    if needed:
        assert only(judge(found, needed * (1 - 1e-12), atol)).verdict is not AGREE


def test_of_what_is_no_number_no_tolerance_passes():
    found = judge(evidence((1.0, 2.0), outcome("m", said((1.0, np.nan)))))
    assert only(found).needed_rtol == math.inf


def test_every_output_has_numbers_of_its_own():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    outputs = [b.rename(x * 2.0, "y"), b.rename(x * 3.0, "z")]
    x_at, ones = {"x": np.ones(2)}, {"y": np.ones(2), "z": np.ones(2)}
    asked = Problem(
        *(None, b.graph(outputs), ("x",), ("y", "z"), "jvp", x_at, x_at, {}, DType.FLOAT64)
    )

    def blocks(y: Any, z: Any) -> Estimate:
        return Estimate({("y", ""): np.asarray(y, float), ("z", ""): np.asarray(z, float)})

    truth = outcome("forward", blocks([2, 2], [3, 0]))
    found = evidence(
        (2.0, 2.0),
        outcome("m", blocks([2, 2], [3.3, 0])),
        problem=asked,
        reference=truth,
        witness=outcome("complex-step", truth.estimate),
        exact_primal=ones,
        file_primal=ones,
    )
    judged = only(judge(found))
    first, second = judged.parts
    assert [part.name for part in judged.parts] == ["y", "z"]
    assert (first.verdict, first.cause) == (AGREE, None)
    assert first.needed_rtol == pytest.approx(0.0, abs=1e-12)
    assert (second.verdict, second.cause) == (DISAGREE, Cause.RULE)
    assert second.needed_rtol == pytest.approx(0.3 / 3.3)
    assert (first.zero, second.zero, judged.zero) == (0, 1, 1)
    assert judged.needed_rtol == second.needed_rtol
    assert judged.max_abs_error == second.max_abs_error
    assert second.counts["DISAGREE"] == 1


def test_each_block_has_its_own_size():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (1,))
    graph = b.graph([b.rename(x * 1e9, "large"), b.rename(x * 1e-3, "small")])
    asked = Problem(
        None,
        graph,
        ("x",),
        ("large", "small"),
        "jacobian",
        {"x": np.ones(1)},
        {},
        {},
        DType.FLOAT64,
    )

    def both(large: float, small: float) -> Estimate:
        return Estimate({("large", "x"): np.array([[large]]), ("small", "x"): np.array([[small]])})

    base = evidence((1.0,), outcome("symbolic", both(1e9, 2e-3)), problem=problem(1))
    found = judge(
        replace(
            base,
            problem=asked,
            reference=outcome("reverse", both(1e9, 1e-3)),
            witness=outcome("complex-step", both(1e9, 1e-3)),
            file_primal={"large": np.array([1e9]), "small": np.array([1e-3])},
            exact_primal={"large": np.array([1e9]), "small": np.array([1e-3])},
        )
    )
    assert only(found).verdict is DISAGREE
    assert only(found).correct_digits == 0.0
    worst = only(found).worst
    assert worst is not None
    assert (worst.name, worst.index) == ("small/x", (0, 0))


def test_the_numbers_of_a_row():
    row = judged([1.0, 2.0, 4.0 + 4e-7], [0, 1e-9, 0])
    assert row.max_abs_error == pytest.approx(4e-7)
    assert row.max_rel_error == pytest.approx(1e-7)
    assert row.correct_digits == pytest.approx(7.0)
    assert row.uncertainty == pytest.approx(1e-9, rel=1e-3)
    assert row.counts == {"AGREE": 3, "DISAGREE": 0, "KINK": 0, "STAIRCASE": 0, "INCONCLUSIVE": 0}
    assert row.worst is not None
    assert (row.worst.index, row.worst.reference) == ((2,), 4.0)
    assert row.times_forward == 2.0


# ---- what is no number --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_where_the_truth_is_disagrees(value):
    row = judged([1.0, value, 4.0])
    assert row.verdict is DISAGREE
    assert row.counts["AGREE"] == 2
    assert row.correct_digits == 0.0
    assert row.worst is not None
    assert row.worst.index == (1,)


def test_the_same_infinity_agrees_and_the_other_one_does_not():
    truth = (1.0, math.inf)
    assert judged([1.0, math.inf], truth=truth).verdict is AGREE
    assert judged([1.0, -math.inf], truth=truth).verdict is DISAGREE
    assert judged([1.0, 1e300], truth=truth).verdict is DISAGREE
    assert judged([1.1, math.inf], truth=truth).counts["DISAGREE"] == 1


@pytest.mark.parametrize("value", [math.nan, 2.0, math.inf])
def test_of_a_truth_that_is_no_number_nothing_is_said(value):
    row = judged([1.0, value], truth=(1.0, math.nan))
    assert row.counts == {"AGREE": 1, "DISAGREE": 0, "KINK": 0, "STAIRCASE": 0, "INCONCLUSIVE": 1}


def test_a_witness_that_is_finite_overrules_a_reference_that_is_not():
    reverse = outcome("reverse", said([1.0, math.nan]))
    base = evidence((1.0, 2.0), reverse, outcome("symbolic", said([1.0, 2.0])), reference=reverse)
    found = judge(base)
    assert [m.verdict for m in found.methods] == [DISAGREE, AGREE]
    assert found.reference.kind == "complex-step"


# ---- zeros --------------------------------------------------------------------------------------


def test_a_relative_error_of_zero_is_never_given():
    row = judged([1e-14, 0.0], 1e-12, truth=(0.0, 0.0))
    assert row.verdict is AGREE
    assert row.max_rel_error is None
    assert row.correct_digits is None


def test_zeros_exactly():
    assert judged([0.0, 0.0], truth=(0.0, 0.0)).correct_digits == 17.0
    assert judged([0.0, 1e-3], truth=(0.0, 0.0)).verdict is DISAGREE


def test_nothing_to_differentiate():
    found = judge(evidence((), outcome("symbolic", said(np.zeros(0)))))
    assert (only(found).verdict, found.exit_code) == (None, 0)
    assert "no elements" in only(found).detail
    assert only(found).worst is None


# ---- reference and witness ----------------------------------------------------------------------


def test_a_reference_that_the_witness_contradicts_is_withdrawn():
    wrong = said([1.0, 2.0, 4.1])
    found = judge(
        evidence(
            (1.0, 2.0, 4.0),
            outcome("reverse", wrong),
            outcome("complex-step", said([1.0, 2.0, 4.0], 1e-12)),
            reference=outcome("reverse", wrong),
        )
    )
    assert [verdict(m) for m in found.methods] == [(DISAGREE, Cause.RULE), (AGREE, None)]
    assert (found.reference.kind, found.reference.witness) == ("complex-step", "complex-step")
    assert found.reference.reason == (
        "the float64 reverse graph and complex-step differ in 1 of 3 elements"
    )
    assert found.exit_code == 1


def test_without_a_reference_the_witness_judges_with_its_own_uncertainty():
    skipped = outcome("reverse", None, reason="no rule for Foo")
    found = judge(evidence((1.0, 2.0), outcome("symbolic", said([1.0, 2.0])), reference=skipped))
    assert found.reference.kind == "complex-step"
    assert found.reference.reason == "there is no float64 reverse graph: no rule for Foo"
    assert only(found).verdict is AGREE
    assert only(found).uncertainty == pytest.approx(1e-12)


def test_without_a_witness_nothing_is_decided():
    nobody = outcome("finite", None, reason="too slow")
    found = judge(evidence((1.0, 2.0), outcome("symbolic", said([1.0, 9.0])), witness=nobody))
    assert only(found).verdict is INCONCLUSIVE
    assert only(found).detail == "there is no reference"
    assert (found.exit_code, found.verdict) == (3, INCONCLUSIVE)
    assert (found.reference.kind, found.reference.reason) == ("none", "too slow")
    assert found.advice == ()


@pytest.mark.parametrize("u", [1.0, math.inf, math.nan])
def test_a_witness_that_knows_nothing_confirms_nothing(u):
    vague = outcome("finite", said([1.0, 2.0, 4.0], u))
    found = judge(evidence((1.0, 2.0, 4.0), outcome("symbolic", said([1, 2, 4])), witness=vague))
    assert found.reference.confirmed == 0
    assert only(found).verdict is INCONCLUSIVE
    assert found.exit_code == 3


def test_what_the_witness_cannot_resolve_stays_open():
    vague = outcome("finite", said([1.0, 2.0, 4.0], [1e-9, 1e-9, 0.5]))
    found = judge(evidence((1.0, 2.0, 4.0), outcome("symbolic", said([1, 2, 4])), witness=vague))
    assert found.reference.confirmed == 2
    assert only(found).counts == {
        "AGREE": 2,
        "DISAGREE": 0,
        "KINK": 0,
        "STAIRCASE": 0,
        "INCONCLUSIVE": 1,
    }
    assert found.exit_code == 0


def test_a_sampled_witness_confirms_its_sample():
    seen = outcome("complex-step", said([1.0, math.nan, 4.0], 1e-12, known=[1, 0, 1]))
    probes = Probes({"x": np.array([0, 2])}, {"y": np.array([0, 2])}, {"x": np.zeros((0, 3))})
    found = judge(
        evidence((1.0, 2.0, 4.0), outcome("symbolic", said([1, 2, 4])), witness=seen, probes=probes)
    )
    assert (found.reference.confirmed, found.reference.elements) == (2, 3)
    assert only(found).counts["AGREE"] == 3
    assert found.notes == (), "the reference says so, and no method's row is of a sample"


def test_a_sampled_method_is_judged_where_it_looked_and_along_random_directions():
    directions = np.array([[1.0, -1.0, 0.5], [2.0, 0.0, 1.0]])
    probes = Probes({"x": np.array([0])}, {"y": np.array([0])}, {"x": directions})
    along = directions @ np.array([1.0, 2.0, 4.0])
    part = said([1.0, math.nan, math.nan], known=[1, 0, 0])
    right = outcome("symbolic", replace(part, along=along))
    wrong = outcome("finite", replace(part, along=along * 1.01), evaluations=3)
    found = judge(evidence((1.0, 2.0, 4.0), right, wrong, probes=probes))
    assert [m.verdict for m in found.methods] == [AGREE, DISAGREE]
    assert [m.sampled for m in found.methods] == [True, True]
    assert found.methods[0].counts["AGREE"] == 3
    worst = found.methods[1].worst
    assert worst is not None
    assert (worst.name, worst.index) == ("random direction 1", ())
    (note,) = found.notes
    assert note == (
        "sampled by symbolic, finite: at most 1 of 3 coordinates of x and 2 random directions"
        " (seed 0); their times are the sample's"
    )


def test_the_digits_of_a_sample_are_those_of_the_whole_answer():
    part = outcome("finite", said([1.1e-3, math.nan, math.nan], 1e-9, known=[1, 0, 0]))
    probes = Probes({"x": np.array([0])}, {"y": np.array([0])}, {"x": np.zeros((0, 3))})
    row = only(judge(evidence((1e-3, 2.0, 4.0), part, probes=probes)))
    assert row.correct_digits == pytest.approx(-math.log10(1e-4 / 4.0))


@pytest.mark.parametrize("operator", ["jvp", "vjp", "jacobian"])
def test_every_operator(operator):
    asked = problem(2, operator)
    truth = [[2.0, 0.0], [0.0, 2.0]] if operator == "jacobian" else [2.0, 2.0]
    key = asked.keys[0]
    row = judged(truth, 0.0, truth, problem=asked)
    assert row.counts["AGREE"] == np.size(truth)
    assert row.worst is not None
    assert row.worst.name == {"jvp": "y", "vjp": "x", "jacobian": "y/x"}[operator]
    assert judged(np.asarray(truth) * 1.1, 0.0, truth, problem=asked).verdict is DISAGREE
    assert asked.block_shape(key) == np.shape(truth)


# ---- the primal ---------------------------------------------------------------------------------


def test_of_a_primal_that_does_not_match_no_derivative_is_judged():
    found = judge(
        evidence((1.0,), outcome("symbolic", said([9.0])), file_primal={"y": np.array([1.5])})
    )
    assert not found.primal.matches
    assert only(found).verdict is INCONCLUSIVE
    assert only(found).detail == "the primal does not match the file"
    assert found.exit_code == 3


def test_a_file_that_cannot_be_run():
    found = judge(
        evidence((1.0,), outcome("symbolic", said([1.0])), primal_reason="no kernel for Foo")
    )
    assert (found.primal.matches, found.primal.reason) == (False, "no kernel for Foo")
    assert found.exit_code == 3


@pytest.mark.parametrize(
    ("ours", "theirs", "noise", "matches"),
    [
        ([1.0, 2.0], [1.0, 2.0], None, True),
        ([1.0, 2.0], [1.0, 2.002], None, True),
        ([1.0, 2.0], [1.0, 2.002], [1e-6, 1e-6], False),
        ([1.0, 2.0], [1.0, 2.002], [1e-3, 1e-3], True),
        ([1.0, 2.0], [1.0, 2.1], None, False),
        ([1.0, math.nan], [1.0, math.nan], None, True),
        ([1.0, 2.0], [1.0, math.nan], None, False),
        ([1.0, math.inf], [1.0, math.inf], None, True),
        ([1.0, math.inf], [1.0, 3.0], None, False),
        ([1.0, 2.0], [[1.0, 2.0]], None, False),
    ],
)
def test_how_close_a_primal_must_be(ours, theirs, noise, matches):
    held = hold_primal(
        {"y": np.array(theirs, np.float32)},
        {"y": np.array(ours)},
        None if noise is None else {"y": np.array(noise)},
    )
    assert held.matches is matches


def test_a_primal_in_fewer_digits_than_the_file_has_is_held_to_those():
    theirs = {"y": np.array([1.0, 2.0])}
    assert hold_primal(theirs, {"y": np.array([1.0, 2.001], np.float32)}).matches
    assert not hold_primal(theirs, {"y": np.array([1.0, 2.001])}).matches
    assert not hold_primal(theirs, {"y": np.array([1.0, 2.1], np.float32)}).matches


def test_an_output_that_onnxruntime_did_not_give_does_not_match():
    assert not hold_primal({}, {"y": np.ones(1)}).matches


# ---- the whole ----------------------------------------------------------------------------------


def test_one_disagreement_decides_over_everything_else():
    found = judge(
        evidence(
            (1.0, 2.0),
            outcome("symbolic", said([1.0, 2.0])),
            outcome("finite", said([1.0, 2.0], 1.0)),
            outcome("forward", said([1.0, 3.0])),
            outcome("complex-step", None),
            Outcome("reverse", "failed", "it broke"),
        )
    )
    assert (found.verdict, found.exit_code) == (DISAGREE, 1)
    assert found.counts == {
        "AGREE": 1,
        "DISAGREE": 1,
        "KINK": 0,
        "STAIRCASE": 0,
        "INCONCLUSIVE": 1,
        "skipped": 1,
        "failed": 1,
    }
    assert [m.status for m in found.methods][3:] == ["skipped", "failed"]
    assert found.methods[4].reason == "it broke"


def test_when_nobody_is_sure_nothing_agrees():
    found = judge(evidence((1.0,), outcome("finite", said([1.0], 1.0))))
    assert (found.verdict, found.exit_code) == (INCONCLUSIVE, 0)


def test_what_nobody_looked_at_on_a_kink_contradicts_no_convention():
    tie = Near("relu", "Relu", (0,), 0.0, "kink")
    some = outcome("complex-step", said([1.0, math.nan, 4.0], 1e-12, known=[True, False, True]))
    facts = {"survey": Survey((tie,), (tie,)), "witness": some}
    counts = judged([1.0, 3.0, 4.0], **facts).counts
    assert (counts["AGREE"], counts["INCONCLUSIVE"]) == (2, 1)
    # What was looked at is contradicted there too, and what agrees may well.
    assert judged([1.5, 2.0, 4.0], **facts).counts["DISAGREE"] == 1
    assert judged([1.0, 2.0, 4.0], **facts).verdict is AGREE
    assert judged([1.0, 3.0, 4.0], **{**facts, "survey": Survey()}).verdict is DISAGREE
    taken = Sides({X: np.array([1.0, 2, 4])}, {X: np.array([1.0, 2, 4])}, {X: np.zeros(3)})
    assert judged([1.0, 3.0, 4.0], **facts, sides=taken).verdict is DISAGREE
