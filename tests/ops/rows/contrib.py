"""How the operators of gradcli/ops/contrib.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.conv import draw_conv
from tests.ops.table import Case, Kink, Row, normal, shape

MS = "com.microsoft::"


def draw_fused_matmul(rng: np.random.Generator) -> Case:
    """Every transposition, of matrices and of stacks, with a factor or none."""
    stack = shape(rng, rank=int(rng.integers(0, 3)))
    m, k, n = shape(rng, rank=3)
    attrs: dict[str, Any] = {name: int(rng.integers(0, 2)) for name in ("transA", "transB")}
    if stack and rng.random() < 0.4:
        # The rows stand first then, before the stack.
        attrs |= {"transBatchA": 1, "transBatchB": 1}
    if rng.random() < 0.5:
        attrs["alpha"] = 0.5

    def factor(rows: int, columns: int, turned: int) -> np.ndarray:
        first, second = (columns, rows) if turned else (rows, columns)
        if attrs.get("transBatchA"):
            return normal(rng, (first, *stack, second))
        return normal(rng, (*stack, first, second))

    return Case((factor(m, k, attrs["transA"]), factor(k, n, attrs["transB"])), attrs)


ACTIVATIONS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("Tanh", ()),
    ("Sigmoid", ()),
    ("Relu", ()),
    ("LeakyRelu", (0.25,)),
)


def draw_fused_gemm(rng: np.random.Generator) -> Case:
    """Smooth activations, and piecewise linear ones whose operand is far from 0."""
    m, k, n = shape(rng, rank=3)
    name, parameters = (*ACTIVATIONS, ("Softplus", ()))[int(rng.integers(5))]
    attrs: dict[str, Any] = {"activation": name, "alpha": 0.5, "transB": int(rng.integers(2))}
    if parameters:
        attrs["activation_alpha"] = parameters[0]
    b = normal(rng, (n, k) if attrs["transB"] else (k, n))
    far = 20.0 if rng.random() < 0.7 else -20.0
    bias = normal(rng, (n,)) + (far if name in ("Relu", "LeakyRelu") else 0.0)
    return Case((normal(rng, (m, k)), b, bias), attrs)


def draw_fused_conv(rng: np.random.Generator) -> Case:
    """What Conv takes, with a sum and an activation after it."""
    case = draw_conv(rng)
    x, w, b = (*case.inputs, None)[:3]
    assert w is not None
    name, parameters = (*ACTIVATIONS, ("HardSigmoid", (0.1, 0.5)), ("Clip", (-9.0, 99.0)))[
        int(rng.integers(6))
    ]
    attrs: dict[str, Any] = {**case.attrs, "activation": name}
    if parameters:
        attrs["activation_params"] = parameters
    if name in ("Relu", "LeakyRelu"):
        b = np.full(w.shape[:1], 60.0)
    if name in ("HardSigmoid", "Clip"):
        w = w * 0.02
        b = None if b is None else np.clip(b, -1.0, 1.0)
    return Case((x, w, b), attrs)


FUSED_GEMM_AT_0 = Kink(
    Case((np.array([[1.0, -1.0], [1.0, 1.0]]), np.ones((2, 1))), {"activation": "Relu"}),
    0,
    np.array([[0.0, 0.0], [1.0, 1.0]]),
)
"""The first row's sum is 0, where Relu's convention is 0."""

FUSED_CONV_AT_0 = Kink(
    Case((np.array([[[0.0, 2.0, -1.0]]]), np.ones((1, 1, 1))), {"activation": "Relu"}),
    0,
    np.array([[[0.0, 1.0, 0.0]]]),
)


def draw_unary(rng: np.random.Generator) -> Case:
    """Any numbers."""
    return Case((normal(rng, shape(rng)),))


def draw_bias_gelu(rng: np.random.Generator) -> Case:
    """A bias for the last axis."""
    dims = shape(rng, rank=int(rng.integers(1, 4)))
    return Case((normal(rng, dims), normal(rng, dims[-1:])))


def draw_fast_gelu(rng: np.random.Generator) -> Case:
    """With a bias or without."""
    case = draw_bias_gelu(rng)
    return case if rng.random() < 0.5 else Case(case.inputs[:1])


def draw_quick_gelu(rng: np.random.Generator) -> Case:
    """Any steepness."""
    return Case((normal(rng, shape(rng)),), {"alpha": float(rng.choice([1.0, 0.5, 1.75]))})


def draw_skip_norm(rng: np.random.Generator, shifts: bool = True) -> Case:
    """The sum asked for or not, beta and a bias or none."""
    dims = shape(rng, rank=3, low=2)
    wide = dims[-1:]
    optional = [normal(rng, wide) if rng.random() < 0.5 else None for _ in range(1 + shifts)]
    while optional and optional[-1] is None:
        optional.pop()
    xs = (normal(rng, dims), normal(rng, dims), normal(rng, wide), *optional)
    return Case(xs, {"epsilon": float(rng.choice([1e-3, 0.25]))})


def draw_embed_norm(rng: np.random.Generator) -> Case:
    """Segments, a mask and places, or none."""
    batch, length = shape(rng, rank=2)
    wide = int(rng.integers(2, 5))

    def indices(below: int) -> np.ndarray:
        return rng.integers(0, below, (batch, length)).astype(np.int32)

    def maybe(x: np.ndarray) -> np.ndarray | None:
        return x if rng.random() < 0.5 else None

    segments = maybe(indices(2))
    inputs = (
        *(indices(5), segments, normal(rng, (5, wide)), normal(rng, (length + 1, wide))),
        None if segments is None else normal(rng, (2, wide)),
        *(normal(rng, (wide,)), normal(rng, (wide,)), maybe(indices(2)), maybe(indices(length))),
    )
    return Case(inputs, {"epsilon": 0.25}, outputs=3)


def draw_rms_norm(rng: np.random.Generator) -> Case:
    """Over the last axis or more."""
    dims = shape(rng, rank=int(rng.integers(2, 4)), low=2)
    axis = int(rng.integers(1, len(dims)))
    attrs = {"axis": axis - len(dims), "epsilon": 0.25}
    return Case((normal(rng, dims), normal(rng, dims[axis:])), attrs, outputs=2)


def integers(rng: np.random.Generator, dims: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Eight bits of either kind."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, dims).astype(dtype)


def draw_integer_to_float(rng: np.random.Generator) -> Case:
    """Zero points or none, a bias or none."""
    m, k, n = shape(rng, rank=3)
    a, b = integers(rng, (m, k), np.uint8), integers(rng, (k, n), np.uint8)
    scales = (rng.uniform(0.01, 0.02, ()), rng.uniform(0.01, 0.02, ()))
    zeros = (np.array(7, np.uint8), np.array(99, np.uint8)) if rng.random() < 0.6 else (None, None)
    bias = normal(rng, (n,)) if rng.random() < 0.5 else None
    xs: list[np.ndarray | None] = [a, b, *scales, *zeros, bias]
    while xs[-1] is None:
        xs.pop()
    return Case(tuple(xs))


def draw_matmul_nbits(rng: np.random.Generator) -> Case:
    """Four or eight bits, zero points packed or none."""
    rows, blocks, size = int(rng.integers(1, 4)), int(rng.integers(1, 3)), 16
    bits = int(rng.choice([4, 8]))
    packed = integers(rng, (rows, blocks, size * bits // 8), np.uint8)
    scales = rng.uniform(0.01, 0.1, (rows, blocks))
    xs: list[Any] = [normal(rng, (int(rng.integers(1, 4)), blocks * size)), packed, scales]
    if rng.random() < 0.5:
        xs.append(integers(rng, (rows, -(-blocks * bits // 8)), np.uint8))
    return Case(tuple(xs), {"K": blocks * size, "N": rows, "block_size": size, "bits": bits})


def draw_gather_quantised(rng: np.random.Generator) -> Case:
    """Bytes that hold one step or two, zero points or none, whole blocks and short ones."""
    rows, columns = int(rng.integers(1, 4)), int(rng.choice([16, 20, 32]))
    bits, blocks = int(rng.choice([4, 8])), -(-columns // 16)
    data = integers(rng, (rows, columns * bits // 8), np.uint8)
    scales = rng.uniform(0.01, 0.1, (rows, blocks))
    indices = rng.integers(-rows, rows, shape(rng, rank=int(rng.integers(0, 3))))
    xs: list[Any] = [data, indices, scales]
    if rng.random() < 0.5:
        xs.append(integers(rng, (rows, -(-blocks * bits // 8)), np.uint8))
    return Case(tuple(xs), {"block_size": 16, "bits": bits})


ROWS = (
    Row(MS + "FusedMatMul", draw_fused_matmul, dynamic="all"),
    Row(MS + "FusedGemm", draw_fused_gemm, (FUSED_GEMM_AT_0,)),
    Row(MS + "FusedConv", draw_fused_conv, (FUSED_CONV_AT_0,)),
    Row(MS + "Gelu", draw_unary, dynamic="all"),
    Row(MS + "BiasGelu", draw_bias_gelu, dynamic="all"),
    # Its kernel for float64 has constants of float32.
    Row(MS + "FastGelu", draw_fast_gelu, dynamic="all", tolerance=1e-6),
    Row(MS + "QuickGelu", draw_quick_gelu, dynamic="all"),
    Row(MS + "SkipLayerNormalization", draw_skip_norm),
    Row(MS + "SkipSimplifiedLayerNormalization", lambda rng: draw_skip_norm(rng, shifts=False)),
    Row(MS + "EmbedLayerNormalization", draw_embed_norm),
    Row("SimplifiedLayerNormalization", draw_rms_norm, tolerance=1e-5),
    Row(MS + "MatMulIntegerToFloat", draw_integer_to_float),
    Row(MS + "MatMulNBits", draw_matmul_nbits),
    Row(MS + "GatherBlockQuantized", draw_gather_quantised),
)
