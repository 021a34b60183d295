"""Every row of the table fires where it should, nowhere else, and computes the same in float32.

Both graphs run in onnxruntime: it is the kernels that differ at zeros, infinities and NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gradcli import runtime
from gradcli.graph import Builder, DType, Graph, Shape, Var
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import jvp, simplify, tune, vjp, vmap
from gradcli.transform.tune import ROWS

F32, F64 = DType.FLOAT32, DType.FLOAT64
Arrays = Mapping[str, np.ndarray]
Make = Callable[[Builder, Var], Var]

NAMES = list(dict.fromkeys(row.name for rows in ROWS.values() for row in rows))


def graph(make: Make, shape: Shape = (2, 3), dtype: DType = F32) -> Graph:
    b = Builder(OPS)
    y = make(b, b.input("x", dtype, shape))
    return b.graph([b.rename(y, "y")])


def derivative(make: Make, shape: Shape = (2, 3), dtype: DType = F32, mode: str = "vjp") -> Graph:
    """The simplified derivative graph, as it comes to be tuned."""
    g = graph(make, shape, dtype)
    return simplify((jvp if mode == "jvp" else vjp)(g).graph)


def fired(g: Graph) -> tuple[set[str], Graph]:
    """The names of the rows that rewrite something in a graph, and the tuned graph."""
    names: set[str] = set()

    def watched(row: Any) -> Any:
        def rewrite(t: Any, node: Any) -> Any:
            made = row.rewrite(t, node)
            if made is not None:
                names.add(row.name)
            return made

        return replace(row, rewrite=rewrite)

    before = dict(ROWS)
    try:
        ROWS.update({op: tuple(map(watched, rows)) for op, rows in before.items()})
        fast = tune(g, cpu_threads=1)
    finally:
        ROWS.update(before)
    return names, fast


def ran(g: Graph, feeds: Arrays) -> dict[str, np.ndarray]:
    typed = {v.name: feeds[v.name].astype(v.dtype.np) for v in g.inputs}
    return runtime.prepare(g).run(typed)


def random_feeds(g: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = {v.name: [d if isinstance(d, int) else 4 for d in v.shape or ()] for v in g.inputs}
    return {name: rng.standard_normal(size) for name, size in sizes.items()}


def conv(channels: int, made: int, kernel: int = 3, dtype: DType = F32, **how: Any) -> Make:
    group = how.get("group", 1)
    w = np.random.default_rng(0).standard_normal((made, channels // group, kernel, kernel))
    return lambda b, x: b.op("Conv", x, b.constant(w, dtype), kernel_shape=(kernel, kernel), **how)


def pool(op: str, **how: Any) -> Make:
    return lambda b, x: b.op(op, x, **{"kernel_shape": (2, 2), "strides": (2, 2), **how})


def relu_then_pool(b: Builder, x: Var) -> Var:
    return b.op("MaxPool", b.op("Relu", x), kernel_shape=(3, 3), strides=(2, 2))


def pad(b: Builder, x: Var) -> Var:
    return b.op("Pad", x, b.ints([1, 0, 2, 1]), None, b.ints([-1, 0]))


def scatter(b: Builder, x: Var) -> Var:
    zeros = b.constant(np.zeros(4), x.dtype)
    return b.op("ScatterElements", zeros, b.ints([0, 2, 0]), x, reduction="max")


def clip(b: Builder, x: Var) -> Var:
    return b.op("Clip", x, b.constant(-0.5, F32), b.constant(0.5, F32))


def shrink(b: Builder, x: Var) -> Var:
    return b.op("Shrink", x, lambd=0.5)


def clipped(low: float | None, high: float | None) -> Make:
    def body(b: Builder, x: Var) -> Var:
        bounds = [None if bound is None else b.constant(bound, F32) for bound in (low, high)]
        return b.op("Clip", x, *bounds)

    return body


def lookup(b: Builder, x: Var) -> Var:
    """Rows, some of them twice and some counted from the end."""
    at = b.op("ArgMax", x, axis=1, keepdims=0) - b.ints([1])
    return b.op("Gather", x, at, axis=0)


def swish(b: Builder, x: Var) -> Var:
    return x * b.op("Sigmoid", x)


def overlapping(**how: Any) -> Make:
    """A MaxPool behind a ReLU: windows of 3 by 3, every second, unless it is said otherwise."""
    windows = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), **how}
    return lambda b, x: b.op("MaxPool", b.op("Relu", x), **windows)


def stem(dtype: DType = F32, kernel: int = 7, strides: tuple[int, int] = (2, 2)) -> Make:
    """A long convolution, ReLU and a pool of overlapping windows, as residual networks begin."""
    pads = (kernel // 2,) * 4
    body = conv(3, 16, kernel, dtype, strides=strides, pads=pads)
    return lambda b, x: overlapping()(b, body(b, x))


PIXELS = (2, 3, 16, 24)
IMAGE = (2, 8, 6, 6)
BLOCKS = (2, 16, 6, 6)

FIRES: Mapping[str, tuple[Graph, float]] = {
    # The graph, and how much summing in another order may move a result.
    "ReLU mask before a MaxPool": (derivative(relu_then_pool, IMAGE), 1e-6),
    "ReLU mask as a step": (derivative(lambda b, x: b.op("Relu", x)), 0.0),
    "Clip's mask as steps": (derivative(clip), 0.0),
    "mask as a product": (derivative(shrink), 0.0),
    "Gelu's slope without its left tail apart": (derivative(lambda b, x: b.op("Gelu", x)), 1e-6),
    "HardSwish's slope as a line and steps": (
        derivative(lambda b, x: b.op("HardSwish", x)),
        1e-6,
    ),
    "Tanh's slope from its result": (derivative(lambda b, x: b.op("Tanh", x)), 1e-6),
    "what a MaxPool sends back, where windows do not overlap": (
        derivative(pool("MaxPool"), IMAGE),
        0.0,
    ),
    "padding given for all axes": (graph(pad), 0.0),
    "float16 scattered in float32": (graph(scatter, (3,), DType.FLOAT16), 0.0),
    "no ceil_mode where it adds no window": (
        graph(pool("AveragePool", ceil_mode=1, pads=(1, 1, 1, 1)), (2, 3, 5, 5)),
        0.0,
    ),
    "transposed convolution of stride 1 as a convolution": (
        derivative(conv(8, 8, pads=(1, 1, 1, 1)), IMAGE),
        1e-5,
    ),
    "transposed convolution of another stride into blocked layout": (
        derivative(conv(16, 8, strides=(2, 2)), BLOCKS),
        1e-6,
    ),
    "what a MaxPool of overlapping windows behind a ReLU sends back, in blocked layout": (
        derivative(overlapping(), BLOCKS),
        1e-6,
    ),
    "transposed convolution of phases": (derivative(stem(), PIXELS), 1e-4),
    "a common factor of a sum, once": (derivative(swish), 1e-6),
    "unpooling by repetition": (derivative(pool("AveragePool"), IMAGE), 0.0),
    "rows added as rows, or as elements of a flat tensor": (derivative(lookup, (5, 3)), 0.0),
}


def test_every_row_has_its_case():
    assert sorted(FIRES) == sorted(NAMES)
    for rows in ROWS.values():
        assert all(row.figure and row.differs for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_it_fires_and_computes_the_same(name: str):
    plain, slack = FIRES[name]
    names, fast = fired(plain)
    assert name in names
    assert fast.outputs[-1].name == plain.outputs[-1].name
    for seed in range(3):
        feeds = random_feeds(plain, seed)
        got = ran(fast, feeds)
        for key, want in ran(plain, feeds).items():
            assert got[key].dtype == want.dtype
            np.testing.assert_allclose(got[key], want, rtol=slack, atol=slack, err_msg=key)
    assert fired(fast)[0] <= {
        "padding given for all axes",
        "transposed convolution of another stride into blocked layout",
    }


ANY_WIDTH = {"padding given for all axes", "no ceil_mode where it adds no window"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - ANY_WIDTH))
def test_in_float64_nothing_is_tuned(name: str):
    """onnxruntime lacks the kernels there, and every digit is wanted."""
    makes: Mapping[str, tuple[Make, Shape]] = {
        "ReLU mask before a MaxPool": (relu_then_pool, IMAGE),
        "ReLU mask as a step": (lambda b, x: b.op("Relu", x), (2, 3)),
        "Clip's mask as steps": (lambda b, x: b.op("Clip", x, b.constant(0.0), None), (2, 3)),
        "mask as a product": (shrink, (2, 3)),
        "float16 scattered in float32": (scatter, (3,)),
        "Gelu's slope without its left tail apart": (lambda b, x: b.op("Gelu", x), (2, 3)),
        "HardSwish's slope as a line and steps": (lambda b, x: b.op("HardSwish", x), (2, 3)),
        "Tanh's slope from its result": (lambda b, x: b.op("Tanh", x), (2, 3)),
        "what a MaxPool sends back, where windows do not overlap": (pool("MaxPool"), IMAGE),
        "unpooling by repetition": (pool("AveragePool"), IMAGE),
        "rows added as rows, or as elements of a flat tensor": (lookup, (5, 3)),
        "what a MaxPool of overlapping windows behind a ReLU sends back, in blocked layout": (
            overlapping(),
            BLOCKS,
        ),
        "transposed convolution of phases": (stem(F64), PIXELS),
        "a common factor of a sum, once": (swish, (2, 3)),
        "transposed convolution of stride 1 as a convolution": (conv(8, 8, dtype=F64), IMAGE),
        "transposed convolution of another stride into blocked layout": (
            conv(16, 8, dtype=F64, strides=(2, 2)),
            BLOCKS,
        ),
    }
    make, shape = makes[name]
    assert name not in fired(derivative(make, shape, F64))[0]


# ---- at zeros, infinities and NaN ---------------------------------------------------------------

NORMAL = [0.0, -0.0, 1.0, -1.0, 0.3, np.inf, -np.inf, 2.0**-126, -(2.0**-126), 3e38]
SUBNORMAL = [1e-40, -1e-40, 2.0**-149]
EVERYTHING = [*NORMAL, *SUBNORMAL, np.nan]


def grid(xs: list[float], ds: list[float]) -> tuple[np.ndarray, np.ndarray]:
    x, d = np.meshgrid(np.array(xs, np.float32), np.array(ds, np.float32), indexing="ij")
    return x.reshape(-1), d.reshape(-1)


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Equal, zeros of either sign, and NaN to NaN."""
    return np.asarray((a == b) | (np.isnan(a) & np.isnan(b)))


MASKS: Mapping[str, tuple[Make, str]] = {
    "Relu": (lambda b, x: b.op("Relu", x), "ReLU mask as a step"),
    "Shrink": (shrink, "mask as a product"),
    "Clip": (clip, "Clip's mask as steps"),
    "Relu6": (clipped(0.0, 6.0), "Clip's mask as steps"),
    "above 0": (clipped(0.0, None), "Clip's mask as steps"),
    "below 3": (clipped(None, 3.0), "Clip's mask as steps"),
    "0 to 1": (clipped(0.0, 1.0), "Clip's mask as steps"),
    "far apart": (clipped(-(2.0**30), 1e9), "Clip's mask as steps"),
}


@pytest.mark.parametrize("op", MASKS)
@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize("blocked", [False, True])
def test_masks_differ_only_where_the_row_says(op: str, mode: str, blocked: bool):
    make, row = MASKS[op]
    plain = derivative(make, (1, 16, 1, "N") if blocked else ("N",), mode=mode)
    names, fast = fired(plain)
    assert names == {row}
    hat = blocked and op in ("Relu6", "0 to 1")
    assert ("FusedConv" in {n.op for n in fast.nodes}) is hat
    bounds = np.array([-(2.0**30), -0.5, 0.5, 1.0, 3.0, 6.0, 1e9], np.float32)
    near = [*bounds, *np.nextafter(bounds, np.float32(np.inf)), *np.nextafter(bounds, -bounds)]
    x, d = grid([*EVERYTHING, *map(float, near)], EVERYTHING)
    if blocked:
        x, d = (np.tile(v, (1, 16, 1, 1)) for v in (x, d))
    name = plain.outputs[-1].name
    feeds = {"x": x, "y_bar": d, "x_dot": d}
    want, got = (ran(g, feeds)[name] for g in (plain, fast))
    unequal = ~same(got, want)
    extreme = ~np.isfinite(d) | np.isnan(x)
    at_zero = op in ("Relu", "Relu6", "above 0", "0 to 1")
    subnormal = (np.abs(x) < 2.0**-126) & (x > 0.0) & at_zero
    assert not np.any(unequal & ~extreme & ~subnormal)
    assert np.all(np.isnan(got[unequal & extreme & ~subnormal]))
    if at_zero:
        between = subnormal & ~extreme
        assert np.any(unequal & between)
        assert np.all(np.abs(got[between]) <= np.abs(want[between]))


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
def test_each_of_two_clips_of_one_x_has_its_own_mask(mode: str):
    def both(b: Builder, x: Var) -> Var:
        return clip(b, x) * 2.0 + clipped(0.0, 6.0)(b, x)

    plain = derivative(both, ("N",), mode=mode)
    names, fast = fired(plain)
    assert "Clip's mask as steps" in names
    x = np.array([-9.0, -0.25, 0.25, 1.0, 9.0], np.float32)
    feeds, name = dict.fromkeys(("y_bar", "x_dot"), np.ones(5, np.float32)), plain.outputs[-1].name
    for graph in (plain, fast):
        got = ran(graph, {"x": x, **feeds})[name]
        np.testing.assert_array_equal(got, [0.0, 2.0, 3.0, 1.0, 0.0])


@pytest.mark.parametrize(("op", "mode"), [(o, m) for o in ("Tanh", "Gelu") for m in ("jvp", "vjp")])
def test_slopes_differ_by_no_more_than_the_row_says(op: str, mode: str):
    plain = derivative(lambda b, x: b.op(op, x), ("N",), mode=mode)
    names, fast = fired(plain)
    assert names
    xs = [*EVERYTHING, *np.linspace(-20.0, 20.0, 401)]
    x, d = grid(xs, [1.0, -1.0, 0.0])
    feeds, name = {"x": x, "y_bar": d, "x_dot": d}, plain.outputs[-1].name
    want, got = (ran(g, feeds)[name] for g in (plain, fast))
    finite = np.isfinite(x)
    np.testing.assert_allclose(got[finite], want[finite], rtol=0.0, atol=5e-7)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
def test_hard_swish_s_slope_is_the_same_from_end_to_end(mode: str):
    """At its ends and beyond them, infinities too, exactly."""
    plain = derivative(lambda b, x: b.op("HardSwish", x), ("N",), mode=mode)
    names, fast = fired(plain)
    assert names == {"HardSwish's slope as a line and steps"}
    ends = np.array([-3.0, 3.0], np.float32)
    near = [
        *ends,
        *np.nextafter(ends, np.float32(np.inf)),
        *np.nextafter(ends, -np.float32(np.inf)),
    ]
    x, d = grid([*EVERYTHING, *map(float, near), *np.linspace(-4.0, 4.0, 401)], [1.0, -1.0, 0.0])
    feeds, name = {"x": x, "y_bar": d, "x_dot": d}, plain.outputs[-1].name
    want, got = (ran(g, feeds)[name] for g in (plain, fast))
    known = ~np.isnan(x)
    np.testing.assert_allclose(got[known], want[known], rtol=0.0, atol=2e-7)
    beyond = np.abs(x) >= 3.0
    np.testing.assert_array_equal(got[beyond], want[beyond])
    assert np.all(np.isnan(got[~known]))


def test_moved_values_are_the_same_whatever_they_are():
    values = np.array(EVERYTHING, np.float32)
    for name in ("padding given for all axes", "unpooling by repetition"):
        plain, _ = FIRES[name]
        fast = tune(plain)
        feeds: dict[str, np.ndarray] = {}
        for v in plain.inputs:
            feeds[v.name] = np.resize(values, [int(d) for d in v.shape or ()])
        result = plain.outputs[-1].name
        want, got = (ran(g, feeds)[result] for g in (plain, fast))
        assert np.all(same(got, want))


def test_rows_are_added_by_places_known_only_at_run_time():
    def looked_up(b: Builder, x: Var) -> Var:
        at = b.op("NonZero", b.op("Greater", x, b.constant(0.0, F32)))
        return b.op("Gather", x, b.op("Gather", at, b.ints([0]), axis=0), axis=0)

    plain = derivative(looked_up, ("N", 3))
    assert fired(plain)[0] == {"rows added as rows, or as elements of a flat tensor"}
    feeds = {"x": np.array([[1.0, -1.0, 2.0], [1.0, 1.0, 1.0]])}
    feeds["y_bar"] = np.random.default_rng(0).standard_normal((1, 5, 3))
    want, got = (ran(g, feeds)["x_bar"] for g in (plain, fired(plain)[1]))
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("cpu_threads", [1, 2, None])
def test_places_of_rows_may_be_int32(cpu_threads: int | None):
    plain = derivative(
        lambda b, x: b.op("Gather", x, b.cast(b.op("ArgMax", x, axis=1, keepdims=0), DType.INT32)),
        (5, 3),
    )
    fast = tune(plain, cpu_threads=cpu_threads)
    assert "Expand" not in {n.op for n in fast.nodes}
    feeds = random_feeds(plain)
    want, got = (ran(g, feeds)["x_bar"] for g in (plain, fast))
    np.testing.assert_array_equal(got, want)


def test_on_several_threads_rows_are_not_added_by_scatternd():
    """There it loses updates: their elements are added one by one."""
    plain = derivative(lookup, (5, 3))
    fast = tune(plain)
    ops = [n.op for n in fast.nodes]
    assert "ScatterElements" in ops
    assert not {"ScatterND", "Expand"} & set(ops)
    feeds = random_feeds(plain)
    want, got = (ran(g, feeds)["x_bar"] for g in (plain, fast))
    np.testing.assert_array_equal(got, want)


# ---- conditions ---------------------------------------------------------------------------------


def test_a_network_s_own_where_stays_as_it_is():
    """Where(x > 0, log x, 0) keeps an infinity away: a product would make it NaN."""

    def make(b: Builder, x: Var) -> Var:
        kept = b.where(x > 0.0, b.op("Log", x), 0.0)
        return kept + b.op("Relu", x)

    x = np.array([0.0, -1.0, 2.0], np.float32)
    for mode in ("jvp", "vjp"):
        plain = derivative(make, (3,), mode=mode)
        fast = tune(plain)
        feeds: Arrays = {"x": x, "x_dot": np.ones(3), "y_bar": np.ones(3)}
        got = ran(fast, feeds)
        np.testing.assert_allclose(got["y"], [0.0, 0.0, np.log(2.0) + 2.0], rtol=1e-6)
        if mode == "jvp":
            np.testing.assert_allclose(got["y_dot"], [0.0, 0.0, 1.5], rtol=1e-6)
    assert not fired(simplify(graph(make, (3,))))[0]


def test_a_network_s_own_sigmoids_stay_as_they_are():
    def make(b: Builder, x: Var) -> Var:
        twice = x * 2.0
        product = b.op("Mul", b.op("Sigmoid", twice), b.op("Sigmoid", -twice)) * 4.0
        return b.op("Mul", product, b.op("Tanh", x))

    assert not fired(simplify(graph(make)))[0]


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_a_sum_scattered_in_float16_runs(op: str):
    """onnxruntime makes a session of it, and refuses it when it runs."""

    def make(b: Builder, x: Var) -> Var:
        places = [3, 0, 3] if op == "ScatterElements" else [[3], [0], [3]]
        ones = b.constant(np.ones(4), x.dtype)
        return b.op(op, ones, b.constant(np.array(places)), x, reduction="add")

    g = graph(make, (3,), DType.FLOAT16)
    np.testing.assert_array_equal(ran(tune(g), {"x": np.array([1, 2, 4])})["y"], [3, 1, 1, 6])


def added(b: Builder, x: Var, at: list[int], updates: tuple[int, int]) -> Var:
    indices = b.op("Expand", b.op("Abs", b.constant(np.array(at)[:, None])), b.ints(updates))
    more = b.constant(np.ones(updates), F32)
    return b.op("ScatterElements", x, indices, more, reduction="add")


def one_place(b: Builder, x: Var) -> Var:
    return added(b, x, [1], (2, 3))


def short_rows(b: Builder, x: Var) -> Var:
    return added(b, x, [1, 1], (2, 2))


STAY: Mapping[str, Graph] = {
    "a mask of other numbers": derivative(lambda b, x: b.where(x > 0.0, x, 1.0)),
    "overlapping windows": derivative(pool("AveragePool", strides=(1, 1)), (2, 3, 6, 6)),
    "a stride of 2": derivative(conv(8, 8, strides=(2, 2)), IMAGE),
    "few channels": derivative(conv(3, 8), (2, 3, 6, 6)),
    "more padding than the kernel reaches": derivative(
        conv(8, 8, kernel=1, pads=(1, 1, 1, 1)), IMAGE
    ),
    "windows that reach beyond": derivative(pool("MaxPool", ceil_mode=1), (2, 3, 5, 5)),
    "a window that ceil_mode adds": graph(pool("AveragePool", ceil_mode=1), (2, 3, 5, 5)),
    "one place spread over several rows": graph(one_place, (4, 3)),
    "rows cut short": graph(short_rows, (4, 3)),
    "a sum of products of different shapes": derivative(
        lambda b, x: x * b.op("ReduceSum", x, b.ints([1]), keepdims=1)
    ),
    "padding of all axes": graph(lambda b, x: b.op("Pad", x, b.ints([1, 0, 2, 1]))),
}


@pytest.mark.parametrize("case", STAY)
def test_where_a_condition_does_not_hold_the_graph_stays(case: str):
    names, fast = fired(STAY[case])
    assert not names
    assert [n.op for n in fast.nodes] == [n.op for n in simplify(STAY[case]).nodes]


def test_pads_over_some_axes_run_as_they_should_behind_a_transpose():
    """The fault that the row goes around: a Transpose is moved through Pad without its axes."""

    def make(b: Builder, x: Var) -> Var:
        return pad(b, b.transpose(x, [1, 0]))

    fast = tune(simplify(graph(make)))
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    want = np.pad(x.T, [(0, 1), (1, 2)])
    np.testing.assert_array_equal(ran(fast, {"x": x})["y"], want)
    for mode in ("constant", "edge", "reflect", "wrap"):

        def padded(b: Builder, x: Var, mode: str = mode) -> Var:
            fill = b.constant(7.0, F32) if mode == "constant" else None
            return b.op("Pad", x, b.ints([1, 2]), fill, b.ints([1]), mode=mode)

        g = graph(padded)
        assert fired(g)[0] == {"padding given for all axes"}
        how: Any = {"constant_values": 7.0} if mode == "constant" else {}
        got = ran(tune(g), {"x": x})["y"]
        np.testing.assert_array_equal(got, np.pad(x, [(0, 0), (1, 2)], mode=mode, **how))


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize("padding", [0, 1])
def test_ceil_mode_runs(op: str, padding: int, mode: str):
    """Not so MaxUnpool for windows that reach beyond, nor a Reshape of more than there is."""
    g = graph(pool(op, ceil_mode=1, pads=(padding,) * 4), (2, 3, 5, 5))
    d = (jvp if mode == "jvp" else vjp)(g)
    for one in (d.graph, vmap(d.graph, d.directions.values(), 3)):
        plain = simplify(one)
        feeds = random_feeds(plain)
        want, got = interpret(plain, feeds), ran(tune(plain), feeds)
        for name in d.results.values():
            np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "strides"), [(7, (1, 2)), (7, (2, 1)), (5, (1, 1)), (3, (2, 2))]
)
def test_of_phases_other_strides_send_back_the_same(kernel: int, strides: tuple[int, int]):
    size = (2, 3, 8 * strides[0], 12 * strides[1])
    plain = derivative(stem(kernel=kernel, strides=strides), size)
    names, fast = fired(plain)
    # Of a short kernel the longer one would have too many more numbers.
    assert ("transposed convolution of phases" in names) is (kernel > 3)
    feeds = random_feeds(plain)
    want, got = (ran(g, feeds)["x_bar"] for g in (plain, fast))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Make, Shape]:
    rank = draw(st.integers(1, 2))
    group = draw(st.sampled_from([1, 1, 2, 4]))
    inner, outer = (group * draw(st.integers(1, 8)) for _ in range(2))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilations = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    strides = tuple(draw(st.sampled_from([1, 1, 1, 2])) for _ in range(rank))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(2 * rank))
    size = tuple(draw(st.integers(5, 7)) for _ in range(rank))
    w = np.random.default_rng(0).standard_normal((outer, inner // group, *kernel))

    def make(b: Builder, x: Var) -> Var:
        return b.op(
            "Conv",
            x,
            b.constant(w, F32),
            kernel_shape=kernel,
            dilations=dilations,
            strides=strides,
            pads=pads,
            group=group,
        )

    return make, (2, inner, *size)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(convolutions())
def test_convolutions_of_every_kind_send_back_the_same(drawn):
    plain = derivative(*drawn)
    names, fast = fired(plain)
    assume(any(n.op == "ConvTranspose" for n in plain.nodes))
    node = next(n for n in plain.nodes if n.op == "ConvTranspose")
    plain_stride = all(s == 1 for s in node.attrs["strides"] or (1,))
    assert plain_stride or "transposed convolution of stride 1 as a convolution" not in names
    feeds = random_feeds(plain)
    want, got = (ran(g, feeds)["x_bar"] for g in (plain, fast))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolutions_with_groups_are_turned(group: int, dilation: int):
    make = conv(8, 16, group=group, dilations=(dilation, dilation), pads=(1, 0, 2, 1))
    plain = derivative(make, (2, 8, 9, 8))
    names, fast = fired(plain)
    assert names == {"transposed convolution of stride 1 as a convolution"}
    assert "ConvTranspose" not in [n.op for n in fast.nodes]
    feeds = random_feeds(plain)
    want, got = (ran(g, feeds)["x_bar"] for g in (plain, fast))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
