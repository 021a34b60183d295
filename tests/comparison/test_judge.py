"""Verdicts on evidence made by hand: numbers in, judgement out, no engine and no clock."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcli.comparison import MARGIN, RTOL, Comparison, hold_primal, judge
from gradcli.comparison.facts import Cause, Judgement, Verdict
from gradcli.engines.base import (
    Certificate,
    Estimate,
    Evidence,
    Near,
    Outcome,
    Probes,
    Sides,
    Survey,
    Times,
)
from gradcli.graph import Builder, DType
from gradcli.ops import OPS
from gradcli.problem import Key, Problem

AGREE, DISAGREE, KINK, STAIRCASE, INCONCLUSIVE = Verdict
X: Key = ("", "x")


def problem(count: int = 3, operator: str = "vjp", dtype: DType = DType.FLOAT64) -> Problem:
    """y = 2x at ones; what the methods say of it is up to each test."""
    b = Builder(OPS)
    y = b.rename(b.input("x", DType.FLOAT64, (count,)) * 2.0, "y")
    ones = np.ones(count)
    return Problem(
        None,
        b.graph([y]),
        ("x",),
        ("y",),
        operator,
        {"x": ones},
        {"x": ones} if operator == "jvp" else {},
        {"y": ones} if operator in ("vjp", "gradient") else {},
        dtype,
    )


def said(values: Any, u: Any = 0.0, key: Key = X, known: Any = None) -> Estimate:
    block = np.asarray(values, np.float64)
    return Estimate(
        {key: block},
        None if known is None else {key: np.asarray(known, bool)},
        uncertainty={key: np.broadcast_to(np.asarray(u, np.float64), block.shape)},
    )


def outcome(name: str, estimate: Estimate | None, **facts: Any) -> Outcome:
    if estimate is None:
        return Outcome(name, "skipped", facts.pop("reason", "out of its depth"))
    made = Outcome(name, "computed", "", estimate, run=Times((1.0,)))
    return replace(made, sampled=estimate.known is not None, **facts)


def evidence(truth: Any = (1.0, 2.0, 4.0), *outcomes: Outcome, **changes: Any) -> Evidence:
    """Reference and witness say `truth`, the witness within 1e-12; changes replace fields."""
    asked = changes.pop("problem", problem(len(truth)))
    key = asked.keys[0]
    outputs = {"y": np.ones(len(truth))}
    base = Evidence(
        asked,
        outcomes,
        outputs,
        outputs,
        Times((0.5,)),
        "",
        outcome("reverse", said(truth, 1e-16, key)),
        outcome("complex-step", said(truth, 1e-12, key)),
        None,
        {},
        Survey(),
        None,
        None,
    )
    return replace(base, **changes)


def verdict(method: Judgement) -> tuple[Verdict | None, Cause | None]:
    return method.verdict, method.cause


def only(found: Comparison) -> Judgement:
    (method,) = found.methods
    return method


def judged(values: Any, u: Any = 0.0, truth: Any = (1.0, 2.0, 4.0), **changes: Any) -> Judgement:
    key = changes["problem"].keys[0] if "problem" in changes else X
    return only(judge(evidence(truth, outcome("symbolic", said(values, u, key)), **changes)))


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
    assert any(note.startswith("sampled") for note in found.notes)


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


# ---- causes -------------------------------------------------------------------------------------

COARSE = said([1.0, 2.0, 4.5])
EXACT = said([1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("twin", "rounding", "cause"),
    [
        (COARSE, said([0.0, 0.0, 0.2]), Cause.RULE),
        (EXACT, said([0.0, 0.0, 0.2]), Cause.ROUNDING),
        (EXACT, said([0.0, 0.0, 1e-7]), Cause.RUNTIME),
        (EXACT, said([0.0, 0.0, math.inf]), Cause.ROUNDING),
        (EXACT, None, Cause.ROUNDING),
        (None, None, None),
        (said([1.0, 2.0, math.nan], known=[1, 1, 0]), said([0.0, 0.0, 0.2]), None),
    ],
)
def test_why_a_narrow_method_is_wrong(twin, rounding, cause):
    narrow = outcome("forward", COARSE, dtype=DType.FLOAT32)
    row = only(
        judge(
            evidence(
                (1.0, 2.0, 4.0),
                narrow,
                problem=problem(dtype=DType.FLOAT32),
                twins={} if twin is None else {"forward": twin},
                rounding=rounding,
            )
        )
    )
    assert verdict(row) == (DISAGREE, cause)
    assert row.detail


def test_what_is_too_small_for_float32_is_lost_by_rounding():
    truth = (1e-70, 2e-70)
    narrow = outcome("forward", said([0.0, 0.0]), dtype=DType.FLOAT32)
    row = only(
        judge(
            evidence(
                truth,
                narrow,
                problem=problem(2, dtype=DType.FLOAT32),
                reference=outcome("reverse", said(truth, 1e-86)),
                witness=outcome("complex-step", said(truth, 1e-82)),
                twins={"forward": said(truth)},
                rounding=said([1e-77, 1e-77]),
            )
        )
    )
    assert verdict(row) == (DISAGREE, Cause.ROUNDING)


@pytest.mark.parametrize(
    ("name", "cause"),
    [("forward", Cause.RULE), ("symbolic", Cause.RULE), ("finite-central", Cause.STEP)],
)
def test_why_a_wide_method_is_wrong(name, cause):
    assert verdict(only(judge(evidence((1.0, 2.0, 4.0), outcome(name, COARSE))))) == (
        DISAGREE,
        cause,
    )


@pytest.mark.parametrize(("spread", "cause"), [(0.2, Cause.ROUNDING), (1e-7, Cause.RULE)])
def test_what_is_certain_shows_that_float64_is_too_coarse_too(spread, cause):
    """A derivative that cancels: the enclosed truth has digits that no float64 method has."""
    sure = Certificate(
        blocks={X: np.array([1.0, 2.0, 4.0])},
        uncertainty={X: np.full(3, 1e-16)},
        known={X: np.ones(3, bool)},
        below=0,
        taken=3,
        bits=128,
        digits=20.0,
        confirmed=1,
        contradicted=0,
    )
    rough = outcome("reverse", said([1.0, 2.0, 4.4], [0.0, 0.0, spread]))
    made = evidence((1.0, 2.0, 4.0), outcome("forward", COARSE), reference=rough, certificate=sure)
    assert verdict(only(judge(made))) == (DISAGREE, cause)


# ---- kinks --------------------------------------------------------------------------------------

TIE = Near("relu", "Relu", (1,), 0.0, "kink", "0 at 0")


def on_kink(
    value: float, left: float, right: float, u: float = 0.0, near: tuple[Near, ...] = ()
) -> Comparison:
    """The middle element lies between two one-sided derivatives."""
    truth = (1.0, 0.0, 4.0)
    nobody = np.nan
    sides = Sides(
        {X: np.array([nobody, left, nobody])},
        {X: np.array([nobody, right, nobody])},
        {X: np.array([nobody, 1e-9, nobody])},
    )
    vague = outcome("finite", said([1.0, right, 4.0], [1e-12, abs(right - left), 1e-12]))
    return judge(
        evidence(
            truth,
            outcome("symbolic", said([1.0, value, 4.0], u)),
            witness=vague,
            survey=Survey((TIE, *near), (TIE,)),
            sides=sides,
        )
    )


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_between_the_sides_of_a_kink_every_value_is_a_convention(value):
    found = on_kink(value, 0.0, 1.0)
    row = only(found)
    assert row.counts == {"AGREE": 2, "DISAGREE": 0, "KINK": 1, "STAIRCASE": 0, "INCONCLUSIVE": 0}
    assert (row.verdict, found.verdict, found.exit_code) == (KINK, KINK, 0)
    assert row.worst is not None
    assert row.worst.sides == (0.0, 1.0)
    assert [(k.node, k.active) for k in found.kinks] == [("relu", True)]
    assert row.correct_digits == 17.0


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_outside_the_sides_a_value_disagrees(value):
    found = on_kink(value, 0.0, 1.0)
    assert only(found).verdict is DISAGREE
    assert found.exit_code == 1


def test_at_the_edge_of_a_domain_an_infinite_slope_contradicts_nothing():
    """The root of what is 0 at a kink: no difference reaches the infinite slope on one side."""
    edge = Near("root", "Sqrt", (0,), 0.0, "edge", what="the square root of 0")
    found = on_kink(np.inf, 0.0, 7.0)
    assert verdict(found.methods[0])[0] is DISAGREE
    at = on_kink(np.inf, 0.0, 7.0, near=(edge,))
    assert verdict(at.methods[0])[0] is INCONCLUSIVE
    assert verdict(on_kink(9.0, 0.0, 7.0, near=(edge,)).methods[0])[0] is DISAGREE


def test_an_inactive_tie_is_smooth():
    found = on_kink(0.0, 0.0, 0.0)
    assert only(found).verdict is AGREE
    assert [k.active for k in found.kinks] == [False]


def test_a_tie_whose_sides_nobody_took_is_not_decided():
    found = judge(evidence((1.0,), outcome("symbolic", said([1.0])), survey=Survey((TIE,), (TIE,))))
    assert [k.active for k in found.kinks] == [None]


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
