"""What the table of operators cannot ask of scatters: products with zeros among the factors."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.engines.base import shaken
from gradcli.interpret import interpret
from gradcli.numbers import real
from gradcli.ops import OPS
from gradcli.transform import jvp, vjp
from tests.engines.problems import estimate, problem
from tests.ops.checks import applied
from tests.ops.rows import TABLE
from tests.ops.table import Case

X = np.array([2.0, 3.0, 5.0, 7.0])
UPDATES = np.array([0.0, 4.0, 0.0, 0.0, 6.0])
AT = np.array([0, 0, 1, 1, 2], np.int64)
IN_UPDATES = np.array([2.0 * 4.0, 0.0, 0.0, 0.0, 5.0])
IN_X = np.array([0.0, 0.0, 6.0, 1.0])


@pytest.mark.parametrize(
    ("op", "at"), [("ScatterElements", AT), ("ScatterND", AT[:, None])], ids=["elements", "nd"]
)
def test_a_product_with_zeros_has_its_exact_derivative(op, at):
    a = applied(TABLE[op], Case((X, at, UPDATES), {"reduction": "mul"}))
    back, ahead = vjp(a.graph), jvp(a.graph)
    (y,) = a.smooth
    out = interpret(back.graph, {**a.feeds, back.directions[y]: np.ones(4)})
    np.testing.assert_array_equal(out[back.results["x0"]], IN_X)
    np.testing.assert_array_equal(out[back.results["x2"]], IN_UPDATES)
    dots = {ahead.directions["x0"]: np.ones(4), ahead.directions["x2"]: np.ones(5)}
    out = interpret(ahead.graph, {**a.feeds, **dots})
    assert np.sum(out[ahead.results[y]]) == np.sum(IN_X) + np.sum(IN_UPDATES)


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_of_updates_at_one_place_the_last_stands(op):
    """The standard leaves it open; files have it, and onnxruntime does this."""

    def f(b, v):
        at = np.array([0, 2, -4, 2, 1])[:, None]
        at = np.tile(at, (1, 2)) if op == "ScatterElements" else at
        rows = b.op("Reshape", v, b.ints([5, 2]))
        return b.op(op, b.constant(np.ones((4, 2))), b.constant(at), rows)

    asked = problem(f, np.arange(10.0))
    back, ahead, witness = (
        estimate(engine, asked).blocks["y", "x"]
        for engine in ("reverse", "forward", "complex-step")
    )
    assert np.sum(witness) == 6.0
    np.testing.assert_array_equal(back, witness)
    np.testing.assert_array_equal(ahead, witness)


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_only_sums_and_products_are_shaken(op, reduction):
    table = shaken(OPS, np.random.default_rng(0))
    at = AT if op == "ScatterElements" else AT[:, None]
    attrs = OPS.attributes(op, {"reduction": reduction})
    updates = np.arange(1.0, 6.0)
    plain, restless = OPS[op].impl, table[op].impl
    assert plain is not None
    assert restless is not None
    exact = plain(real, X, at, updates, **attrs)
    moved = restless(real, X, at, updates, **attrs)
    assert np.array_equal(exact, moved) == (reduction not in ("add", "mul"))
