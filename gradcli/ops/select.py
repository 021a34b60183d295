"""Operators that choose elements by what they hold: by a mask, once each, by score and overlap."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from gradcli.graph import Dim, DType, Type, Var, is_static, size
from gradcli.numbers import Array, Mask, Numbers, real
from gradcli.ops.axes import INDEX
from gradcli.ops.card import Site, Vars
from gradcli.ops.kinds import axis_of, composite, custom, flat

MASK = "a truth value does not move with numbers"


def _decided(n: Numbers, mask: Mask) -> np.ndarray:
    """Truth values on which structure hangs."""
    return np.asarray(n.to_integer(n.mask_to_number(mask), np.dtype(np.int64)) > 0)


# ---- Compress ------------------------------------------------------------------------------------


def _compress_infer(s: Site) -> Sequence[Type]:
    mask, axis = s.ints(1), s["axis"]
    kept: Dim = s.b.fresh(1)[0] if mask is None else sum(mask)
    if axis is None:
        return [(s.x.dtype, (kept,))]
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    axis = axis_of(axis, s.x.rank)
    return [(s.x.dtype, (*s.x.shape[:axis], kept, *s.x.shape[axis + 1 :]))]


def _compress(n: Numbers, x: Array, condition: Mask, *, axis: int | None) -> Array:
    kept = np.flatnonzero(_decided(n, condition))
    return n.take(n.reshape(x, (-1,)), kept, 0) if axis is None else n.take(x, kept, axis)


def _compress_expand(s: Site) -> Sequence[Var]:
    b, axis = s.b, s["axis"]
    kept = b.reshape(b.op("NonZero", s.x1), [-1])
    x = b.reshape(s.x, [-1]) if axis is None else s.x
    return [b.op("Gather", x, kept, axis=axis or 0)]


# ---- Unique --------------------------------------------------------------------------------------


def _unique_infer(s: Site) -> Sequence[Type]:
    shape, (many, unknown) = s.x.shape, s.b.fresh(2)
    every: Dim = unknown
    if s["axis"] is not None:
        axis = None if shape is None else axis_of(s["axis"], len(shape))
        every = unknown if shape is None or axis is None else shape[axis]
        y = None if shape is None or axis is None else (*shape[:axis], many, *shape[axis + 1 :])
    else:
        every = size(shape) if is_static(shape) and shape is not None else unknown
        y = (many,)
    int64 = DType.INT64
    return [(s.x.dtype, y), (int64, (many,)), (int64, (every,)), (int64, (many,))]


def _slices(n: Numbers, x: Array, axis: int | None) -> Array:
    """What is compared, one a row: single elements, or slices along an axis."""
    if axis is None:
        return n.reshape(x, (-1, 1))
    along = axis_of(axis, x.ndim)
    rows = n.transpose(x, (along, *(a for a in range(x.ndim) if a != along)))
    return n.reshape(rows, (x.shape[along], int(np.prod(rows.shape[1:]))))


def _unique(
    n: Numbers,
    x: Array,
    *,
    axis: int | None,
    sorted: int,  # noqa: A002 # ONNX's name
) -> tuple[Array, np.ndarray, np.ndarray, np.ndarray]:
    rows = _slices(n, x, axis)
    count, width = rows.shape
    order = np.arange(count)
    for k in range(width - 1, -1, -1):
        column = n.reshape(n.slice(rows, [slice(None), slice(k, k + 1)]), (count,))
        order = order[n.argsort(n.take(column, order, 0), 0)]
    ranked = n.take(rows, order, 0)
    same = n.equal(n.slice(ranked, [slice(1, None)]), n.slice(ranked, [slice(0, count - 1)]))
    new = np.append(np.ones(min(count, 1), bool), ~_decided(n, same).all(axis=1))
    # Equal slices kept their order, so the first of each run is the first of all.
    first, group = order[new], np.cumsum(new) - 1
    inverse = np.zeros(count, np.int64)
    inverse[order] = group
    counts = np.bincount(group, minlength=first.size)
    if not sorted:
        met = np.argsort(first)
        first, counts, inverse = first[met], counts[met], np.argsort(met)[inverse]
    whole = n.reshape(x, (-1,)) if axis is None else x
    return n.take(whole, first, axis or 0), first, inverse, counts


def _unique_places(s: Site) -> Var:
    if len(s.outputs) > 1 and s.outputs[1] is not None:
        return s.outputs[1]
    return s.b.ops("Unique", s.x, outputs=2, **s.attrs)[1]


def _unique_jvp(s: Site, dots: Vars) -> Vars:
    (dot,) = dots
    if dot is None:
        return [None] * len(s.outputs)
    whole = s.b.reshape(dot, [-1]) if s["axis"] is None else dot
    y_dot = s.b.op("Gather", whole, _unique_places(s), axis=s["axis"] or 0)
    return [y_dot, *[None] * (len(s.outputs) - 1)]


def _unique_vjp(s: Site, bars: Vars) -> Vars:
    b, y_bar, zeros = s.b, bars[0], s.b.zeros_like(s.x)
    if y_bar is None:
        return [None]
    if s["axis"] is None:
        axis, zeros = 0, b.reshape(zeros, [-1])
    else:
        axis = axis_of(s["axis"], s.x.rank)
    column = b.reshape(_unique_places(s), [-1, *[1] * (zeros.rank - 1 - axis)])
    at = b.expand_like(column, y_bar)
    x_bar = b.op("ScatterElements", zeros, at, y_bar, axis=axis, reduction="add")
    return [b.reshape_like(x_bar, s.x)]


def _unique_kinks(
    n: Numbers,
    x: Array,
    *,
    axis: int | None,
    sorted: int,  # noqa: A002 # ONNX's name
) -> tuple[np.ndarray, np.ndarray]:
    """How near the two nearest are to changing places or becoming one; a number for the order.

    Sorted slices change places where their first elements do.
    """
    rows = np.real(_slices(n, x, axis))
    if not sorted:
        apart = [np.abs(rows[k + 1 :] - row).max(axis=1, initial=0.0) for k, row in enumerate(rows)]
        return np.min(np.concatenate([[np.inf], *apart])), np.array(0)
    keys = rows[:, 0] if rows.shape[1] else np.zeros(len(rows))
    order = np.argsort(keys, kind="stable")
    gap = np.min(np.diff(keys[order]), initial=np.inf)
    return np.asarray(gap), np.array(zlib.crc32(order.tobytes()))


# ---- NonMaxSuppression ---------------------------------------------------------------------------


def _corners(n: Numbers, boxes: Array, centred: bool) -> tuple[Array, Array, Array, Array]:
    """Least and greatest of each box along its two axes, [batch, box] each."""
    shape = boxes.shape[:2]
    cuts = [[slice(None), slice(None), slice(k, k + 1)] for k in range(4)]
    a, b, c, d = (n.reshape(n.slice(boxes, cut), shape) for cut in cuts)
    if centred:
        half = n.full((), 0.5)
        return a - c * half, b - d * half, a + c * half, b + d * half
    return n.minimum(a, c), n.minimum(b, d), n.maximum(a, c), n.maximum(b, d)


def _scalar(n: Numbers, x: Array | None) -> Array:
    return n.zero if x is None else n.reshape(x, ())


def _non_max(
    n: Numbers,
    boxes: Array,
    scores: Array,
    max_output_boxes_per_class: np.ndarray | None = None,
    iou_threshold: Array | None = None,
    score_threshold: Array | None = None,
    *,
    center_point_box: int,
) -> np.ndarray:
    most = 0
    if max_output_boxes_per_class is not None:
        most = int(max_output_boxes_per_class.reshape(()))
    corners, count = _corners(n, boxes, bool(center_point_box)), boxes.shape[1]
    limit = _scalar(n, iou_threshold)
    rows = []
    for batch, label in np.ndindex(*scores.shape[:2]):
        score = n.reshape(
            n.slice(scores, [slice(batch, batch + 1), slice(label, label + 1)]), (-1,)
        )
        left = n.argsort(-score, 0)
        if score_threshold is not None:
            left = left[_decided(n, n.less(_scalar(n, score_threshold), n.take(score, left, 0)))]
        own = [n.reshape(n.slice(x, [slice(batch, batch + 1)]), (count,)) for x in corners]
        taken = 0
        while left.size and taken < most:
            best, left, taken = left[:1], left[1:], taken + 1
            rows.append((batch, label, int(best[0])))
            left = left[~_decided(n, n.less(limit, _overlap(n, own, best, left)))]
    return np.array(rows, np.int64).reshape(-1, 3)


def _overlap(n: Numbers, corners: Sequence[Array], one: np.ndarray, others: np.ndarray) -> Array:
    """What boxes share with one box, as a part of what both cover."""
    a0, b0, a1, b1 = (n.take(x, one, 0) for x in corners)
    c0, d0, c1, d1 = (n.take(x, others, 0) for x in corners)
    high = n.maximum(n.minimum(a1, c1) - n.maximum(a0, c0), n.zero)
    wide = n.maximum(n.minimum(b1, d1) - n.maximum(b0, d0), n.zero)
    shared = high * wide
    both = (a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - shared
    some = _decided(n, n.less(n.zero, shared))
    return n.divide(n.where(some, shared, n.zero), n.where(some, both, n.full((), 1.0)))


def _non_max_kinks(
    n: Numbers,
    boxes: Array,
    scores: Array,
    most: np.ndarray | None = None,
    iou: Array | None = None,
    least: Array | None = None,
    *,
    center_point_box: int,
) -> tuple[np.ndarray, np.ndarray]:
    """How near the nearest decision is: of two scores, of a score or an overlap and its threshold.

    And a number for all that was chosen.
    """
    rows = _non_max(n, boxes, scores, most, iou, least, center_point_box=center_point_box)
    corners = np.real(np.stack(_corners(n, boxes, bool(center_point_box))))
    scores, limit = np.real(scores), np.real(_scalar(n, iou))
    apart: list[np.ndarray] = [np.diff(np.sort(scores, -1))]
    if least is not None:
        apart.append(np.abs(scores - np.real(least)))
    for batch, _, box in rows:
        others = np.delete(np.arange(boxes.shape[1]), box)
        part = _overlap(real, list(corners[:, batch]), np.array([box]), others)
        apart.append(np.abs(part[part > 0] - limit))
    margin = min(float(np.min(x, initial=np.inf)) for x in apart)
    return np.array(margin), np.array(zlib.crc32(rows.tobytes()))


CHOSEN = "a box is named by its place, which is a whole number"
THRESHOLD = "a threshold only decides which boxes are named"

CARDS = (
    composite(
        "Compress",
        _compress,
        _compress_expand,
        inputs=("input", "condition"),
        outputs=("output",),
        infer=_compress_infer,
        attrs={"axis": None},
        flat={"condition": MASK},
        rounds=False,
    ),
    custom(
        "Unique",
        _unique,
        _unique_jvp,
        _unique_vjp,
        inputs=("X",),
        outputs=("Y", "indices", "inverse_indices", "counts"),
        infer=_unique_infer,
        attrs={"axis": None, "sorted": 1},
        kinks=_unique_kinks,
        convention="of equal elements the first takes all",
        rounds=False,
    ),
    flat(
        "NonMaxSuppression",
        _non_max,
        CHOSEN,
        inputs=(
            "boxes",
            "scores",
            "max_output_boxes_per_class?",
            "iou_threshold?",
            "score_threshold?",
        ),
        outputs=("selected_indices",),
        infer=lambda s: [(DType.INT64, (*s.b.fresh(1), 3))],
        attrs={"center_point_box": 0},
        flat={
            "boxes": CHOSEN,
            "scores": CHOSEN,
            "max_output_boxes_per_class": INDEX,
            "iou_threshold": THRESHOLD,
            "score_threshold": THRESHOLD,
        },
        kinks=_non_max_kinks,
        rounds=False,
    ),
)
