"""Why a method disagrees, and what is said on kinks, on evidence made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradcli.comparison import Comparison, judge
from gradcli.comparison.facts import Cause
from gradcli.engines.base import (
    Certificate,
    Fans,
    Near,
    Rounding,
    Sides,
    Survey,
)
from gradcli.graph import DType
from tests.comparison.made import (
    AGREE,
    DISAGREE,
    INCONCLUSIVE,
    KINK,
    X,
    evidence,
    only,
    outcome,
    problem,
    said,
    verdict,
)

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


@pytest.mark.parametrize("spread", [0.2, 1e-7])
def test_a_kink_nearby_is_named_as_what_may_be(spread):
    near = Near("act", "Relu", (0,), 1e-9, "kink", widest=1.0)
    row = only(
        judge(
            evidence(
                (1.0, 2.0, 4.0),
                outcome("forward", COARSE, dtype=DType.FLOAT32),
                problem=problem(dtype=DType.FLOAT32),
                twins={"forward": EXACT},
                rounding=said([0.0, 0.0, spread]),
                survey=Survey((near,)),
            )
        )
    )
    assert verdict(row) == (DISAGREE, Cause.ROUNDING)
    assert "may be on the other side of the kink of node 'act' (Relu)" in row.detail


@pytest.mark.parametrize(
    ("dtype", "other", "cause"),
    [(DType.FLOAT32, Cause.RUNTIME, Cause.ROUNDING), (DType.FLOAT64, Cause.RULE, Cause.ROUNDING)],
)
def test_a_method_is_excused_by_what_its_own_graph_loses(dtype, other, cause):
    """The reference's graph, where a term is missing, would lose nothing."""
    wide = Rounding(said([0.0, 0.0, 0.2]), said([0.0, 0.0, 0.2]))
    for own, expected in (({}, other), ({"forward": wide}, cause)):
        found = judge(
            evidence(
                (1.0, 2.0, 4.0),
                outcome("forward", COARSE, dtype=dtype),
                problem=problem(dtype=dtype),
                twins={"forward": EXACT} if dtype is DType.FLOAT32 else {},
                rounding=said([0.0, 0.0, 1e-7]),
                roundings=own,
            )
        )
        assert verdict(only(found)) == (DISAGREE, expected)


@pytest.mark.parametrize(
    ("size", "told"), [(1e-70, (INCONCLUSIVE, None)), (1e-36, (DISAGREE, Cause.ROUNDING))]
)
def test_of_what_is_too_small_for_float32_nothing_is_said(size, told):
    truth = (size, 2 * size)
    narrow = outcome("forward", said([0.0, 0.0]), dtype=DType.FLOAT32)
    row = only(
        judge(
            evidence(
                truth,
                narrow,
                problem=problem(2, dtype=DType.FLOAT32),
                reference=outcome("reverse", said(truth, 1e-16 * size)),
                witness=outcome("complex-step", said(truth, 1e-12 * size)),
                twins={"forward": said(truth)},
                rounding=said([size, size]),
            )
        )
    )
    assert verdict(row) == told
    said_so = "float32 has no normal numbers below 1.2e-38; --dtype float64 has"
    assert (row.detail == said_so) is (told[0] is INCONCLUSIVE)


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
    value: float,
    left: float,
    right: float,
    u: float = 0.0,
    near: tuple[Near, ...] = (),
    fan: tuple[float, float] | None = None,
) -> Comparison:
    """The middle element lies between two one-sided derivatives, and in a fan around both."""
    low, high = fan or (left, right)
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
            fans=Fans(
                {X: np.array([1.0, (low + high) / 2, 4.0])}, {X: np.array([0, (high - low) / 2, 0])}
            ),
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


@pytest.mark.parametrize(("value", "expected"), [(-0.9, KINK), (1.4, KINK), (1.6, DISAGREE)])
def test_what_several_conventions_compose_to_is_one(value, expected):
    row = only(on_kink(value, 0.0, 1.0, fan=(-1.0, 1.5)))
    assert row.verdict is expected
    assert ("several ties" in row.detail) is (expected is KINK)


@pytest.mark.parametrize(("value", "expected"), [(0.5, AGREE), (0.0, KINK), (1.4, DISAGREE)])
def test_where_conventions_matter_the_one_slope_agrees_and_others_are_theirs(value, expected):
    assert only(on_kink(value, 0.5, 0.5, fan=(0.0, 1.0))).verdict is expected


def test_outside_both_sides_nothing_is_said_where_nobody_knows_what_several_kinks_compose_to():
    assert only(on_kink(1.1, 0.0, 1.0, fan=(math.nan, math.nan))).verdict is INCONCLUSIVE
    assert only(on_kink(0.9, 0.0, 1.0, fan=(math.nan, math.nan))).verdict is KINK
    assert only(on_kink(math.nan, 0.0, 1.0, fan=(math.nan, math.nan))).verdict is DISAGREE


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
