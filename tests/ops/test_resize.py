"""What the table of rows does not reach of Resize."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli import transform
from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Graph
from gradcli.interpret import interpret
from gradcli.ops import OPS
from tests.ops import checks
from tests.ops.rows import TABLE
from tests.ops.table import Case, normal


def resized(x: np.ndarray, sizes: tuple[int, ...], **attrs: object) -> checks.Applied:
    case = Case((x, None, None, np.array(sizes, np.int64)), attrs)
    return checks.applied(TABLE["Resize"], case)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("sizes", [(9, 7), (2, 3), (3, 9)])
def test_a_policy_keeps_the_aspect_ratio(policy, mode, sizes):
    rng = np.random.default_rng(0)
    a = resized(
        normal(rng, (1, 2, 4, 5)), sizes, axes=(2, 3), keep_aspect_ratio_policy=policy, mode=mode
    )
    checks.check_types(a)
    checks.check_runtime(a)
    checks.check_jvp(a)
    checks.check_vjp(a)


def test_sizes_computed_from_a_shape_at_run_time():
    """As exporters write it: the batch and channels of the operand, and twice its height."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, ("N", 3, "H", "W"))
    tail = b.op("Shape", x, start=2, end=4) * b.ints([2])
    sizes = b.op("Concat", b.op("Shape", x, start=0, end=1), b.ints([3]), tail, axis=0)
    y = b.op("Resize", x, None, None, sizes, mode="linear", name="y")
    assert y.shape is not None
    assert y.shape[1] == 3
    graph = b.graph([y])
    point = normal(np.random.default_rng(1), (2, 3, 4, 5))
    known = transform.specialise(graph, {"x": point.shape})
    assert known.outputs[0].shape == (2, 3, 8, 10)
    y_bar = normal(np.random.default_rng(2), (2, 3, 8, 10))
    loose, fixed = (x_bar(g, point, y_bar) for g in (graph, known))
    np.testing.assert_allclose(loose, fixed, rtol=1e-12)


def x_bar(graph: Graph, x: np.ndarray, y_bar: np.ndarray) -> np.ndarray:
    d = transform.vjp(graph)
    return interpret(d.graph, {"x": x, d.directions["y"]: y_bar})[d.results["x"]]


@pytest.mark.parametrize("shape", [("N", "C", "H", "W"), (2, 3, 4, 5)])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "half_pixel_symmetric"])
def test_the_transpose_of_repeating_elements_is_a_pool(shape, coordinates):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, shape)
    scales = b.constant(np.array([1, 1, 2, 3], np.float32))
    rounding = "floor" if coordinates == "asymmetric" else "round_prefer_floor"
    y = b.op(
        "Resize",
        x,
        None,
        scales,
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding,
        name="y",
    )
    graph = b.graph([y])
    assert {node.op for node in transform.vjp(graph).graph.nodes} >= {"AveragePool"}
    rng = np.random.default_rng(3)
    y_bar = normal(rng, (2, 3, 8, 15))
    wanted = y_bar.reshape(2, 3, 4, 2, 5, 3).sum(axis=(3, 5))
    found = x_bar(graph, normal(rng, (2, 3, 4, 5)), y_bar)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


REGION = np.array([0.17, 0.24, 0.87, 1.26])


def cropped(mode: str, region: np.ndarray, **attrs: object) -> checks.Applied:
    attrs |= {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": mode}
    x = normal(np.random.default_rng(4), (2, 1, 5, 4))
    sizes = np.array([3, 6], np.int64)
    case = Case((x, region, None, sizes), {"axes": (2, 3), "extrapolation_value": 0.5, **attrs})
    return checks.applied(TABLE["Resize"], case)


@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_a_region_that_moves_moves_the_weights(mode, exclude):
    """From inside the operand to beyond it, where the result is a constant."""
    a = cropped(mode, REGION, **({"exclude_outside": exclude} if mode == "cubic" else {}))
    assert np.any(a.primal()["y"] == 0.5)
    checks.check_runtime(a)
    checks.check_jvp(a)
    checks.check_vjp(a)
    checks.check_second_order(a)
    checks.check_expansion(a)
    checks.check_derivative_runtime(a)
    for graph in (transform.jvp(a.graph).graph, transform.vjp(a.graph).graph):
        assert [node.op for node in transform.simplify(graph).nodes].count("Resize") == 1


def test_one_element_of_a_region_stands_in_its_middle():
    case = Case(
        (normal(np.random.default_rng(4), (1, 1, 5, 4)), REGION, None, np.array([1, 1])),
        {"axes": (2, 3), "coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"},
    )
    a = checks.applied(TABLE["Resize"], case)
    checks.check_runtime(a)
    checks.check_jvp(a)
    checks.check_vjp(a)


def test_a_region_takes_whole_elements_where_the_nearest_is_taken():
    a = cropped("nearest", REGION)
    for transformed in (transform.jvp(a.graph, ["x1"]), transform.vjp(a.graph, ["x1"])):
        assert not transformed.results
    checks.check_jvp(a)
    checks.check_vjp(a)


def test_a_region_over_sizes_known_only_at_run_time_is_refused():
    b = Builder(OPS)
    x, region = b.input("x", DType.FLOAT64, ("N", 1, "H", 4)), b.input("r", DType.FLOAT64, (4,))
    how = {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear"}
    sizes = b.constant(np.array([3, 6]))
    graph = b.graph([b.op("Resize", x, region, None, sizes, axes=(2, 3), name="y", **how)])
    for rule in (transform.jvp, transform.vjp):
        with pytest.raises(UnsupportedError, match="region of interest"):
            rule(graph, ["r"])
        assert rule(graph, ["x"]).results
