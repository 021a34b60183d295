"""Resize: one axis after another, each a product with a matrix of few elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, Type, Var, is_static
from gradcli.numbers import Array, Numbers
from gradcli.ops import sampling
from gradcli.ops.axes import SHAPE, dims, shape_part
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.kinds import fold, unfold
from gradcli.ops.resizing import Line, coordinates, lines_of, outputs_of, places_of, taps
from gradcli.ops.sampling import Computed, Emitted, Medium

RESIZE_ATTRS: dict[str, Any] = {
    "antialias": 0,
    "axes": None,
    "coordinate_transformation_mode": "half_pixel",
    "cubic_coeff_a": -0.75,
    "exclude_outside": 0,
    "extrapolation_value": 0.0,
    "keep_aspect_ratio_policy": "stretch",
    "mode": "nearest",
    "nearest_mode": "round_prefer_floor",
}


def _resize(
    n: Numbers,
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: np.ndarray | None = None,
    *,
    axes: Sequence[int] | None,
    **how: Any,
) -> Array:
    region, factors = (None if v is None else np.real(n.lower(v)) for v in (roi, scales))
    count = len(places_of(axes, x.ndim))
    for line in lines_of(x.shape, axes, region, factors, sizes, how):
        weights: Array
        places, weights, inside = taps(line, how)
        if _is_smooth_in_region(how):
            ends = n.take(roi, np.array([line.place, line.place + count]), 0)
            weights = _weights_in_region(n, line, ends, how)
        column = [-1 if a == line.axis else 1 for a in range(x.ndim)]
        total: Array = None
        for at, weight in zip(places, weights, strict=True):
            term = n.take(x, at, line.axis)
            if how["mode"] != "nearest":
                term = term * n.reshape(n.lift(weight), column)
            total = term if total is None else total + term
        if not inside.all():
            outside = n.full((), float(how["extrapolation_value"]))
            total = n.where(inside.reshape(column), total, outside)
        x = total
    return x


# ---- where the region moves ----------------------------------------------------------------------


def _is_smooth_in_region(how: Mapping[str, Any]) -> bool:
    crops = how["coordinate_transformation_mode"] == "tf_crop_and_resize"
    return crops and how["mode"] != "nearest" and not how["antialias"]


def _crop_at(m: Medium, ends: Any, size: int, output: int) -> Any:
    """Where each element of the result stands among the operand's, in the region's ends [2]."""
    along = np.arange(output) / (output - 1) if output > 1 else np.full(1, 0.5)
    start, end = m.unstack(ends, 2, 0)
    last = size - 1
    return start * m.constant(last * (1.0 - along)) + end * m.constant(last * along)


def _crop_weights(m: Medium, r: Any, inside: Any, counted: Any, how: Mapping[str, Any]) -> Any:
    """The weights of the elements around, an element's distance r from the one before it.

    Args:
        m: The medium.
        r: Distances [output], from 0 to 1.
        inside: Which elements of the result do not lie outside the operand [output].
        counted: Which of the elements around are not outside [taps, output].
        how: Attributes.
    """
    if how["mode"] == "linear":
        weights = m.stack([1.0 - r, r])
    else:
        a = how["cubic_coeff_a"]
        outer = [sampling.far(r + 1.0, a), sampling.far(2.0 - r, a)]
        inner = [sampling.near(r, a), sampling.near(1.0 - r, a)]
        weights = m.stack([outer[0], *inner, outer[1]])
    if how["exclude_outside"]:
        weights = m.only(counted, weights)
        weights = weights / m.apart(m.choose(inside, m.sum(weights, [0]), 1.0), [0])
    return weights


def _around(mode: str) -> np.ndarray:
    """The elements of which one between two is made, counted from the first of the two."""
    return np.array([[0], [1]] if mode == "linear" else [[-1], [0], [1], [2]])


def _weights_in_region(n: Numbers, line: Line, ends: Array, how: Mapping[str, Any]) -> Array:
    """The weights of `taps`, as what the region makes of them; pieces are decided as there."""
    m = Computed(n)
    _, _, inside = taps(line, dict(how))
    below = np.floor(coordinates(line, how["coordinate_transformation_mode"], np.float64))
    r = _crop_at(m, ends, line.size, line.output) - m.as_numbers(below)
    at = below + _around(how["mode"])
    weights = _crop_weights(m, r, inside, (at >= 0) & (at < line.size), how)
    return [n.take(weights, np.asarray(k), 0) for k in range(len(at))]


def _resize_nodes(s: Site) -> Sequence[Var]:
    """Products with a matrix for each axis, [size, output]."""
    b, y, masks = s.b, s.x, []
    lines = _site_lines(s)
    for line in lines or ():
        _, _, inside = taps(line, dict(s.attrs))
        y = _through(b, y, line.axis, b.constant(_matrix(line, s).T, s.x.dtype))
        masks.append((line.axis, b.constant(inside), bool(inside.all())))
    if lines is None:
        places = places_of(s["axes"], s.x.rank)
        roi = b.cast(s.x1, s.x.dtype)
        for k, axis in enumerate(places):
            ends = b.op("Gather", roi, b.ints([k, k + len(places)]), axis=0)
            matrix, mask = _cropping(s, ends, *_sides_of(s, axis))
            y = _through(b, y, axis, matrix)
            masks.append((axis, mask, False))
    for axis, mask, idle in masks:
        if not idle:
            column = b.unsqueeze(mask, range(1, y.rank - axis))
            y = b.where(column, y, float(s["extrapolation_value"]))
    return [y]


def _sides_of(s: Site, axis: int) -> tuple[int, int]:
    sizes = [None if x.shape is None else x.shape[axis] for x in (s.x, s.y)]
    if not all(isinstance(d, int) for d in sizes):
        raise UnsupportedError(
            "Resize to a region computed at run time, over sizes known only then",
            "give the input's shape, so that the graph can be specialised to it",
        )
    return sizes[0], sizes[1]  # type: ignore[return-value] # both are ints


def _cropping(s: Site, ends: Var, size: int, output: int) -> tuple[Var, Var]:
    """What an axis is multiplied by [size, output], and what lies inside [output]."""
    b, m = s.b, Emitted(s.x)
    at = _crop_at(m, ends, size, output)
    inside = b.op("Not", b.op("Or", at < 0.0, at > float(size - 1)))
    below = m.floor(at)
    near = m.apart(below, [0]) + m.constant(_around(s["mode"]))
    weights = _crop_weights(m, at - below, inside, m.between(near, -0.5, size - 0.5), dict(s.attrs))
    places = m.whole(m.least(m.most(near, 0.0), float(size - 1)))
    rows = b.constant(np.arange(size)[:, None])
    hits = b.cast(b.op("Equal", b.unsqueeze(places, [1]), rows), s.x.dtype)
    return m.sum(hits * m.apart(weights, [1]), [0]), inside


def _follows_region(s: Site) -> bool:
    """Whether the region is computed, and the result smooth in it."""
    known = all(is_static(x.shape) for x in (s.x, s.y))
    computed = _given(s, 1) is not None and s.x1.const is None
    return _is_smooth_in_region(s.attrs) and computed and known and s.x.dtype.is_float


def _resize_types(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    if shape is None:
        return [(s.x.dtype, None)]
    places = places_of(s["axes"], len(shape))
    scales, sizes = _array(s, 2), _array(s, 3)
    known = [shape[a] for a in places]
    outputs: Sequence[Dim | None]
    if scales is None and sizes is None:
        outputs = _traced(s, len(places))
    elif sizes is not None and s["keep_aspect_ratio_policy"] == "stretch":
        outputs = [int(v) for v in sizes.reshape(-1)]
    elif all(isinstance(d, int) for d in known):
        policy = s["keep_aspect_ratio_policy"]
        outputs, _ = outputs_of([int(d) for d in known], scales, sizes, policy)
    elif scales is not None and len(known) == scales.size:
        outputs = [_times(d, v) for d, v in zip(known, scales.reshape(-1), strict=True)]
    else:
        outputs = [None] * len(places)
    if len(outputs) != len(places):
        raise ValueError(f"{len(outputs)} sizes or scales for {len(places)} axes")
    made: list[Dim | None] = list(shape)
    for axis, output in zip(places, outputs, strict=True):
        made[axis] = output
    return [(s.x.dtype, tuple(s.b.fresh(1)[0] if d is None else d for d in made))]


def _times(dim: Dim, scale: float) -> Dim | None:
    if isinstance(dim, int):
        return int(np.float32(dim) * np.float32(scale))
    return dim if scale == 1.0 else None


def _array(s: Site, k: int) -> np.ndarray | None:
    """The operand at this place, where it is there, not empty, and a constant."""
    array = s.input(k).const if s.has(k) else None
    return array if array is not None and array.size else None


def _given(s: Site, k: int) -> Var | None:
    """The operand at this place, unless it is absent or empty."""
    return s.input(k) if s.has(k) and s.input(k).shape != (0,) else None


def _traced(s: Site, count: int) -> Sequence[Dim | None]:
    """Sizes that are put together at run time, as far as their parts are constants."""
    unknown: list[Dim | None] = [None] * count
    sizes = _given(s, 3)
    if sizes is None or s["keep_aspect_ratio_policy"] != "stretch":
        return unknown
    parts = next((node for node in reversed(s.b.nodes) if sizes.value in node.outputs), None)
    if parts is None or parts.key != "Concat":
        return unknown
    out: list[Dim | None] = []
    for value in parts.inputs:
        if value is None or not value.shape or not isinstance(value.shape[0], int):
            return unknown
        array = s.b.constants.get(value)
        out += [None] * value.shape[0] if array is None else [int(v) for v in array]
    return out if len(out) == count else unknown


# ---- its rules -----------------------------------------------------------------------------------


def _resize_jvp(s: Site, dots: Vars) -> Vars:
    """Resize itself, what lies outside the operand being 0 then."""
    x_dot, roi_dot = (*dots, None)[:2]
    if roi_dot is not None:
        _refuse_region(s)
    return [None if x_dot is None else s.again(x_dot, *s.inputs[1:], extrapolation_value=0.0)]


def _refuse_region(s: Site) -> None:
    """By `nearest` a region takes whole elements, and by another coordinate mode it is not read."""
    crops = s["coordinate_transformation_mode"] == "tf_crop_and_resize"
    if crops and s["mode"] != "nearest":
        raise UnsupportedError(
            "gradcli has no derivative of Resize in its region of interest with antialias, or where"
            " sizes are known only at run time",
        )


def _resize_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    if s.wants(1):
        _refuse_region(s)
    if not s.wants(0):
        return [None]
    factors = _repeats(s)
    if factors is not None:
        return [_sum_of_blocks(s.b, y_bar, factors)]
    x_bar = y_bar
    lines = _site_lines(s)
    if lines is not None:
        for line in lines:
            x_bar = _through(s.b, x_bar, line.axis, s.b.constant(_matrix(line, s), s.x.dtype))
        return [x_bar]
    for axis in _moving(s):
        x_bar = _through(s.b, x_bar, axis, _matrix_at_run_time(s, axis))
    return [x_bar]


def _site_lines(s: Site) -> list[Line] | None:
    """All that is known of each axis, where everything is."""
    places = _moving(s)
    known = [s.x.shape[a] for a in places] if s.x.shape is not None else [""]
    if not all(isinstance(d, int) for d in known):
        return None
    roi, scales, sizes = (_array(s, k) for k in (1, 2, 3))
    for k, array in enumerate((roi, scales, sizes), 1):
        if array is None and _given(s, k) is not None:
            return None
    # Of the other axes, whose size may be unknown, any will do.
    shape = [d if isinstance(d, int) else 1 for d in s.x.shape or ()]
    lines = lines_of(shape, s["axes"], roi, scales, sizes, dict(s.attrs))
    return [line for line in lines if line.axis in places]


def _moving(s: Site, batched: bool = False) -> tuple[int, ...]:
    """The axes that may change; of the others it is known that they do not."""
    assert s.x.shape is not None
    x, y = s.x.shape[batched:], s.y.shape
    places = places_of(s["axes"], len(x))
    if s["coordinate_transformation_mode"] == "tf_crop_and_resize":
        roi = _array(s, 1)
        if roi is None:
            return places
        region = np.reshape(roi, (2, -1))
        whole = [(start, end) == (0.0, 1.0) for start, end in region.T.tolist()]
    else:
        whole = [True] * len(places)
    scales = _array(s, 2)
    if scales is not None:
        same = [v == 1.0 for v in scales.tolist()]
    elif _given(s, 2) is not None or y is None or s["keep_aspect_ratio_policy"] != "stretch":
        same = [False] * len(places)
    else:
        same = [isinstance(x[a], int) and x[a] == y[a] for a in places]
    return tuple(a for a, w, k in zip(places, whole, same, strict=True) if not (w and k))


def _repeats(s: Site) -> dict[int, int] | None:
    """How often each axis's elements are repeated, where that is all that happens."""
    mode = s["coordinate_transformation_mode"]
    if s["mode"] != "nearest" or mode == "tf_crop_and_resize":
        return None
    scales, lines = _array(s, 2), None
    if scales is not None:
        each = dict(zip(places_of(s["axes"], s.x.rank), scales.reshape(-1).tolist(), strict=True))
        factors = {axis: each[axis] for axis in _moving(s)}
        if mode == "align_corners":
            lines = _site_lines(s)
    else:
        lines = _site_lines(s)
        if lines is None:
            return None
        factors = {line.axis: line.scale for line in lines}
    if any(f != int(f) for f in factors.values()):
        return None
    if lines is None:
        # Whatever the size, an element is treated as those of a few elements are.
        lines = [Line(a, 4, 4 * int(f), f, 0.0, 1.0) for a, f in factors.items()]
        if mode == "align_corners":
            return None
    for line in lines:
        places, _, _ = taps(line, dict(s.attrs))
        if line.output != line.size * int(line.scale):
            return None
        if not np.array_equal(places[0], np.arange(line.output) // int(line.scale)):
            return None
    return {axis: int(f) for axis, f in factors.items()}


def _sum_of_blocks(b: Builder, y_bar: Var, factors: dict[int, int]) -> Var:
    """The sum of the elements that are copies of one.

    Over the spatial axes of an image, by AveragePool: 1.4 times as fast as ReduceSum over blocks,
    and it stays in onnxruntime's blocked layout.
    """
    if not factors:
        return y_bar
    if 3 <= y_bar.rank <= 5 and min(factors) >= 2:
        kernel = tuple(factors.get(a, 1) for a in range(2, y_bar.rank))
        mean = b.op("AveragePool", y_bar, kernel_shape=kernel, strides=kernel)
        return mean * float(np.prod(kernel))
    parts: list[Var | list[int]] = []
    summed = []
    for axis in range(y_bar.rank):
        size = shape_part(b, y_bar, axis, axis + 1)
        if axis in factors:
            many = b.ints([factors[axis]])
            size = b.ints(size.const // factors[axis]) if size.const is not None else size / many
            parts += [size, [factors[axis]]]
            summed.append(len(parts) - 1)
        else:
            parts.append(size)
    blocks = b.op("Reshape", y_bar, dims(b, *parts), allowzero=1)
    return b.sum(blocks, summed, keepdims=False)


def _matrix(line: Line, s: Site) -> np.ndarray:
    """What the axis is multiplied by: [output, size]."""
    places, weights, inside = taps(line, dict(s.attrs))
    matrix = np.zeros((line.output, line.size))
    np.add.at(matrix, (np.arange(line.output), places), weights * inside)
    return matrix


def _matrix_at_run_time(s: Site, axis: int) -> Var:
    """The same where sizes are known only then: the identity, resized along one axis."""
    if s["keep_aspect_ratio_policy"] != "stretch":
        raise UnsupportedError(
            "Resize with a keep_aspect_ratio_policy over sizes known only at run time",
            "give the input's shape, so that the graph can be specialised to it",
        )
    b, k = s.b, places_of(s["axes"], s.x.rank).index(axis)
    count = len(places_of(s["axes"], s.x.rank))
    size = b.reshape(shape_part(b, s.x, axis, axis + 1), [])
    steps = b.op("Range", b.constant(np.int64(0)), size, b.constant(np.int64(1)))
    same = b.op("Equal", b.unsqueeze(steps, [1]), b.unsqueeze(steps, [0]))
    operands = [
        _pick(b, _given(s, 1), [k, k + count]),
        _pick(b, _given(s, 2), [k]),
        _pick(b, _given(s, 3), [k]),
    ]
    spread = s.again(b.cast(same, s.x.dtype), *operands, axes=(1,), extrapolation_value=0.0)
    return b.transpose(spread, (1, 0))


def _pick(b: Builder, x: Var | None, places: Sequence[int]) -> Var | None:
    """Elements of a 1-D operand: a constant where it is one."""
    if x is None or x.const is None:
        return None if x is None else b.op("Gather", x, b.ints(places), axis=0)
    return b.constant(x.const.reshape(-1)[list(places)], x.dtype)


def _through(b: Builder, y_bar: Var, axis: int, matrix: Var) -> Var:
    """A cotangent times a matrix [output, size], along one axis."""
    rank = y_bar.rank
    if axis == rank - 1:
        return b.op("MatMul", y_bar, matrix)
    rows = b.transpose(matrix, (1, 0))
    if matrix.const is not None:
        rows = b.constant(np.ascontiguousarray(matrix.const.T), matrix.dtype)
    if axis == rank - 2:
        return b.op("MatMul", rows, y_bar)
    ends = shape_part(b, y_bar, 0, axis), shape_part(b, y_bar, axis + 1, rank)
    flat = b.op("Reshape", y_bar, b.ints([*[0] * (axis + 1), -1]))
    through = b.op("MatMul", rows, flat)
    size = shape_part(b, through, axis, axis + 1)
    return b.op("Reshape", through, dims(b, ends[0], size, ends[1]), allowzero=1)


def _resize_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """Directions are folded into the first axis, or, where that is resized too, precede it."""
    if any(batched[1:]):
        raise NotImplementedError("Resize with several regions of interest")
    b, rank = s.b, s.x.rank - 1
    places = places_of(s["axes"], rank)
    if rank > 1 and 0 not in _moving(s, batched=True):
        rest = [k for k, a in enumerate(places) if a != 0]
        operands = [
            _pick(b, _given(s, 1), [*rest, *(k + len(places) for k in rest)]),
            _pick(b, _given(s, 2), rest),
            _pick(b, _given(s, 3), rest),
        ]
        axes = tuple(places[k] for k in rest)
        return [unfold(b, s.again(fold(b, s.x), *operands, axes=axes), s.x)]
    return [s.again(*s.inputs, axes=tuple(a + 1 for a in places))]


CARDS: tuple[Card, ...] = (
    Card(
        "Resize",
        "linear",
        ("X", "roi?", "scales?", "sizes?"),
        _resize_types,
        _resize,
        attrs=RESIZE_ATTRS,
        jvp=_resize_jvp,
        vjp=_resize_vjp,
        batch=_resize_batch,
        expand=_resize_nodes,
        keeps=_follows_region,
        flat={
            "scales": "it decides the size of the result, which is a whole number",
            "sizes": SHAPE,
        },
    ),
)
