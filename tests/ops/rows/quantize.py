"""How the operators of gradcli/ops/quantize.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.conv import draw_conv
from tests.ops.rows.elementwise import of
from tests.ops.table import Case, Row, shape

LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}


def placed(
    rng: np.random.Generator, dims: tuple[int, ...], *, last: bool = False
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The shape of a scale: of the whole, of each slice along an axis, or of blocks of slices."""
    kind = rng.random()
    if kind < 0.4 or not dims:
        return (), {}
    axis = len(dims) - 1 if last else int(rng.integers(len(dims)))
    attrs: dict[str, Any] = {"axis": axis - len(dims) if rng.random() < 0.3 else axis}
    if kind < 0.7:
        return (dims[axis],), attrs
    block = int(rng.integers(1, dims[axis] + 1))
    # More blocks than needed are not allowed, and onnxruntime's quantising takes no short last one.
    return (*dims[:axis], -(-dims[axis] // block), *dims[axis + 1 :]), attrs | {"block_size": block}


def integers(rng: np.random.Generator, name: str, dims: tuple[int, ...]) -> np.ndarray:
    """Small whole numbers of a type."""
    low, _ = LIMITS.get(name, (-1, 0))
    return rng.integers(max(low, -50), 50, dims).astype(name)


def draw_dequantize(rng: np.random.Generator) -> Case:
    """Every integer type; int32 without a zero point."""
    name = str(rng.choice([*LIMITS, "int32"]))
    dims = shape(rng)
    params, attrs = placed(rng, dims)
    scale = rng.uniform(0.1, 2.0, params)
    zero = (integers(rng, name, params),) if name != "int32" and rng.random() < 0.7 else ()
    return Case((integers(rng, name, dims), scale, *zero), attrs)


def draw_quantize(rng: np.random.Generator) -> Case:
    """Off the jumps, within the range or far beyond it; scales that no step changes much."""
    name = str(rng.choice([*LIMITS, ""]))
    dims = shape(rng)
    params, attrs = placed(rng, dims)
    if attrs.get("block_size") and dims[attrs["axis"]] % attrs["block_size"]:
        params, attrs = (), {}
    scale = np.asarray(rng.uniform(0.5, 2.0))
    x = (rng.integers(-9, 9, dims) + rng.uniform(-0.3, 0.3, dims)) * scale
    x = np.where(rng.random(dims) < 0.1, np.copysign(1e6, x), x)
    zero = () if not name else (integers(rng, name, params),)
    return Case((x, np.full(params, scale), *zero), attrs)


def draw_dynamic(rng: np.random.Generator) -> Case:
    """Quanta wider than any step, every element and the zero point in the middle of theirs."""
    dims = (int(rng.integers(2, 5)), int(rng.integers(2, 5)))
    quantum, below = rng.uniform(0.5, 2.0), int(rng.integers(40, 200))
    x = rng.integers(-below + 2, 253 - below, dims) + rng.uniform(-0.2, 0.2, dims)
    x[0, 0], x[1, 1] = -below - 0.2, 255 - below - 0.2
    return Case((x * quantum,), outputs=3)


def pair_of_types(rng: np.random.Generator) -> tuple[str, str]:
    """Those that onnxruntime multiplies."""
    names = [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")]
    return names[int(rng.integers(len(names)))]


def factors(rng: np.random.Generator, *types: str) -> list[np.ndarray]:
    """Two matrices, or stacks of them."""
    m, k, n = (int(d) for d in rng.integers(1, 5, 3))
    stack = shape(rng, rank=int(rng.integers(0, 3)))
    dims = (*stack, m, k), ((*stack, k, n) if rng.random() < 0.5 else (k, n))
    return [integers(rng, t, d) for t, d in zip(types, dims, strict=True)]


def draw_matmul_integer(rng: np.random.Generator) -> Case:
    """With and without zero points, of b also one for each column."""
    types = pair_of_types(rng)
    a, b = factors(rng, *types)
    columns = b.shape[-1:] if b.ndim == 2 and rng.random() < 0.5 else ()
    zeros = (integers(rng, types[0], ()), integers(rng, types[1], columns))
    return Case((a, b, *zeros[: int(rng.integers(0, 3))]))


def draw_qlinear_matmul(rng: np.random.Generator) -> Case:
    """Scales that no step changes much are fixed; of b also one for each column."""
    types = pair_of_types(rng)
    a, b = factors(rng, *types)
    columns = b.shape[-1:] if b.ndim == 2 and rng.random() < 0.5 else ()
    scales = [rng.uniform(0.1, 0.3, d) for d in ((), columns, ())]
    zeros = [
        integers(rng, t, d) for t, d in zip((*types, types[0]), ((), columns, ()), strict=True)
    ]
    inputs = (a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2])
    return Case(inputs, fixed=(1, 4, 6))


def convolved(rng: np.random.Generator, *types: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Data and weights of a convolution."""
    case = draw_conv(rng)
    x, w = case.inputs[:2]
    assert x is not None
    assert w is not None
    operands = zip(types, (x.shape, w.shape), strict=True)
    return [integers(rng, t, d) for t, d in operands], dict(case.attrs)


def draw_conv_integer(rng: np.random.Generator) -> Case:
    """As a Conv of integers, with and without zero points."""
    types = pair_of_types(rng)
    (x, w), attrs = convolved(rng, *types)
    zeros = [integers(rng, t, ()) for t in types]
    return Case((x, w, *zeros[: int(rng.integers(0, 3))]), attrs)


def draw_qlinear_conv(rng: np.random.Generator) -> Case:
    """With and without bias, weights' scales of each channel or of all."""
    types = pair_of_types(rng)
    (x, w), attrs = convolved(rng, *types)
    each = w.shape[:1] if rng.random() < 0.5 else ()
    scales = [rng.uniform(0.1, 0.3, d) for d in ((), each, ())]
    zeros = [integers(rng, types[0], ()), np.zeros(each, types[1]), integers(rng, types[0], ())]
    bias = (rng.integers(-50, 50, w.shape[:1]).astype(np.int32),) if rng.random() < 0.5 else ()
    inputs = (x, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2], *bias)
    return Case(inputs, attrs, fixed=(1, 4, 6))


ROWS: tuple[Row, ...] = (
    Row("DequantizeLinear", draw_dequantize),
    Row("QuantizeLinear", draw_quantize, (of(0, [0.0, 0.0], [0.5, 1.75], 1.0),)),
    Row(
        "DynamicQuantizeLinear",
        draw_dynamic,
        (of(0, [0.0, 0.0, 0.0, 0.0], [-51.2, 203.8, 20.5, 7.0]),),
    ),
    Row("MatMulInteger", draw_matmul_integer),
    Row("ConvInteger", draw_conv_integer),
    Row("QLinearMatMul", draw_qlinear_matmul),
    Row("QLinearConv", draw_qlinear_conv),
)
