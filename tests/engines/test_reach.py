"""How far inputs may be moved before they meet a kink."""

from dataclasses import replace

import numpy as np
import pytest

from gradcli.engines.base import around, reaches
from gradcli.graph import Builder, DType
from gradcli.ops import OPS
from gradcli.problem import Problem
from tests.engines.problems import problem


def reach(asked):
    return reaches(asked, around(asked))


def test_the_distance_to_the_plane_of_a_relu():
    w = np.array([[3.0, 1.0], [4.0, 1.0]])
    asked = problem(lambda b, v: b.op("Relu", b.op("MatMul", v, b.constant(w))), [[1.0, 2.0]])
    found = reach(asked)["x"]
    # 3 / sqrt(2) for the second, 11 / 5 for the first, whose margin is the larger one.
    assert found.distance == pytest.approx(3 / np.sqrt(2))
    assert (found.near.op, found.near.index, found.near.margin) == ("Relu", (0, 1), 3.0)


def test_the_nearest_is_not_the_one_of_the_smallest_margin():
    scale = np.array([100.0, 1.0])
    asked = problem(lambda b, v: b.op("Relu", v * b.constant(scale)), [0.1, 2.0])
    found = reach(asked)["x"]
    assert (found.near.index, found.near.margin) == ((0,), pytest.approx(10.0))
    assert found.distance == pytest.approx(0.1)


def test_two_that_would_tie_are_as_far_as_both_move():
    asked = problem(lambda b, v: b.op("ReduceMax", v, keepdims=0), [1.0, 5.0, 4.0])
    assert reach(asked)["x"].distance == pytest.approx(1 / np.sqrt(2))


def test_each_input_has_its_own():
    b = Builder(OPS)
    x, w = b.input("x", DType.FLOAT64, (2,)), b.input("w", DType.FLOAT64, (2,))
    y = b.rename(b.op("Relu", x * w), "y")
    point = {"x": np.array([1.0, 3.0]), "w": np.array([10.0, 2.0])}
    asked = Problem(
        *(None, b.graph([y]), ("x", "w"), ("y",), "jacobian", point, {}, {}, DType.FLOAT64)
    )
    found = reach(asked)
    assert {k: r.distance for k, r in found.items()} == pytest.approx({"x": 1.0, "w": 2.0})


def test_a_step_by_the_distance_arrives_at_the_kink():
    rng = np.random.default_rng(3)
    w, v = rng.standard_normal((5, 8)), rng.standard_normal((8, 8))
    x = rng.standard_normal((1, 5))

    def f(b, at):
        return b.op(
            "Relu", b.op("MatMul", b.op("Relu", b.op("MatMul", at, b.constant(w))), b.constant(v))
        )

    found = reach(problem(f, x))["x"]
    hidden = x @ w
    slopes = [w, w * (hidden > 0) @ v]
    margins = [hidden, np.maximum(hidden, 0) @ v]
    distances = [
        np.abs(m) / np.linalg.norm(s, axis=0) for m, s in zip(margins, slopes, strict=True)
    ]
    assert found.distance == pytest.approx(min(map(np.min, distances)))


def test_a_smooth_network_has_no_kink_to_meet():
    assert reach(problem(lambda b, v: b.op("Tanh", v), [1.0])) == {}


def test_a_point_on_a_kink_has_the_next_one():
    found = reach(problem(lambda b, v: b.op("Relu", v), [0.0, 2.0]))["x"]
    assert (found.distance, found.near.index) == (pytest.approx(2.0), (1,))


def test_among_many_the_nearest_is_found_however_large_its_margin():
    rng = np.random.default_rng(5)
    scale = 10.0 ** rng.uniform(-3, 3, 2000)
    x = rng.standard_normal(2000) + np.sign(rng.standard_normal(2000)) * 0.1
    x[1234], scale[1234] = 1e-4, 1e6  # its margin is larger than most
    asked = problem(lambda b, v: b.op("Relu", v * b.constant(scale)), x)
    found = reach(asked)["x"]
    assert found.near.index == (1234,)
    assert found.distance == pytest.approx(1e-4)
    assert found.estimated


def test_few_enough_are_all_looked_at():
    asked = problem(lambda b, v: b.op("Relu", v), [0.5, -0.25, 3.0])
    found = reach(asked)["x"]
    assert (found.distance, found.estimated) == (pytest.approx(0.25), False)


def test_one_of_a_dense_network_is_as_near_as_the_nearest_of_all():
    rng = np.random.default_rng(7)
    w, v = rng.standard_normal((6, 40)), rng.standard_normal((40, 40))
    x = rng.standard_normal((1, 6))
    hidden = np.maximum(x @ w, 0.0)
    active = (x @ w > 0).astype(float)
    first = np.abs(x @ w) / np.linalg.norm(w, axis=0)
    second = np.abs(hidden @ v) / np.linalg.norm((w * active) @ v, axis=0)
    asked = problem(
        lambda b, at: b.op(
            "Relu", b.op("MatMul", b.op("Relu", b.op("MatMul", at, b.constant(w))), b.constant(v))
        ),
        x,
    )
    nearest = min(float(first.min()), float(second.min()))
    assert reach(asked)["x"].distance == pytest.approx(nearest, rel=1e-6)


def test_what_is_certainly_off_its_kink_is_near_however_near():
    asked = problem(lambda b, v: b.op("Relu", v), [1e-12, 1e-30, 3.0])
    seen = around(asked)
    assert reaches(asked, seen)["x"].distance == pytest.approx(1e-12)
    near = seen.kink(next(iter(seen.margins)), (1,), 1e-30)
    near = replace(near, decided="off", within=1e-30)
    assert reaches(asked, seen, (near,))["x"].distance == pytest.approx(1e-30)
