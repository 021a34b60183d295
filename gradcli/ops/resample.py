"""Resampling of images: sizes, grids and regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, DType, Type, Var, is_static
from gradcli.numbers import Array, Numbers, real
from gradcli.ops import sampling
from gradcli.ops.axes import INDEX, SHAPE, axes_of, dims, length, shape_part
from gradcli.ops.card import REQUIRED, Card, Site, Vars
from gradcli.ops.kinds import composite, fold, unfold
from gradcli.ops.sampling import Computed, Emitted, Medium

# ---- Resize: one axis after another, each a product with a matrix of few elements ---------------

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


@dataclass(frozen=True)
class _Line:
    """One axis that is resized.

    Attributes:
        axis: Which.
        size: Elements of the operand.
        output: Elements of the result.
        scale: By how much it grows: as given, else the quotient of the sizes.
        start: Where the region starts, 0 being the first element and 1 the last.
        end: Where it ends.
        place: Which it is of all axes that may be resized.
    """

    axis: int
    size: int
    output: int
    scale: float
    start: float
    end: float
    place: int = 0


def _lines(
    shape: Sequence[int],
    axes: Sequence[int] | None,
    roi: np.ndarray | None,
    scales: np.ndarray | None,
    sizes: np.ndarray | None,
    how: dict[str, Any],
) -> list[_Line]:
    """The axes that change, those that shrink most first; the others are left out.

    Raises:
        ValueError: When scales, sizes or region do not fit the axes.
    """
    places = _places(axes, len(shape))
    given = [shape[a] for a in places]
    outputs, factors = _outputs(given, scales, sizes, how["keep_aspect_ratio_policy"])
    region = [0.0] * len(places) + [1.0] * len(places)
    if how["coordinate_transformation_mode"] == "tf_crop_and_resize":
        if roi is None or roi.size != len(region):
            raise ValueError(f"a region of interest of {2 * len(places)} numbers is needed")
        region = [float(v) for v in roi.reshape(-1)]
    ends = zip(region[: len(places)], region[len(places) :], strict=True)
    lines = [
        _Line(axis, size, output, factor, *end, place)
        for place, (axis, size, output, factor, end) in enumerate(
            zip(places, given, outputs, factors, ends, strict=True)
        )
    ]
    moving = [a for a in lines if not _stays(a)]
    return sorted(moving, key=lambda a: a.output / max(a.size, 1))


def _stays(line: _Line) -> bool:
    whole = (line.start, line.end) == (0.0, 1.0)
    return line.size == line.output and line.scale == 1.0 and whole


def _places(axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    return tuple(range(rank)) if axes is None else axes_of(axes, rank)


def _outputs(
    given: Sequence[int], scales: np.ndarray | None, sizes: np.ndarray | None, policy: str
) -> tuple[list[int], list[float]]:
    """Sizes of the result and scales; both as onnxruntime's float32 has them."""
    if scales is not None and scales.size:
        factors = [np.float32(v) for v in scales.reshape(-1)]
        if len(factors) != len(given) or min(factors, default=np.float32(1)) <= 0:
            raise ValueError(f"scales {scales.tolist()} for {len(given)} axes")
        outputs = [int(np.float32(d) * f) for d, f in zip(given, factors, strict=True)]
        return outputs, [float(f) for f in factors]
    if sizes is None or sizes.size != len(given):
        raise ValueError(f"neither scales nor sizes for {len(given)} axes")
    wanted = [int(v) for v in sizes.reshape(-1)]
    if policy == "stretch":
        return wanted, [o / max(d, 1) for o, d in zip(wanted, given, strict=True)]
    choose = {"not_larger": min, "not_smaller": max}[policy]
    factor = choose(np.float32(o) / np.float32(d) for o, d in zip(wanted, given, strict=True))
    return [int(np.float32(d) * factor + 0.5) for d in given], [float(factor)] * len(given)


def _coordinates(line: _Line, mode: str, kind: type[np.floating[Any]]) -> np.ndarray:
    """Where each element of the result stands among those of the operand."""
    at = np.arange(line.output).astype(kind)
    size, output, scale = kind(line.size), kind(line.output), kind(line.scale)
    half, one = kind(0.5), kind(1.0)
    if mode == "asymmetric":
        return np.asarray(at / scale)
    if mode == "align_corners":
        return np.asarray(at * (size - one) / max(output - one, one))
    if mode == "tf_crop_and_resize":
        start, end = kind(line.start), kind(line.end)
        if line.output == 1:
            return np.asarray(at + half * (start + end) * (size - one))
        return np.asarray(start * (size - one) + at * (end - start) * (size - one) / (output - one))
    if mode == "pytorch_half_pixel" and line.output == 1:
        return at
    if mode == "half_pixel_symmetric":
        offset = size / kind(2.0) * (one - output / (scale * size))
        return np.asarray(offset + (at + half) / scale - half)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return np.asarray((at + half) / scale - half)
    raise UnsupportedError(f"Resize with coordinate_transformation_mode {mode!r}")


def _nearest(at: np.ndarray, mode: str) -> np.ndarray:
    if mode in ("floor", "round_prefer_ceil"):
        return np.asarray(np.floor(at if mode == "floor" else at + 0.5))
    if mode in ("ceil", "round_prefer_floor"):
        return np.asarray(np.ceil(at if mode == "ceil" else at - 0.5))
    raise UnsupportedError(f"Resize with nearest_mode {mode!r}")


def _hat(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(1.0 - np.abs(x), 0.0))


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys, Cubic convolution interpolation for digital image processing, 1981."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.asarray(np.where(x <= 1, near, np.where(x < 2, far, 0.0)))


def _taps(line: _Line, how: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From which elements, and with what weights, each element of the result is made.

    What is decided by a comparison (the nearest element, and what lies outside the operand) is
    decided in float32, in the order of operations of onnxruntime; weights are exact.

    Returns:
        Places and weights [taps, output], and what lies inside [output].
    """
    name = how["coordinate_transformation_mode"]
    rough = _coordinates(line, name, np.float32)
    inside = np.ones(line.output, bool)
    if name == "tf_crop_and_resize":
        inside = (rough >= 0) & (rough <= line.size - 1)
    if how["mode"] == "nearest":
        at = _nearest(rough, how["nearest_mode"]).astype(np.int64)[None]
        return np.clip(at, 0, line.size - 1), np.ones(at.shape), inside
    exact = _coordinates(line, name, np.float64)
    if how["mode"] not in ("linear", "cubic"):
        raise UnsupportedError(f"Resize with mode {how['mode']!r}")
    support = 1 if how["mode"] == "linear" else 2
    squeeze = min(line.scale, 1.0) if how["antialias"] else 1.0
    reach = int(np.ceil(support / squeeze))
    at = np.floor(exact).astype(np.int64) + np.arange(1 - reach, reach + 1)[:, None]
    distance = (at - exact) * squeeze
    linear = how["mode"] == "linear"
    weights = _hat(distance) if linear else _cubic(distance, how["cubic_coeff_a"])
    if how["exclude_outside"]:
        weights = np.where((at >= 0) & (at < line.size), weights, 0.0)
    if how["antialias"] or how["exclude_outside"]:
        total = weights.sum(axis=0)
        weights = weights / np.where(total == 0.0, 1.0, total)
    return np.clip(at, 0, line.size - 1), weights, inside


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
    count = len(_places(axes, x.ndim))
    for line in _lines(x.shape, axes, region, factors, sizes, how):
        weights: Array
        places, weights, inside = _taps(line, how)
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


def _weights_in_region(n: Numbers, line: _Line, ends: Array, how: Mapping[str, Any]) -> Array:
    """The weights of `_taps`, as what the region makes of them; pieces are decided as there."""
    m = Computed(n)
    _, _, inside = _taps(line, dict(how))
    below = np.floor(_coordinates(line, how["coordinate_transformation_mode"], np.float64))
    r = _crop_at(m, ends, line.size, line.output) - m.as_numbers(below)
    at = below + _around(how["mode"])
    weights = _crop_weights(m, r, inside, (at >= 0) & (at < line.size), how)
    return [n.take(weights, np.asarray(k), 0) for k in range(len(at))]


def _resize_nodes(s: Site) -> Sequence[Var]:
    """Products with a matrix for each axis, [size, output]."""
    b, y, masks = s.b, s.x, []
    lines = _site_lines(s)
    for line in lines or ():
        _, _, inside = _taps(line, dict(s.attrs))
        y = _through(b, y, line.axis, b.constant(_matrix(line, s).T, s.x.dtype))
        masks.append((line.axis, b.constant(inside), bool(inside.all())))
    if lines is None:
        places = _places(s["axes"], s.x.rank)
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
    places = _places(s["axes"], len(shape))
    scales, sizes = _array(s, 2), _array(s, 3)
    known = [shape[a] for a in places]
    outputs: Sequence[Dim | None]
    if scales is None and sizes is None:
        outputs = _traced(s, len(places))
    elif sizes is not None and s["keep_aspect_ratio_policy"] == "stretch":
        outputs = [int(v) for v in sizes.reshape(-1)]
    elif all(isinstance(d, int) for d in known):
        policy = s["keep_aspect_ratio_policy"]
        outputs, _ = _outputs([int(d) for d in known], scales, sizes, policy)
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


def _site_lines(s: Site) -> list[_Line] | None:
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
    lines = _lines(shape, s["axes"], roi, scales, sizes, dict(s.attrs))
    return [line for line in lines if line.axis in places]


def _moving(s: Site, batched: bool = False) -> tuple[int, ...]:
    """The axes that may change; of the others it is known that they do not."""
    assert s.x.shape is not None
    x, y = s.x.shape[batched:], s.y.shape
    places = _places(s["axes"], len(x))
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
        each = dict(zip(_places(s["axes"], s.x.rank), scales.reshape(-1).tolist(), strict=True))
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
        lines = [_Line(a, 4, 4 * int(f), f, 0.0, 1.0) for a, f in factors.items()]
        if mode == "align_corners":
            return None
    for line in lines:
        places, _, _ = _taps(line, dict(s.attrs))
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


def _matrix(line: _Line, s: Site) -> np.ndarray:
    """What the axis is multiplied by: [output, size]."""
    places, weights, inside = _taps(line, dict(s.attrs))
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
    b, k = s.b, _places(s["axes"], s.x.rank).index(axis)
    count = len(_places(s["axes"], s.x.rank))
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
    places = _places(s["axes"], rank)
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


# ---- where onnxruntime has a kernel that is faster than the expansion ----------------------------


def _has_kernel(s: Site) -> bool:
    """For images in the wider floats."""
    return s.x.dtype in (DType.FLOAT32, DType.FLOAT64) and s.x.shape is not None and s.x.rank == 4


def _has_fast_kernel(s: Site) -> bool:
    """0.18 ms against 0.55 for 16x64x64; with any other mode or padding 0.4 to 2.3, and slower."""
    plain = s["mode"] == "linear" and s["padding_mode"] == "zeros"
    return plain and _has_kernel(s)


# ---- GridSample and AffineGrid -------------------------------------------------------------------


def _grid_sample(
    m: Medium, x: Any, grid: Any, *, mode: str, padding_mode: str, align_corners: int
) -> Any:
    sizes, rank = m.sizes(x), m.rank(x)
    spatial = sizes[2:]
    axes = []
    columns = m.unstack(grid, len(spatial), rank - 1)  # the last axis comes first
    for g, size in zip(reversed(columns), spatial, strict=True):
        at = _unnormalised(m, g, size, bool(align_corners))
        axes.append(sampling.taps(m, at, size, mode, padding_mode, bool(align_corners)))
    first = m.steps(sizes[0]) * sampling.times(spatial)
    first = m.reshape(first, [sizes[0], *[1] * len(spatial)])
    elements = sampling.terms(m, sampling.table(m, x), first, spatial, axes)
    y = m.sum(elements, range(len(spatial)))
    return m.transpose(y, (0, rank - 1, *range(1, rank - 1)))


def _unnormalised(m: Medium, g: Any, size: Any, corners: bool) -> Any:
    """-1 and 1 are the ends of an image: its outermost elements' centres, or their outer edges."""
    if corners:
        return (g + 1.0) * ((m.number(size) - 1.0) / 2.0)
    return ((g + 1.0) * m.number(size) - 1.0) / 2.0


def _grid_sample_types(s: Site) -> Sequence[Type]:
    x, grid = s.x.shape, s.x1.shape
    if x is None or grid is None:
        return [(s.x.dtype, None)]
    if len(x) != len(grid) or (isinstance(grid[-1], int) and grid[-1] != len(x) - 2):
        raise ValueError(f"a grid of shape {grid} for an image of shape {x}")
    return [(s.x.dtype, (x[0], x[1], *grid[1:-1]))]


def _grid_sample_kinks(
    _: Numbers, x: np.ndarray, grid: np.ndarray, *, mode: str, align_corners: int, **__: Any
) -> tuple[np.ndarray, np.ndarray]:
    """In units of the grid, how far the nearest element is; of `nearest`, the nearest edge."""
    margins, branches = [], []
    for axis, size in enumerate(x.shape[2:]):
        g = np.real(grid)[..., x.ndim - 3 - axis]
        at = _unnormalised(Computed(real), g, size, bool(align_corners))
        unit = max(size - 1 if align_corners else size, 1) / 2.0
        shift = 0.5 if mode == "nearest" else 0.0
        gap = np.abs(at + shift - np.round(at + shift))
        side = np.floor(at + shift)
        if mode == "cubic":  # smooth
            gap, side = np.full(at.shape, np.inf), np.zeros(at.shape)
        margins.append(gap / unit)
        branches.append(side)
    weights = 1000.0 ** np.arange(len(branches))
    branch = np.tensordot(weights, np.array(branches), 1)
    return np.min(margins, axis=0)[:, None], branch[:, None]


def _affine_grid(m: Medium, theta: Any, sizes: Sequence[Any], align_corners: int) -> Any:
    spatial, k = list(sizes[2:]), len(sizes) - 2
    columns = []
    for axis, size in reversed(list(enumerate(spatial))):
        at = m.as_numbers(m.steps(size))
        many = m.number(size)
        if not align_corners:
            at = (at * 2.0 + 1.0) / many - 1.0
        elif isinstance(size, Var) or size > 1:
            at = at * 2.0 / (many - 1.0) - 1.0
        columns.append(m.reshape(at, [size if a == axis else 1 for a in range(k)]))
    y: Any = None
    for column, at in enumerate([*columns, None]):
        factor = m.take(theta, column, 2)  # [N, k]
        factor = m.reshape(factor, [sizes[0], *[1] * k, k])
        term = factor if at is None else factor * m.apart(at, [0, k + 1])
        y = term if y is None else y + term
    return y


def _affine_grid_types(s: Site) -> Sequence[Type]:
    sizes = s.ints(1)
    if sizes is not None:
        return [(s.x.dtype, (sizes[0], *sizes[2:], len(sizes) - 2))]
    count = length(s.x1)
    if count is None:
        return [(s.x.dtype, None)]
    batch = s.x.shape[0] if s.x.shape is not None else s.b.fresh(1)[0]
    return [(s.x.dtype, (batch, *s.b.fresh(count - 2), count - 2))]


def _affine_grid_nodes(s: Site) -> Sequence[Var]:
    m, b = Emitted(s.x), s.b
    known = s.ints(1)
    if known is not None:
        return [_affine_grid(m, s.x, known, s["align_corners"])]
    count = length(s.x1)
    if count is None:
        raise UnsupportedError("AffineGrid whose number of dimensions is computed at run time")
    sizes = [b.op("Slice", s.x1, b.ints([k]), b.ints([k + 1]), b.ints([0])) for k in range(count)]
    return [_affine_grid(m, s.x, sizes, s["align_corners"])]


# ---- regions: RoiAlign and MaxRoiPool ------------------------------------------------------------

LEAST = float(np.finfo(np.float32).min)
"""Below whatever an image holds; finite, so that no difference of it is not a number."""


@dataclass(frozen=True)
class _Bins:
    """One axis of all regions, divided into bins, with samples in each.

    Attributes:
        at: Where the samples are [regions, bins, samples].
        count: How many of them each bin of a region has [regions]; an int where all have all.
        length: The region's extent before anything is done to it [regions].
        inside: Where the samples count at all.
    """

    at: Any
    count: Any
    length: Any
    inside: Any


def _bins(m: Medium, start: Any, end: Any, size: Any, bins: int, ratio: int, least: bool) -> _Bins:
    length = end - start
    extent = m.most(length, 1.0) if least else length
    each = m.apart(extent / float(bins), [1, 2])
    place = m.apart(m.as_numbers(m.steps(bins)), [0, 2])
    if ratio > 0:
        count: Any = ratio
        sample = (m.as_numbers(m.steps(ratio)) + 0.5) / float(ratio)
        at = m.apart(start, [1, 2]) + each * (place + m.apart(sample, [0, 1]))
    else:
        count = -m.floor(-(extent / float(bins)))
        sample = m.apart(m.as_numbers(m.steps(m.widest(count))), [0, 1])
        among = m.apart(count, [1, 2])
        at = m.apart(start, [1, 2]) + each * (place + (sample + 0.5) / m.most(among, 1.0))
    near = m.least(m.most(at, -1.0), m.number(size))
    inside = m.between(at - near, -1e-30, 1e-30)
    if ratio <= 0:
        inside = m.both(inside, m.between(among - sample, 0.5, 1e9))
    return _Bins(at, count, length, inside)


def _roi_bins(m: Medium, x: Any, rois: Any, **how: Any) -> list[_Bins]:
    half = how["coordinate_transformation_mode"] == "half_pixel"
    corners = m.unstack(rois * how["spatial_scale"] - (0.5 if half else 0.0), 4, 1)
    sizes, ratio = m.sizes(x), how["sampling_ratio"]
    return [
        _bins(m, corners[1], corners[3], sizes[2], how["output_height"], ratio, not half),
        _bins(m, corners[0], corners[2], sizes[3], how["output_width"], ratio, not half),
    ]


def _roi_terms(m: Medium, x: Any, at: Any, two: Sequence[_Bins], mode: str) -> Any:
    """The weighted corners of every sample: [2, 2, regions, rows, columns, sy, sx, C]."""
    sizes, axes = m.sizes(x), []
    for axis, (bins, size) in enumerate(zip(two, sizes[2:], strict=True)):
        spread = ([3, 5], [2, 4])[axis]
        places = bins.at
        if mode == "max":  # the greatest of the corners, each with its weight: of those inside
            places = m.least(m.most(places, 0.0), m.number(size) - 1.0)
        near, weights = sampling.taps(m, places, size, "linear", "border")
        weights = m.apart(m.only(bins.inside, weights), spread)
        axes.append((m.apart_whole(near, spread), weights))
    first = m.apart(at * sampling.times(sizes[2:]), [1, 2, 3, 4])
    return sampling.terms(m, sampling.table(m, x), first, sizes[2:], axes)


def _roi_align(m: Medium, x: Any, rois: Any, at: Any, *, mode: str, **how: Any) -> Any:
    two = _roi_bins(m, x, rois, **how)
    corners = _roi_terms(m, x, at, two, mode)
    ratio = how["sampling_ratio"]
    if mode == "max":
        best = m.max(corners, [0, 1])
        if ratio <= 0:
            best = m.choose(m.both(*_live(m, two)), best, LEAST)
        y = m.max(best, [3, 4])
        if ratio <= 0:
            full = m.apart(m.between(two[0].count * two[1].count, 0.5, 1e18), [1, 2, 3])
            y = m.choose(full, y, 0.0)
    elif mode == "avg":
        y = m.sum(m.sum(corners, [0, 1]), [3, 4])
        if ratio > 0:
            y = y * (1.0 / ratio**2)
        else:
            y = y / m.apart(m.most(two[0].count * two[1].count, 1.0), [1, 2, 3])
    else:
        raise UnsupportedError(f"RoiAlign with mode {mode!r}")
    return m.transpose(y, (0, 3, 1, 2))


def _live(m: Medium, two: Sequence[_Bins]) -> list[Any]:
    """Which samples there are, of rows and of columns, shaped as `_roi_terms` has them."""
    out = []
    for axis, bins in enumerate(two):
        samples = m.sizes(bins.at)[2]
        steps = m.apart(m.as_numbers(m.steps(samples)), [0, 1])
        left = m.apart(bins.count, [1, 2]) - steps
        spread = ([2, 4, 5], [1, 3, 5])[axis]
        out.append(m.between(m.apart(left, spread), 0.5, 1e9))
    return out


def _roi_types(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    regions = s.b.fresh(1)[0] if s.x1.shape is None else s.x1.shape[0]
    sizes = s.attrs.get("pooled_shape") or (s.attrs["output_height"], s.attrs["output_width"])
    return [(s.x.dtype, (regions, s.x.shape[1], *sizes))]


def _roi_align_kinks(
    n: Numbers, x: np.ndarray, rois: np.ndarray, at: np.ndarray, *, mode: str, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How far samples are from elements, counts from jumps, and of `max` the best from the next."""
    m = Computed(real)
    two = _roi_bins(m, x, rois, **how)
    scale = max(how["spatial_scale"], 1e-30)
    margin = np.full((len(rois), 1, 1, 1), np.inf)
    branch = np.zeros((len(rois), 1, 1, 1))
    for bins, many in zip(two, (how["output_height"], how["output_width"]), strict=True):
        parts = [bins.at.reshape(len(rois), -1)]
        if how["sampling_ratio"] <= 0:
            parts.append(bins.length[:, None] / many)
        if how["coordinate_transformation_mode"] != "half_pixel":
            parts.append(np.minimum(bins.length[:, None], 1.5))
        flat = np.concatenate(parts, axis=1)
        gap = np.min(np.abs(flat - np.round(flat)), axis=1) / scale
        margin = np.minimum(margin, gap[:, None, None, None])
        branch = 31.0 * branch + np.sum(np.floor(flat), axis=1)[:, None, None, None]
    if mode == "max":
        corners = np.moveaxis(_roi_terms(m, x, at, two, mode), (-1, 0, 1), (1, -2, -1))
        ranked = np.sort(corners.reshape(*corners.shape[:4], -1), axis=-1)
        margin = np.minimum(margin, ranked[..., -1] - ranked[..., -2])
        branch = branch + np.argmax(corners.reshape(ranked.shape), axis=-1)
    return np.broadcast_arrays(margin, branch)[0], np.broadcast_arrays(margin, branch)[1]


def _max_roi_pool(m: Medium, x: Any, rois: Any, **how: Any) -> Any:
    elements, filled = _in_bins(m, x, rois, **how)
    return m.transpose(m.choose(filled, m.max(elements, [3, 4]), 0.0), (0, 3, 1, 2))


def _max_roi_pool_kinks(
    n: Numbers, x: Array, rois: Array, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How far the greatest element of each bin is ahead of the next."""
    elements, _ = _in_bins(Computed(n), x, rois, **how)
    bins = np.transpose(np.real(elements), (0, 5, 1, 2, 3, 4))
    flat = bins.reshape(*bins.shape[:-2], -1)
    if flat.shape[-1] < 2:
        return np.full(flat.shape[:-1], np.inf), np.zeros(flat.shape[:-1], np.int64)
    top = np.partition(flat, -2, axis=-1)
    empty = top[..., -1] == LEAST
    return np.where(empty, np.inf, top[..., -1] - top[..., -2]), np.argmax(flat, axis=-1)


def _in_bins(
    m: Medium, x: Any, rois: Any, *, pooled_shape: Sequence[int], spatial_scale: float
) -> tuple[Any, Any]:
    """The elements of every bin over axes 3 and 4, LEAST behind them, and which bins have any."""
    sizes = m.sizes(x)
    corner = [m.floor(m.take(rois, k, 1) * spatial_scale + 0.5) for k in range(1, 5)]
    places, alive, filled = [], [], []
    for axis, (size, bins) in enumerate(zip(sizes[2:], pooled_shape, strict=True)):
        start, end = m.apart(corner[1 - axis], [1]), m.apart(corner[3 - axis], [1])
        extent = m.most(end - start + 1.0, 1.0)
        k = m.apart(m.as_numbers(m.steps(bins)), [0])
        ends = m.floor(k * extent / float(bins)), -m.floor(-(k + 1.0) * extent / float(bins))
        low, high = (m.least(m.most(e + start, 0.0), m.number(size)) for e in ends)
        count = high - low
        steps = m.as_numbers(m.steps(m.widest(count)))
        at = m.apart(low, [2]) + m.apart(steps, [0, 1])
        spread = ([0, 3, 5], [0, 2, 4])[axis]
        inside = m.least(at, m.number(size) - 1.0)
        places.append((m.apart_whole(m.whole(inside), spread), None))
        left = m.apart(count, [2]) - m.apart(steps, [0, 1])
        alive.append(m.between(m.apart(left, ([2, 4, 5], [1, 3, 5])[axis]), 0.5, 1e9))
        filled.append(m.between(m.apart(count, ([2, 3], [1, 3])[axis]), 0.5, 1e9))
    rows = sampling.table(m, x)
    first = m.apart(m.whole(m.take(rois, 0, 1)) * sampling.times(sizes[2:]), [1, 2, 3, 4])
    elements = sampling.terms(m, rows, first, sizes[2:], places)
    return m.choose(m.both(*alive), m.sum(elements, [0, 1]), LEAST), m.both(*filled)


# ---- DeformConv ----------------------------------------------------------------------------------


def _deformed(m: Medium, w: Any, offset: Any, **how: Any) -> tuple[list[int], list[Any]]:
    """The kernel, and where each tap reads: for each axis [N, offset groups, taps, out1..outk]."""
    kernel = m.sizes(w)[2:]
    if any(isinstance(d, Var) for d in m.sizes(w)):
        raise UnsupportedError("DeformConv whose weight has a shape that is computed at run time")
    k, taps = len(kernel), int(np.prod(kernel))
    samples, *outputs = (m.sizes(offset)[a] for a in (0, *range(2, 2 + k)))
    moved = m.reshape(offset, [samples, how["offset_group"], taps, k, *outputs])
    strides, dilations = (tuple(how[name] or (1,) * k) for name in ("strides", "dilations"))
    pads = tuple(how["pads"] or (0,) * 2 * k)
    within = np.indices(kernel).reshape(k, taps)
    places = []
    for axis, shift in enumerate(m.unstack(moved, k, 3)):
        window = m.as_numbers(m.steps(outputs[axis])) * float(strides[axis])
        tap = m.constant(within[axis] * dilations[axis] - pads[axis])
        column = m.apart(window, [a for a in range(3 + k) if a != 3 + axis])
        base = column + m.apart(tap, [a for a in range(3 + k) if a != 2])
        places.append(shift + base)
    return kernel, places


def _deform_conv(
    m: Medium,
    x: Any,
    w: Any,
    offset: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    group: int,
    offset_group: int,
    **how: Any,
) -> Any:
    kernel, places = _deformed(m, w, offset, offset_group=offset_group, **how)
    made, inner = m.sizes(w)[:2]
    k, taps, channels = len(kernel), int(np.prod(kernel)), inner * group
    sizes = m.sizes(x)
    samples, outputs = sizes[0], m.sizes(offset)[2:]
    images = m.reshape(x, [-1, channels // offset_group, *sizes[2:]])
    first = m.steps(samples * offset_group) * sampling.times(sizes[2:])
    first = m.reshape(first, [samples, offset_group, *[1] * (k + 1)])
    axes = [
        sampling.taps(m, at, size, "linear", "zeros")
        for at, size in zip(places, sizes[2:], strict=True)
    ]
    elements = sampling.terms(m, sampling.table(m, images), first, sizes[2:], axes)
    read = m.sum(elements, range(k))
    if mask is not None:
        read = read * m.reshape(mask, [samples, offset_group, taps, *outputs, 1])
    read = m.transpose(read, (0, 1, 3 + k, 2, *range(3, 3 + k)))
    columns = m.reshape(read, [samples, group, inner * taps, sampling.times(outputs)])
    weights = m.reshape(w, [group, made // group, inner * taps])
    y = m.reshape(m.matmul(weights, columns), [samples, made, *outputs])
    return y if bias is None else y + m.apart(bias, range(1, 1 + k))


def _deform_conv_types(s: Site) -> Sequence[Type]:
    w, offset = s.x1.shape, s.input(2).shape
    if w is None or offset is None or s.x.shape is None:
        return [(s.x.dtype, None)]
    return [(s.x.dtype, (s.x.shape[0], w[0], *offset[2:]))]


def _deform_conv_kinks(
    n: Numbers, x: np.ndarray, w: np.ndarray, offset: np.ndarray, *rest: Any, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    how.pop("group")
    _, places = _deformed(Computed(real), w, np.real(offset), **how)
    at = np.concatenate([p.reshape(len(p), -1, *p.shape[3:]) for p in places], axis=1)
    gap = np.min(np.abs(at - np.round(at)), axis=1, keepdims=True)
    return gap, np.sum(np.floor(at), axis=1, keepdims=True)


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
    composite(
        "GridSample",
        lambda n, x, grid, **how: _grid_sample(Computed(n), x, grid, **how),
        lambda s: [_grid_sample(Emitted(s.x), s.x, s.x1, **s.attrs)],
        inputs=("X", "grid"),
        infer=_grid_sample_types,
        attrs={"align_corners": 0, "mode": "linear", "padding_mode": "zeros"},
        keeps=_has_fast_kernel,
        kinks=_grid_sample_kinks,
        convention="of the two sides of an element, the one behind it",
    ),
    composite(
        "AffineGrid",
        lambda n, theta, size, align_corners: _affine_grid(
            Computed(n), theta, size.tolist(), align_corners
        ),
        _affine_grid_nodes,
        inputs=("theta", "size"),
        infer=_affine_grid_types,
        attrs={"align_corners": 0},
        flat={"size": SHAPE},
    ),
    composite(
        "RoiAlign",
        lambda n, x, rois, at, **how: _roi_align(Computed(n), x, rois, at, **how),
        lambda s: [_roi_align(Emitted(s.x), s.x, s.x1, s.input(2), **s.attrs)],
        inputs=("X", "rois", "batch_indices"),
        infer=_roi_types,
        attrs={
            "coordinate_transformation_mode": "half_pixel",
            "mode": "avg",
            "output_height": 1,
            "output_width": 1,
            "sampling_ratio": 0,
            "spatial_scale": 1.0,
        },
        flat={"batch_indices": INDEX},
        keeps=_has_kernel,
        kinks=_roi_align_kinks,
        convention="of the two sides of an element, the one behind it; what ties for the greatest "
        "shares evenly",
    ),
    composite(
        "MaxRoiPool",
        lambda n, x, rois, **how: _max_roi_pool(Computed(n), x, rois, **how),
        lambda s: [_max_roi_pool(Emitted(s.x), s.x, s.x1, **s.attrs)],
        inputs=("X", "rois"),
        infer=_roi_types,
        attrs={"pooled_shape": REQUIRED, "spatial_scale": 1.0},
        flat={"rois": "a region is rounded to whole elements"},
        kinks=_max_roi_pool_kinks,
        convention="elements that tie share evenly, as in ReduceMax",
        rounds=False,
    ),
    composite(
        "DeformConv",
        lambda n, x, w, offset, b=None, mask=None, **how: _deform_conv(
            Computed(n), x, w, offset, b, mask, **how
        ),
        lambda s: [_deform_conv(Emitted(s.x), *s.inputs, **s.attrs)],
        inputs=("X", "W", "offset", "B?", "mask?"),
        infer=_deform_conv_types,
        attrs={
            "dilations": None,
            "group": 1,
            "kernel_shape": None,
            "offset_group": 1,
            "pads": None,
            "strides": None,
        },
        keeps=_has_kernel,
        kinks=_deform_conv_kinks,
        convention="of the two sides of an element, the one behind it",
    ),
)
