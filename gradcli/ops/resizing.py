"""The axes that Resize changes, and from which elements it makes each new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.ops.axes import axes_of


@dataclass(frozen=True)
class Line:
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


def lines_of(
    shape: Sequence[int],
    axes: Sequence[int] | None,
    roi: np.ndarray | None,
    scales: np.ndarray | None,
    sizes: np.ndarray | None,
    how: dict[str, Any],
) -> list[Line]:
    """The axes that change, those that shrink most first; the others are left out.

    Raises:
        ValueError: When scales, sizes or region do not fit the axes.
    """
    places = places_of(axes, len(shape))
    given = [shape[a] for a in places]
    outputs, factors = outputs_of(given, scales, sizes, how["keep_aspect_ratio_policy"])
    region = [0.0] * len(places) + [1.0] * len(places)
    if how["coordinate_transformation_mode"] == "tf_crop_and_resize":
        if roi is None or roi.size != len(region):
            raise ValueError(f"a region of interest of {2 * len(places)} numbers is needed")
        region = [float(v) for v in roi.reshape(-1)]
    ends = zip(region[: len(places)], region[len(places) :], strict=True)
    lines = [
        Line(axis, size, output, factor, *end, place)
        for place, (axis, size, output, factor, end) in enumerate(
            zip(places, given, outputs, factors, ends, strict=True)
        )
    ]
    moving = [a for a in lines if not _stays(a)]
    return sorted(moving, key=lambda a: a.output / max(a.size, 1))


def _stays(line: Line) -> bool:
    whole = (line.start, line.end) == (0.0, 1.0)
    return line.size == line.output and line.scale == 1.0 and whole


def places_of(axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """The axes that may be resized: all, unless some are named."""
    return tuple(range(rank)) if axes is None else axes_of(axes, rank)


def outputs_of(
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


def coordinates(line: Line, mode: str, kind: type[np.floating[Any]]) -> np.ndarray:
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


def taps(line: Line, how: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From which elements, and with what weights, each element of the result is made.

    What is decided by a comparison (the nearest element, and what lies outside the operand) is
    decided in float32, in the order of operations of onnxruntime; weights are exact.

    Returns:
        Places and weights [taps, output], and what lies inside [output].
    """
    name = how["coordinate_transformation_mode"]
    rough = coordinates(line, name, np.float32)
    inside = np.ones(line.output, bool)
    if name == "tf_crop_and_resize":
        inside = (rough >= 0) & (rough <= line.size - 1)
    if how["mode"] == "nearest":
        at = _nearest(rough, how["nearest_mode"]).astype(np.int64)[None]
        return np.clip(at, 0, line.size - 1), np.ones(at.shape), inside
    exact = coordinates(line, name, np.float64)
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
    places = np.clip(at, 0, line.size - 1)
    return places, _merged(places, weights), inside


def _merged(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights with those of one place added up in the first of them: beyond an end all are of one.

    So they are rounded once, and not in one way here and in another in a matrix of them.
    """
    merged, columns = np.zeros_like(weights), np.arange(weights.shape[1])
    first = np.zeros(weights.shape[1], np.int64)
    for k, place in enumerate(places):
        first = np.where(place == places[k - 1], first, k) if k else first
        merged[first, columns] += weights[k]
    return merged
