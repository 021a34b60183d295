"""How the operators of gradcli/ops/qlinear.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.contrib import MS
from tests.ops.rows.elementwise import of
from tests.ops.rows.quantize import draw_dynamic, draw_qlinear_conv, integers, pair_of_types
from tests.ops.table import Case, Kink, Row, normal, shape


def kind(rng: np.random.Generator) -> str:
    """Eight bits of either kind."""
    return str(rng.choice(["uint8", "int8"]))


def scale(rng: np.random.Generator, low: float = 0.02, high: float = 0.1) -> np.ndarray:
    """Of a whole tensor."""
    return np.asarray(rng.uniform(low, high))


def zero(rng: np.random.Generator, name: str) -> np.ndarray:
    """Of a whole tensor."""
    return integers(rng, name, ())


def one(*, low: float = 0.02, high: float = 0.1, rank: int | None = None, **attrs: Any) -> Any:
    """A tensor, its scale and zero point, and those of the result between these limits."""

    def draw(rng: np.random.Generator) -> Case:
        name = kind(rng)
        dims = shape(rng) if rank is None else shape(rng, rank=rank, low=2)
        given = {key: value(rng) if callable(value) else value for key, value in attrs.items()}
        inputs = (
            *(integers(rng, name, dims), scale(rng), zero(rng, name)),
            *(scale(rng, low, high), zero(rng, name)),
        )
        return Case(inputs, given, fixed=(1, 3))

    return draw


def two(rng: np.random.Generator) -> Case:
    """Tensors that broadcast, with and without zero points of operands."""
    name = kind(rng)
    dims = shape(rng)
    other = tuple(1 if rng.random() < 0.3 else d for d in dims)[int(rng.integers(len(dims) + 1)) :]
    zeros = [zero(rng, name) for _ in range(3)]
    inputs = (
        *(integers(rng, name, dims), scale(rng), zeros[0]),
        *(integers(rng, name, other), scale(rng), zeros[1]),
        *(scale(rng), zeros[2]),
    )
    return Case(inputs, fixed=(1, 4, 6))


def draw_softmax(rng: np.random.Generator) -> Case:
    """Of either meaning of the axis."""
    name = kind(rng)
    dims = shape(rng, rank=3)
    x = (integers(rng, name, dims), scale(rng), zero(rng, name))
    last = np.array(0 if name == "uint8" else -128, name)
    old = rng.random() < 0.5
    attrs = {"opset": 11 if old else 13, "axis": int(rng.integers(3)) if old else -1}
    return Case((*x, np.asarray(1 / 256), last), attrs, fixed=(1, 3))


def draw_pool(rng: np.random.Generator) -> Case:
    """Windows of two, with and without padding, channels first or last."""
    last = int(rng.random() < 0.3)
    attrs: dict[str, Any] = {"kernel_shape": (2, 2), "strides": (1, 2), "channels_last": last}
    if rng.random() < 0.5:
        attrs |= {"pads": (1, 0, 0, 1), "count_include_pad": int(rng.integers(2))}
    case = one(rank=4)(rng)
    return Case(case.inputs, attrs, fixed=case.fixed)


def draw_conv(rng: np.random.Generator) -> Case:
    """As the standard's, channels first or last."""
    case = draw_qlinear_conv(rng)
    if rng.random() < 0.4:
        return case
    x, *rest = case.inputs
    assert x is not None
    return Case((np.moveaxis(x, 1, -1), *rest), {**case.attrs, "channels_last": 1}, 1, case.fixed)


def draw_max_pool(rng: np.random.Generator) -> Case:
    """Windows of two, with and without padding."""
    attrs: dict[str, Any] = {"kernel_shape": (2, 2), "strides": (1, 2)}
    if rng.random() < 0.5:
        attrs["pads"] = (1, 0, 0, 1)
    return Case((integers(rng, kind(rng), shape(rng, rank=4, low=2)),), attrs)


def draw_where(rng: np.random.Generator) -> Case:
    """A mask, and two tensors of one shape."""
    name, dims = kind(rng), shape(rng)
    xs = [(integers(rng, name, dims), scale(rng), zero(rng, name)) for _ in range(2)]
    mask = rng.random(dims) < 0.5
    return Case((mask, *xs[0], *xs[1], scale(rng), zero(rng, name)), fixed=(2, 5, 7))


def draw_concat(rng: np.random.Generator) -> Case:
    """Up to three tensors along any axis."""
    name, dims = kind(rng), shape(rng, rank=3)
    axis = int(rng.integers(-3, 3))
    parts: list[np.ndarray] = []
    count = int(rng.integers(1, 4))
    for _ in range(count):
        own = list(dims)
        own[axis] = int(rng.integers(1, 4))
        parts += [integers(rng, name, tuple(own)), scale(rng), zero(rng, name)]
    fixed = (0, *(3 + 3 * k for k in range(count)))
    return Case((scale(rng), zero(rng, name), *parts), {"axis": axis}, fixed=fixed)


GEMM_HALFWAY = Kink(
    Case(
        (
            *(np.ones((1, 1), np.uint8), np.array(1.5), np.array(0, np.uint8)),
            *(np.ones((1, 1), np.uint8), np.array(1.0), np.array(0, np.uint8)),
            *(None, np.array(1.0), np.array(0, np.uint8)),
        ),
        fixed=(4, 7),
    ),
    1,
    np.array(0.0),
)
"""The product is 1.5, half-way between two quanta."""


def draw_gemm(rng: np.random.Generator) -> Case:
    """With and without bias, scales of each column or of all."""
    types = pair_of_types(rng)
    m, k, n = shape(rng, rank=3)
    attrs: dict[str, Any] = {f"trans{name}": int(rng.integers(2)) for name in "AB"}
    attrs["alpha"] = float(rng.choice([1.0, 0.5]))
    each = (n,) if rng.random() < 0.5 else ()
    bias = rng.integers(-50, 50, n).astype(np.int32) if rng.random() < 0.5 else None
    if rng.random() < 0.3:
        inputs: Any = (
            integers(rng, types[0], (k, m) if attrs["transA"] else (m, k)),
            *(rng.uniform(0.1, 0.3, ()), integers(rng, types[0], ())),
            integers(rng, types[1], (n, k) if attrs["transB"] else (k, n)),
            *(rng.uniform(0.1, 0.3, each), integers(rng, types[1], each), bias),
        )
        return Case(inputs, attrs)
    inputs = (
        integers(rng, types[0], (k, m) if attrs["transA"] else (m, k)),
        *(rng.uniform(0.1, 0.3, ()), integers(rng, types[0], ())),
        integers(rng, types[1], (n, k) if attrs["transB"] else (k, n)),
        *(rng.uniform(0.1, 0.3, each), integers(rng, types[1], each)),
        *(bias, rng.uniform(0.5, 1.0, ()), integers(rng, types[0], ())),
    )
    return Case(inputs, attrs, fixed=(1, 4, 7))


def draw_quantize(rng: np.random.Generator) -> Case:
    """Off the jumps, with one scale or one for each slice."""
    name, dims = kind(rng), shape(rng, rank=3)
    axis = int(rng.integers(3))
    each = (dims[axis],) if rng.random() < 0.5 else ()
    width = np.asarray(rng.uniform(0.5, 2.0))
    x = (rng.integers(-9, 9, dims) + rng.uniform(-0.3, 0.3, dims)) * width
    return Case((x, np.full(each, width), integers(rng, name, each)), {"axis": axis}, fixed=(1,))


def draw_dequantize(rng: np.random.Generator) -> Case:
    """One scale, or one for each slice."""
    name, dims = kind(rng), shape(rng, rank=3)
    axis = int(rng.integers(3))
    each = (dims[axis],) if rng.random() < 0.5 else ()
    x = integers(rng, name, dims)
    return Case((x, rng.uniform(0.1, 2.0, each), integers(rng, name, each)), {"axis": axis})


def draw_dynamic_matmul(rng: np.random.Generator) -> Case:
    """Elements in the middle of their steps; scales of each column or of all, a bias or none."""
    (a,) = draw_dynamic(rng).inputs
    assert a is not None
    columns = int(rng.integers(1, 4))
    name = kind(rng)
    each = (columns,) if rng.random() < 0.5 else ()
    b = integers(rng, name, (a.shape[1], columns))
    bias = (normal(rng, (columns,)),) if rng.random() < 0.5 else ()
    return Case((a, b, rng.uniform(0.01, 0.02, each), integers(rng, name, each), *bias))


TIED = np.array([[-51.0, 204.0, 20.5, 7.0]])
"""Of steps of size 1, with one element exactly between two."""

ONES = np.ones((4, 1), np.int8)

ROWS: tuple[Row, ...] = (
    Row(MS + "QLinearAdd", two),
    Row(MS + "QLinearMul", two),
    Row(MS + "QLinearSigmoid", one(low=0.004, high=0.01)),
    Row(MS + "QLinearLeakyRelu", one(alpha=lambda rng: float(rng.choice([0.25, 0.5])))),
    Row(MS + "QLinearSoftmax", draw_softmax),
    Row(MS + "QLinearAveragePool", draw_pool),
    Row(MS + "QLinearGlobalAveragePool", one(rank=4, channels_last=lambda rng: rng.integers(2))),
    Row(MS + "QLinearConv", draw_conv),
    Row(MS + "NhwcMaxPool", draw_max_pool),
    Row(MS + "QLinearWhere", draw_where),
    Row(MS + "QLinearConcat", draw_concat),
    Row(MS + "QGemm", draw_gemm, (GEMM_HALFWAY,)),
    Row(
        MS + "QuantizeLinear",
        draw_quantize,
        (of(0, [0.0, 0.0], [0.5, 1.75], 1.0),),
    ),
    Row(MS + "DequantizeLinear", draw_dequantize),
    Row(
        MS + "DynamicQuantizeMatMul",
        draw_dynamic_matmul,
        (
            # The sum of the steps, 180 or 181, times what one step grows with the extremes.
            Kink(
                Case((TIED, ONES, np.array(1.0))),
                0,
                np.array([[-180.0, 180.0, 0.0, 0.0]]) / 255.0,
            ),
        ),
    ),
)
