"""Whether a point is really on a kink."""

import numpy as np
import pytest

from gradcli.engines.base import decide, survey
from gradcli.engines.base.exactly import _margin, _middles
from gradcli.interpret import Evaluator
from gradcli.numbers import Ball, real
from gradcli.ops import OPS
from tests.engines.problems import problem
from tests.ops.checks import draw
from tests.ops.rows import TABLE

pytest.importorskip("flint", reason="needs the extra `certified`")


def near(f, x):
    """What is said of the only kink."""
    (found,) = [n for n in decide(problem(f, x)).nearest if n.kind == "kink"]
    return found


def test_a_tie_of_exact_numbers_is_exact():
    found = near(lambda b, v: b.op("Relu", v - 0.1), [0.3, 0.1])
    assert (found.decided, found.index, found.margin) == ("on", (1,), 0.0)


def test_a_tie_that_is_rounding_is_none():
    def f(b, v):
        return b.op("Relu", (v + 1.0) - 1.0)

    found = near(f, [2.0**-60, 3.0])
    assert survey(problem(f, [2.0**-60, 3.0])).ties
    assert (found.margin, found.decided, found.within) == (0.0, "off", 2.0**-60)


def test_a_tie_that_float64_misses_is_found():
    # 2^53 + 1 is no float64: the sum is 1 there, and 0 exactly.
    def f(b, v):
        sums = b.op("ReduceSum", v, b.ints([1]), keepdims=0)
        return b.op("Abs", sums * b.constant([2.0**-53, 1.0]))

    asked = problem(f, [[2.0**53, 1.0, 1.0, -(2.0**53), -2.0], [1.0, 0.0, 0.0, 2.0, 0.0]])
    assert not survey(asked).ties
    (tie,) = decide(asked).ties
    assert (tie.decided, tie.index) == ("on", (0,))
    assert tie.margin > 0


def test_equal_numbers_of_no_exact_value_stay_open():
    found = near(lambda b, v: b.op("Max", b.op("Tanh", v), b.op("Tanh", v * 1.0)), [0.3])
    assert found.decided == "open"
    assert 0 < found.within < 1e-300
    assert found.touched


def test_far_from_all_kinks_nothing_is_decided():
    assert near(lambda b, v: b.op("Relu", v), [1.0, 0.5]).decided == ""


def test_a_tie_of_exact_zeros_among_rounded_numbers():
    def f(b, v):
        a = b.op("Relu", b.op("Tanh", v))
        return b.op("MaxPool", a, kernel_shape=(2,), strides=(2,))

    found = decide(problem(f, [[[-1.0, -2.0, 0.3, 0.4]]])).ties
    assert [(n.op, n.index, n.decided) for n in found] == [("MaxPool", (0, 0, 0), "on")]


def scalar(b, v, shape=(1,)):
    """The sum of all, which float64 rounds."""
    return b.reshape(b.op("ReduceSum", v, keepdims=0), list(shape))


def side_by_side(b, *parts):
    return b.op("Concat", *parts, axis=0)


def rows(*shape):
    return np.arange(float(np.prod(shape))).reshape(shape)


def offsets(b, v):
    one = scalar(b, v, (1, 1, 1, 1)) * b.constant(np.ones((1, 1, 5, 5)))
    return b.op("Concat", one, b.constant(np.full((1, 1, 5, 5), 0.25)), axis=1)


ONES = np.ones((1, 1, 1))

PLACES = {
    "Mod": (1.0, lambda b, v: b.op("Mod", scalar(b, v), b.constant(0.5), fmod=1)),
    "GridSample": (
        1.0,
        lambda b, v: b.op(
            "GridSample",
            b.constant(rows(1, 1, 3, 3)),
            b.reshape(side_by_side(b, *2 * [scalar(b, v) - 1.0]), [1, 1, 1, 2]),
            align_corners=1,
        ),
    ),
    "RoiAlign": (
        1.5,
        lambda b, v: b.op(
            "RoiAlign",
            b.constant(rows(1, 1, 5, 5)),
            b.reshape(side_by_side(b, *(scalar(b, v) + d for d in (0.0, 0.25, 2.0, 2.25))), [1, 4]),
            b.ints([0]),
            sampling_ratio=1,
        ),
    ),
    "DeformConv": (
        1.0,
        lambda b, v: b.op(
            "DeformConv",
            b.constant(rows(1, 1, 5, 5)),
            b.constant(np.ones((1, 1, 1, 1))),
            offsets(b, v),
        ),
    ),
    "RNN": (
        1.0,
        lambda b, v: b.op(
            "RNN",
            scalar(b, v, (1, 1, 1)) - 1.0,
            b.constant(ONES),
            b.constant(ONES),
            hidden_size=1,
            activations=("Relu",),
        ),
    ),
    "LSTM": (
        1.0,
        lambda b, v: b.op(
            "LSTM",
            scalar(b, v, (1, 1, 1)),
            b.constant(np.ones((1, 4, 1))),
            b.constant(np.ones((1, 4, 1))),
            hidden_size=1,
            clip=1.0,
        ),
    ),
    "Floor": (1.0, lambda b, v: b.op("Floor", scalar(b, v)) + scalar(b, v)),
    "Ceil": (1.0, lambda b, v: b.op("Ceil", scalar(b, v)) + scalar(b, v)),
    "Round": (0.5, lambda b, v: b.op("Round", scalar(b, v)) + scalar(b, v)),
    "Sign": (1.0, lambda b, v: b.op("Sign", scalar(b, v) - 1.0) + scalar(b, v)),
    "Less": (
        1.0,
        lambda b, v: b.where(b.op("Less", scalar(b, v), b.constant([1.0])), scalar(b, v), 2.0),
    ),
}


@pytest.mark.parametrize("op", PLACES)
def test_jumps_and_recurrences_are_decided_too(op):
    base, f = PLACES[op]
    tiny = 2.0**-100
    found = {
        away: next(n for n in decide(problem(f, [base, away])).nearest if n.op == op)
        for away in (0.0, tiny, 0.125)
    }
    assert (found[0.0].decided, found[0.0].margin) == ("on", 0.0)
    assert (found[tiny].decided, found[tiny].margin) == ("off", 0.0)
    assert found[tiny].within == pytest.approx(tiny)
    assert (found[0.125].decided, found[0.125].margin) == ("", 0.125)


IN_FLOATS = frozenset(
    (
        "DynamicQuantizeLinear",
        "com.microsoft::DynamicQuantizeLSTM",
        "com.microsoft::DynamicQuantizeMatMul",
        "ai.onnx.ml::TreeEnsemble",
        "ai.onnx.ml::TreeEnsembleClassifier",
        "ai.onnx.ml::TreeEnsembleRegressor",
    )
)
"""Thresholds that are floats, and quanta of a scale that is rounded: their jumps are float64's."""


@pytest.mark.parametrize("op", [op for op, card in OPS.items() if card.kinks and op in TABLE])
def test_margins_can_be_taken_in_exact_numbers(op):
    a = next(a for k in range(20) if (a := draw(TABLE[op], k)).feeds)
    n, seen = Ball(256), []

    def look(node, operands, _):
        if node.key == op:
            kinks = OPS[op].kinks
            assert kinks
            margin, _ = kinks(real, *operands, **node.attrs)
            balls = [n.lift(x) if real.is_number(x) else x for x in operands]
            seen.append((margin, _margin(n, node, OPS[op], [_middles(n, x) for x in balls])))

    Evaluator(a.graph, real).run(a.feeds, look)
    ((margin, exact),) = seen
    if exact is None:
        assert op in IN_FLOATS or not np.any(np.isfinite(margin))
        return
    found = np.array([float(v) for v in exact.flat]).reshape(np.shape(margin))
    np.testing.assert_allclose(found, margin, rtol=1e-9, atol=1e-12)
