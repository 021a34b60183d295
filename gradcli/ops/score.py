"""What the operators of ai.onnx.ml share: samples, labels, and scores made probabilities.

Formulas and conventions are onnxruntime's where the standard leaves them open. A result that the
standard has in float32 whatever the operand is here of the operand's own width; the reader rounds
it where a file of float64 says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, DType, Type
from gradcli.numbers import Array
from gradcli.ops.card import Site
from gradcli.ops.emit import Emit, rank
from gradcli.ops.softmax import softmax

DOMAIN = "ai.onnx.ml::"
X = ("X",)


# ---- types ---------------------------------------------------------------------------------------


def float_of(s: Site) -> DType:
    """The operand's element type, or float32 where it holds no floats."""
    return s.x.dtype if s.x.dtype.is_float else DType.FLOAT32


def as_floats(s: Site) -> Sequence[Type]:
    """Floats, shaped as the operand."""
    return [(float_of(s), s.x.shape)]


def sample_count(s: Site) -> Dim | None:
    """The number of samples in [N, features], or in [features] alone; None where not known."""
    if s.x.shape is None:
        return None
    if not 1 <= len(s.x.shape) <= 2:
        raise ValueError(f"samples of shape {s.x.shape}, not [N, features]")
    return s.x.shape[0] if len(s.x.shape) == 2 else 1


def scores_type(s: Site, width: int) -> Type:
    """So many scores for each sample."""
    rows = sample_count(s)
    return float_of(s), None if rows is None else (rows, width)


def labelled_types(s: Site, width: int) -> Sequence[Type]:
    """A label, and so many scores, for each sample."""
    rows = sample_count(s)
    kind = DType.STRING if s["classlabels_strings"] else DType.INT64
    return [(kind, None if rows is None else (rows,)), scores_type(s, width)]


def as_samples(n: Any, x: Array) -> Array:
    """x as numbers [N, features]."""
    if not n.is_number(x):
        x = n.lift(x if isinstance(n, Emit) else x.astype(np.float64))
    return n.reshape(x, (1, -1)) if rank(x) == 1 else x


def as_numbers(n: Any, values: Any, *shape: int) -> Array:
    """An attribute's values as numbers, of this shape where one is given."""
    array = np.asarray(() if values is None else values, np.float64)
    return n.lift(array.reshape(shape) if shape else array)


def labels_of(attrs: dict[str, Any], ints: str = "classlabels_ints") -> np.ndarray:
    """A classifier's labels: strings, or else integers."""
    strings = attrs["classlabels_strings"]
    if strings:
        return np.array(strings, object)
    return np.array(attrs[ints] or (), np.int64)


# ---- from scores to probabilities ----------------------------------------------------------------

_NOTHING = 1e-7
"""Scores nearer to 0 than this have no part in a SOFTMAX_ZERO."""

_WINITZKI = 0.147, 2.0 / (3.14159 * 0.147)
"""Constants of the inverse error function that onnxruntime approximates a probit with."""


def _softmax(n: Any, x: Array) -> Array:
    return n.softmax(x) if isinstance(n, Emit) else softmax(n, x, axis=-1)


def _softmax_zero(n: Any, x: Array) -> Array:
    """A softmax over what is not 0; a 0 stays one, or nearly."""
    top = n.anchor(x, -1)
    tiny = n.less(n.abs(x), n.full((), _NOTHING))
    e = n.exp(x - top)
    total = n.sum(n.where(tiny, n.zero, e), [-1], True)
    return n.where(tiny, x * n.exp(-top), e) / total


def _probit(n: Any, p: Array) -> Array:
    """The normal quantile of p, by Winitzki's erfinv, written so that p = 1/2 is no 0 / 0."""
    a, b = _WINITZKI
    x = p * 2.0 - 1.0
    square = x * x
    near = n.less(square, n.full((), 1e-3))
    # log(1 - x^2) / -x^2: a series near 0, where the logarithm would cancel.
    series = n.full((), 1.0)
    power = square
    for k in range(2, 7):
        series, power = series + power / float(k), power * square
    far = n.where(near, n.full((), 0.5), x)
    slope = n.where(near, series, -n.log((1.0 - far) * (far + 1.0)) / (far * far))
    log = -(slope * square)
    middle = log / 2.0 + b
    return x * n.sqrt(slope / ((n.sqrt(middle * middle - log / a) + middle) * a)) * 1.41421356


_TRANSFORMS: dict[str, Callable[[Any, Array], Array]] = {
    "NONE": lambda n, x: x,
    "LOGISTIC": lambda n, x: n.sigmoid(x),
    "SOFTMAX": _softmax,
    "SOFTMAX_ZERO": _softmax_zero,
    "PROBIT": _probit,
}


def transformed(n: Any, scores: Array, width: int, how: str) -> Array:
    """Scores [N, width] after `post_transform`, which of one score alone only PROBIT changes."""
    if how not in _TRANSFORMS:
        raise UnsupportedError(f"post_transform {how}")
    return _TRANSFORMS[how](n, scores) if width > 1 or how == "PROBIT" else scores


def two_scores(n: Any, score: Array, how: str, signed: bool) -> Array:
    """The scores of two classes from that of the second alone, [N, 1].

    Args:
        n: The number system.
        score: Of the second class.
        how: post_transform.
        signed: Whether the first class's score is the second's negative, not the rest to 1.

    Raises:
        UnsupportedError: For PROBIT, where onnxruntime leaves the second score unwritten.
    """
    if how == "PROBIT":
        raise UnsupportedError("PROBIT of one score for two classes")
    if how == "LOGISTIC":
        return n.sigmoid(n.concat([-score, score], 1))
    return n.concat([-score if signed else 1.0 - score, score], 1)


def one_of_two(n: Any, labels: np.ndarray, score: Array, bar: Array) -> Any:
    """The second label where its score [N, 1] is above a bar, else the first."""
    above = n.where(n.less(bar, score), np.array(1), np.array(0))
    return n.take(labels, n.reshape(above, (-1,)), 0)
