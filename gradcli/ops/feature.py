"""Features, of ai.onnx.ml: scaled, normalised, imputed, put side by side and picked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, Type
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site
from gradcli.ops.emit import Emit, emitted, rank
from gradcli.ops.kinds import composite, same
from gradcli.ops.score import DOMAIN, X, as_floats, as_numbers, as_samples, scores_type


def _scaler(n: Any, x: Array, *, offset: Any, scale: Any) -> Array:
    x = x if n.is_number(x) else n.lift(x if isinstance(n, Emit) else x.astype(np.float64))
    if offset is not None and np.any(offset):
        x = x - as_numbers(n, offset)
    return x if scale is None else x * as_numbers(n, scale)


def _normalizer(n: Any, x: Array, *, norm: str) -> Array:
    """Each sample over its greatest element, its sum of distances, or its length.

    Where that is 0 a sample stays what it is, so a sample of zeros gives zeros.
    """
    axis = min(1, rank(x) - 1)
    if norm == "MAX":
        size = n.max(x, [axis], True)
    elif norm == "L1":
        size = n.sum(n.abs(x), [axis], True)
    elif norm == "L2":
        size = n.sum(x * x, [axis], True)
    else:
        raise UnsupportedError(f"norm {norm}")
    # By squares, which symbols can be asked about: distances are themselves choices.
    empty = n.equal(n.sum(x * x, [axis], True) if norm == "L1" else size, n.zero)
    safe = n.where(empty, n.full((), 1.0), size)
    return n.where(empty, x, x / (n.sqrt(safe) if norm == "L2" else safe))


def _normalizer_kink(n: Numbers, x: Array, *, norm: str) -> tuple[np.ndarray, np.ndarray]:
    if norm == "L1":
        return np.abs(x), x > 0
    margin, branch = np.full(np.shape(x), np.inf), np.zeros(np.shape(x), np.int64)
    axis = min(1, x.ndim - 1)
    if norm == "MAX" and x.shape[axis] > 1:
        last = np.sort(x, axis)
        gap = np.take(last, [-1], axis) - np.take(last, [-2], axis)
        margin = np.broadcast_to(gap, x.shape)
        branch = np.broadcast_to(np.argmax(x, axis, keepdims=True), x.shape)
    return margin, branch


def _normalizer_edge(n: Numbers, x: Array, *, norm: str) -> np.ndarray:
    axis = min(1, x.ndim - 1)
    size = np.max(x, axis, keepdims=True) if norm == "MAX" else np.linalg.norm(x, None, axis, True)
    return np.broadcast_to(np.abs(size), x.shape)


def _imputer(
    n: Any,
    x: Array,
    *,
    imputed_value_floats: Any,
    imputed_value_int64s: Any,
    replaced_value_float: float,
    replaced_value_int64: int,
) -> Array:
    if not n.is_number(x):
        if isinstance(n, Emit):
            return n.b.op("Identity", x)  # integers have no derivative to expand
        return np.where(
            x == replaced_value_int64, np.asarray(imputed_value_int64s, x.dtype), x
        ).astype(x.dtype)
    missing = (
        n.is_nan(x)
        if np.isnan(replaced_value_float)
        else n.equal(x, n.full((), replaced_value_float))
    )
    return n.where(missing, as_numbers(n, imputed_value_floats), x)


def _vectorizer(n: Any, *xs: Array, inputdimensions: Any) -> Array:
    """Features side by side, each operand cut or filled with zeros to its width."""
    parts = []
    for operand, width in zip(xs, inputdimensions, strict=True):
        x = as_samples(n, operand)
        more = width - x.shape[1] if isinstance(x.shape[1], int) else 0
        kept = n.take(x, np.arange(width), 1) if more < 0 else x
        parts.append(n.pad(kept, [(0, 0), (0, more)], 0.0) if more > 0 else kept)
    return n.concat(parts, 1)


def _vectorizer_types(s: Site) -> Sequence[Type]:
    total = sum(int(width) for width in s["inputdimensions"] or ())
    return [scores_type(s, total)]


def _extractor(n: Any, x: Array, y: Array) -> Array:
    """The features of these numbers; of a vector, as a row."""
    picked = n.take(x, n.reshape(y, (-1,)), -1)
    return n.reshape(picked, (1, -1)) if rank(x) == 1 else picked


def _extractor_types(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    indices = s.x1.shape
    count: Dim = s.b.fresh(1)[0]
    if indices is not None and all(isinstance(d, int) for d in indices):
        count = int(np.prod([int(d) for d in indices]))
    elif indices is not None and len(indices) == 1:
        count = indices[0]
    lead = s.x.shape[:-1] if len(s.x.shape) > 1 else (1,)
    return [(s.x.dtype, (*lead, count))]


CARDS: tuple[Card, ...] = (
    composite(
        DOMAIN + "Scaler",
        _scaler,
        emitted(_scaler),
        inputs=X,
        infer=as_floats,
        attrs={"offset": None, "scale": None},
    ),
    composite(
        DOMAIN + "Normalizer",
        _normalizer,
        emitted(_normalizer),
        inputs=X,
        infer=as_floats,
        attrs={"norm": "MAX"},
        kinks=_normalizer_kink,
        convention="as Abs and ReduceMax have it: 0 at 0, equal shares among ties",
        edges=_normalizer_edge,
        edge="a sample whose norm is 0",
    ),
    composite(
        DOMAIN + "Imputer",
        _imputer,
        emitted(_imputer),
        inputs=X,
        infer=same,
        attrs={
            "imputed_value_floats": None,
            "imputed_value_int64s": None,
            "replaced_value_float": 0.0,
            "replaced_value_int64": 0,
        },
        rounds=False,
    ),
    composite(
        DOMAIN + "FeatureVectorizer",
        _vectorizer,
        emitted(_vectorizer),
        inputs=("X*",),
        infer=_vectorizer_types,
        attrs={"inputdimensions": None},
        rounds=False,
    ),
    composite(
        DOMAIN + "ArrayFeatureExtractor",
        _extractor,
        emitted(_extractor),
        inputs=("X", "Y"),
        infer=_extractor_types,
        rounds=False,
    ),
)
