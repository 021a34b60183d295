"""Attention where onnxruntime cannot be asked, and where nothing may be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Graph
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import expand, jvp, vjp

RNG = np.random.default_rng(5)
Q, K, V = (RNG.standard_normal(d) for d in ((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 2)))


def attention(mask: np.ndarray | None, outputs: int = 1, **attrs: Any) -> Graph:
    b = Builder(OPS)
    q, k, v = (b.input(n, DType.FLOAT64, x.shape) for n, x in zip("qkv", (Q, K, V), strict=True))
    m = None if mask is None else b.constant(mask)
    return b.graph(b.ops("Attention", q, k, v, m, outputs=outputs, name="y", **attrs))


FEEDS = {"q": Q, "k": K, "v": V}


def first(graph: Graph) -> np.ndarray:
    return next(iter(interpret(graph, FEEDS).values()))


def derivatives(graph: Graph) -> Mapping[str, np.ndarray]:
    d = vjp(graph)
    ones = {d.directions["y"]: np.ones((1, 2, 3, 2))}
    out = interpret(d.graph, {**FEEDS, **ones})
    return {name: out[bar] for name, bar in d.results.items()}


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_that_sees_nothing_gives_0_and_moves_nothing(kind):
    allowed = np.ones((3, 5), np.bool_)
    allowed[1] = False
    graph = attention(allowed if kind == "bool" else np.where(allowed, 0.5, -np.inf))
    assert first(graph)[:, :, 1].tolist() == [[[0.0, 0.0]] * 2]
    bars = derivatives(graph)
    assert not np.any(bars["q"][:, :, 1])
    assert all(np.isfinite(bar).all() for bar in bars.values())
    # Without that query everything else is as it was.
    rest = derivatives(attention(allowed[[0, 2, 2]]))
    weights = interpret(attention(allowed, 4, qk_matmul_output_mode=3), FEEDS)
    p = list(weights.values())[3]
    np.testing.assert_allclose(bars["q"][:, :, [0, 2]], rest["q"][:, :, [0, 2]], rtol=1e-12)
    np.testing.assert_allclose(bars["v"], p.sum(2)[..., None] * np.ones(2), rtol=1e-12)
    d = jvp(graph)
    out = interpret(d.graph, FEEDS | {d.directions[n]: np.ones(x.shape) for n, x in FEEDS.items()})
    assert np.isfinite(out[d.results["y"]]).all()


def test_a_lost_key_may_hold_anything():
    allowed = np.array([True, True, False, True, True])
    k = K.copy()
    k[:, :, 2] = np.nan
    out = interpret(attention(allowed), {**FEEDS, "k": k})
    np.testing.assert_array_equal(next(iter(out.values())), first(attention(allowed)))


def test_a_mask_of_whole_numbers_is_added():
    mask = RNG.integers(-3, 3, (3, 5))
    for graph in (attention(mask), expand(attention(mask))):
        np.testing.assert_allclose(first(graph), first(attention(mask * 1.0)), rtol=1e-12)


def test_a_mask_that_ends_early_forbids_the_rest():
    short, whole = np.ones((3, 4), np.bool_), np.ones((3, 5), np.bool_)
    whole[:, 4] = False
    for graph in (attention(short), expand(attention(short))):
        np.testing.assert_allclose(first(graph), first(attention(whole)), rtol=1e-12)


def test_three_dimensions_need_numbers_of_heads():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (1, 3, 4))
    with pytest.raises(UnsupportedError, match="needs its numbers of heads"):
        b.op("Attention", x, x, x)
