"""How the operators of gradcli/ops/signal.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.index import some_axis
from tests.ops.table import Case, Row, normal, shape


def whole(number: Any) -> np.ndarray:
    """An operand that is one whole number."""
    return np.array(number, np.int64)


def flags(rng: np.random.Generator, *names: str) -> dict[str, int]:
    """Attributes that are on or off."""
    return {name: int(rng.integers(0, 2)) for name in names}


def draw_cum_sum(rng: np.random.Generator) -> Case:
    """Any axis, as int32 or int64, in either direction."""
    dims = shape(rng, int(rng.integers(1, 5)))
    kind = np.int32 if rng.random() < 0.3 else np.int64
    axis = np.array(some_axis(rng, len(dims)), kind)
    return Case((normal(rng, dims), axis), flags(rng, "exclusive", "reverse"))


def draw_cum_prod(rng: np.random.Generator) -> Case:
    """Any axis but the first, which must be of a known size; zeros among the factors."""
    dims = shape(rng, int(rng.integers(2, 4)), high=6)
    axis = int(rng.integers(1, len(dims))) - len(dims) * int(rng.integers(0, 2))
    x = normal(rng, dims) * (rng.random(dims) < 0.8)
    return Case((x, whole(axis)), flags(rng, "exclusive", "reverse"))


def draw_dft(rng: np.random.Generator) -> Case:
    """Real and complex, whole and halved, forward and back, cut and filled up."""
    rank = int(rng.integers(2, 5))
    dims = list(shape(rng, rank))
    axis = int(rng.integers(0, rank - 1))
    attrs = flags(rng, "inverse", "onesided")
    half = attrs["inverse"] and attrs["onesided"]
    dims[axis] = int(rng.integers(2, 13))
    dims[-1] = 2 if half or (not attrs["onesided"] and rng.random() < 0.6) else 1
    length = None
    if rng.random() < 0.5:
        # Of half a spectrum that is too short onnxruntime makes something else than the standard.
        most = 2 * dims[axis] if half else 15
        length = whole(rng.integers(1, most))
    x = normal(rng, tuple(dims))
    if axis == rank - 2 and rng.random() < 0.5:
        return Case((x,) if length is None else (x, length), attrs)
    return Case((x, length, whole(axis - rank * int(rng.integers(0, 2)))), attrs)


def draw_stft(rng: np.random.Generator) -> Case:
    """Frames that overlap or leave gaps, with a window or without, real and complex."""
    size, step = int(rng.integers(2, 7)), whole(rng.integers(1, 5))
    onesided = int(rng.integers(0, 2))
    parts = 1 if onesided else int(rng.integers(1, 3))
    x = normal(rng, (int(rng.integers(1, 3)), size + int(rng.integers(0, 9)), parts))
    window, length = normal(rng, (size,)), whole(size)
    given = [(x, step, window), (x, step, window, length), (x, step, None, length)]
    return Case(given[int(rng.integers(0, 3))], {"onesided": onesided})


def draw_window(rng: np.random.Generator) -> Case:
    """Periodic or symmetric, floats or doubles."""
    kind = str(rng.choice(["float32", "float64"]))
    attrs = {**flags(rng, "periodic"), "output_datatype": kind}
    return Case((whole(rng.integers(3, 12)),), attrs)


def draw_mel(rng: np.random.Generator) -> Case:
    """Wide and narrow bands."""
    low, high = rng.uniform(10.0, 100.0), rng.uniform(2000.0, 3900.0)
    lengths = [whole(v) for v in (rng.integers(2, 9), rng.integers(16, 64), 8000)]
    edges = [np.array(v, np.float32) for v in (low, high)]
    return Case((*lengths, *edges))


ROWS: tuple[Row, ...] = (
    Row("CumSum", draw_cum_sum, dynamic="free"),
    Row("CumProd", draw_cum_prod),
    Row("DFT", draw_dft, dynamic="free", tolerance=1e-6),
    Row("STFT", draw_stft, dynamic="free", tolerance=1e-6),
    Row("HannWindow", draw_window, tolerance=1e-6),
    Row("HammingWindow", draw_window, tolerance=1e-6),
    Row("BlackmanWindow", draw_window, tolerance=1e-6),
    Row("MelWeightMatrix", draw_mel, tolerance=1e-6),
)
