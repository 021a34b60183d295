"""Fourier transforms, windows and cumulative sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, DType, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import AXES, INDEX, dims, shape_part
from gradcli.ops.card import Card, Site
from gradcli.ops.kinds import axis_of, composite, flat, linear, same

LENGTH = "a length is a whole number"
LARGE = 256
"""Primes up to here are transformed by a matrix."""

# ---- CumSum and CumProd --------------------------------------------------------------------------


def _running(
    n: Numbers,
    x: Array,
    axis: np.ndarray,
    join: Callable[[Array, Array], Array],
    neutral: float,
    exclusive: int,
    reverse: int,
) -> Array:
    """All elements along an axis up to each one, joined one after another."""
    along = axis_of(int(axis.reshape(())), x.ndim)
    before, size = [slice(None)] * along, x.shape[along]
    slices = [n.slice(x, [*before, slice(k, k + 1)]) for k in range(size)]
    if not slices:
        return x
    start = tuple(1 if a == along else d for a, d in enumerate(x.shape))
    number = n.is_number(x)
    total = n.full(start, neutral) if number else np.full(start, neutral, x.dtype)
    sums = []
    for part in slices[::-1] if reverse else slices:
        joined = join(total, part)
        sums.append(total if exclusive else joined)
        total = joined
    return n.concat(sums[::-1] if reverse else sums, along)


def _cum_sum(n: Numbers, x: Array, axis: np.ndarray, *, exclusive: int, reverse: int) -> Array:
    return _running(n, x, axis, lambda a, b: a + b, 0.0, exclusive, reverse)


def _cum_prod(n: Numbers, x: Array, axis: np.ndarray, *, exclusive: int, reverse: int) -> Array:
    return _running(n, x, axis, lambda a, b: a * b, 1.0, exclusive, reverse)


def _cum_sum_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    axis = s.x1
    if axis.const is not None:
        moved = s.b.constant(np.where(axis.const < 0, axis.const, axis.const + 1), axis.dtype)
    else:
        moved = s.b.where(axis < 0, axis, axis + 1)
    return [s.again(s.x, moved)]


def _cum_prod_expand(s: Site) -> Sequence[Var]:
    """Products over 1, 2, 4, ... elements: exact at zeros and to any order, as y / x is not."""
    b, (axis,) = s.b, s.ints(1) or (None,)
    if axis is None:
        raise UnsupportedError("CumProd along an axis that is computed at run time")
    along = axis_of(axis, s.x.rank)
    size = s.x.shape[along] if s.x.shape is not None else "?"
    if not isinstance(size, int):
        raise UnsupportedError(
            "CumProd along an axis whose size is known only at run time",
            "give the input's shape, so that the graph can be specialised to it",
        )
    sign = -1 if s["reverse"] else 1

    def shift(x: Var, by: int) -> Var:
        return b.op("Pad", x, b.ints([sign * by, -sign * by]), b.like(1.0, x), b.ints([along]))

    product, reach = shift(s.x, 1) if s["exclusive"] and size else s.x, 1
    while reach < size:
        product = product * shift(product, reach)
        reach *= 2
    return [product]


# ---- the discrete Fourier transform as numbers ---------------------------------------------------


def _roots(n: Numbers, size: int) -> tuple[Array, Array]:
    """Cosines and sines of all angles 2 pi k / size."""
    turns = n.divide(n.lift(np.arange(size) * 2.0), n.full((), float(max(size, 1))))
    return n.cos(turns * n.pi), n.sin(turns * n.pi)


def _fourier(
    n: Numbers, re: Array, im: Array, roots: tuple[Array, Array], step: int = 1
) -> tuple[Array, Array]:
    """The transform over the last axis, by Cooley and Tukey for any factors of its size.

    Args:
        n: Number system.
        re: Real parts.
        im: Imaginary parts.
        roots: Of unity, for the size of the whole transform.
        step: That size over this one.
    """
    size = re.shape[-1]
    factor = next((p for p in range(2, int(size**0.5) + 1) if size % p == 0), size)
    if factor == size > LARGE:
        return _chirped(n, re, im)
    if factor == size:
        k = np.arange(size)
        return _turned(n, re, im, roots, np.outer(k, k) % max(size, 1) * step, n.matmul)
    rest = size // factor

    def split(x: Array) -> Array:
        apart = n.reshape(x, (*x.shape[:-1], rest, factor))
        return n.transpose(apart, (*range(x.ndim - 1), x.ndim, x.ndim - 1))

    small = _fourier(n, split(re), split(im), roots, step * factor)
    p, k = np.arange(factor), np.arange(rest)
    small = _turned(n, *small, roots, np.outer(p, k) * step, _times)
    across = np.outer(p, p) % factor * (step * rest)
    re, im = _turned(n, *small, roots, across, lambda x, w: n.matmul(w, x))
    shape = (*re.shape[:-2], size)
    return n.reshape(re, shape), n.reshape(im, shape)


def _chirped(n: Numbers, re: Array, im: Array) -> tuple[Array, Array]:
    """The same for a large prime size, by Bluestein: a convolution, whose size is free."""
    size = re.shape[-1]
    wide = 1 << (2 * size - 2).bit_length()
    chirp, roots, k = _roots(n, 2 * size), _roots(n, wide), np.arange(size)
    squares = k * k % (2 * size)  # k n = (k^2 + n^2 - (k - n)^2) / 2

    def spread(x: Array) -> Array:
        return n.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, wide - size)], 0.0)

    gap = n.full((wide - 2 * size + 1,), 0.0)
    around = (n.take(part, squares, 0) for part in chirp)
    filters = [n.concat([x, gap, n.take(x, k[:0:-1], 0)], 0) for x in around]
    re, im = _turned(n, re, im, chirp, squares, _times)
    a, b = _fourier(n, spread(re), spread(im), roots)
    c, d = _fourier(n, filters[0], filters[1], roots)
    # The inverse transform is the transform between two conjugations.
    re, im = _fourier(n, a * c - b * d, -(a * d + b * c), roots)
    cuts, count = [slice(None)] * (re.ndim - 1) + [slice(0, size)], n.full((), float(wide))
    return _turned(n, n.slice(re, cuts) / count, -n.slice(im, cuts) / count, chirp, squares, _times)


def _times(x: Array, w: Array) -> Array:
    return x * w


def _turned(
    n: Numbers,
    re: Array,
    im: Array,
    roots: tuple[Array, Array],
    at: np.ndarray,
    by: Callable[[Array, Array], Array],
) -> tuple[Array, Array]:
    """re + i im times e^(-i angle), in some sense of "times"."""
    cos, sin = (n.take(root, at, 0) for root in roots)
    return by(re, cos) + by(im, sin), by(im, cos) - by(re, sin)


def _transform(
    n: Numbers, x: Array, axis: int, length: int | None, inverse: bool, onesided: bool
) -> Array:
    """The transform of x [..., 1 or 2] along an axis, real numbers or pairs for complex ones."""
    parts = [n.slice(x, [slice(None)] * (x.ndim - 1) + [slice(k, k + 1)]) for k in range(2)]
    perm = [*(a for a in range(x.ndim - 1) if a != axis), axis]
    size = x.shape[axis]
    half = inverse and onesided
    whole = length if length is not None else 2 * (size - 1) if half else size
    kept = whole // 2 + 1 if half else whole

    def row(part: Array) -> Array:
        """One part with the axis last, cut or filled up with zeros to what is transformed."""
        moved = n.transpose(n.reshape(part, x.shape[:-1]), perm)
        cut = n.slice(moved, [slice(None)] * (moved.ndim - 1) + [slice(0, kept)])
        return n.pad(cut, [(0, 0)] * (cut.ndim - 1) + [(0, kept - cut.shape[-1])], 0.0)

    re = row(parts[0])
    im = row(parts[1]) if x.shape[-1] == 2 else n.full(re.shape, 0.0)
    if half:
        k = np.arange(whole)
        mirror = np.where(k < kept, k, whole - k)
        re = n.take(re, mirror, -1)
        im = n.take(im, mirror, -1) * n.lift(np.where(k < kept, 1.0, -1.0))
    re, im = _fourier(n, re, -im if inverse else im, _roots(n, whole))
    if inverse:
        count = n.full((), float(whole))
        re, im = re / count, -im / count
    if onesided and not inverse:
        cuts = [slice(None)] * (re.ndim - 1) + [slice(0, whole // 2 + 1)]
        re, im = n.slice(re, cuts), n.slice(im, cuts)
    back = [perm.index(a) for a in range(len(perm))]
    planes = [n.transpose(part, back) for part in ([re] if half else [re, im])]
    return n.concat([n.reshape(part, (*part.shape, 1)) for part in planes], -1)


# ---- DFT -----------------------------------------------------------------------------------------


def _dft_axis(s: Site, rank: int) -> int | None:
    """The axis, not negative; None where it is computed."""
    if not s.has(2):
        return axis_of(-2, rank)
    given = s.ints(2)
    return None if given is None else axis_of(given[0], rank)


def _known_axis(s: Site, rank: int) -> int:
    axis = _dft_axis(s, rank)
    if axis is None:
        raise UnsupportedError("DFT along an axis that is computed at run time")
    return axis


def _dft_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    axis = _dft_axis(s, s.x.rank)
    half = bool(s["inverse"] and s["onesided"])
    parts = 1 if half else 2
    if axis is None:
        return [(s.x.dtype, (*s.b.fresh(s.x.rank - 1), parts))]
    given, size = s.ints(1), s.x.shape[axis]
    whole: Dim | None = given[0] if given else None
    if not s.has(1):
        whole = size if not half else 2 * (size - 1) if isinstance(size, int) else None
    if s["onesided"] and not half:
        whole = whole // 2 + 1 if isinstance(whole, int) else None
    dim = s.b.fresh(1)[0] if whole is None else whole
    return [(s.x.dtype, (*s.x.shape[:axis], dim, *s.x.shape[axis + 1 : -1], parts))]


def _dft(
    n: Numbers,
    x: Array,
    dft_length: np.ndarray | None = None,
    axis: np.ndarray | None = None,
    *,
    inverse: int,
    onesided: int,
) -> Array:
    along = axis_of(-2 if axis is None else int(axis.reshape(())), x.ndim)
    length = None if dft_length is None else int(dft_length.reshape(()))
    return _transform(n, x, along, length, bool(inverse), bool(onesided))


def _dft_transpose(s: Site, y_bar: Var) -> Var:
    """The conjugate transform: its matrix is symmetric, and so its transpose for pairs."""
    b, axis = s.b, _known_axis(s, s.x.rank)
    at = b.constant(np.int64(axis))
    size = shape_part(b, s.x, axis, axis + 1)
    whole = b.reshape(s.x1, [1]) if s.has(1) else size
    if s["inverse"]:
        z = b.op("DFT", y_bar, None, at, onesided=s["onesided"])
        z = z / b.count(s.y, [axis])
        if s["onesided"]:
            z = z * _weights(s, axis)
    else:
        if s["onesided"]:
            y_bar = _fitted(y_bar, axis, whole)
        z = b.op("DFT", y_bar, None, at, inverse=1) * b.cast(whole, y_bar.dtype)
    z = _fitted(z, axis, size)
    last = s.x.rank - 1
    parts = shape_part(b, s.x, last, last + 1)
    if parts.const is not None and parts.const == [2]:
        return z
    return b.op("Slice", z, b.ints([0]), parts, b.ints([last]))  # real numbers: the real part


def _weights(s: Site, axis: int) -> Var:
    """How often each coefficient of half a spectrum stands in the whole of it."""
    b, zero, one = s.b, s.b.constant(np.int64(0)), s.b.constant(np.int64(1))
    whole = b.op("Squeeze", shape_part(b, s.y, axis, axis + 1), b.ints([0]))
    two = b.constant(np.int64(2))
    k = b.op("Range", zero, b.op("Div", whole, two) + one, one)
    single = b.op("Equal", b.op("Mod", k * two, whole), zero)
    column = b.where(single, 1.0, 2.0, like=s.y)
    return b.reshape(column, [-1, *[1] * (s.x.rank - 1 - axis)])


def _fitted(x: Var, axis: int, size: Var) -> Var:
    """x cut, or filled up with zeros behind, to a size int64[1] of an axis."""
    b, have = x.b, shape_part(x.b, x, axis, axis + 1)
    if have.const is not None and size.const is not None:
        missing = b.ints((size.const - have.const).tolist())
        if missing.const is not None and not missing.const.any():
            return x
    else:
        missing = size - have
    return b.op("Pad", x, dims(b, [0], missing), None, b.ints([axis]))


def _dft_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    axis = _known_axis(s, s.x.rank - 1) + 1
    return [s.again(s.x, s.inputs[1] if s.has(1) else None, s.b.constant(np.int64(axis)))]


# ---- STFT ----------------------------------------------------------------------------------------


def _whole(s: Site, k: int) -> int | None:
    given = s.ints(k)
    return given[0] if given else None


def _frame_length(s: Site) -> int | None:
    """How long a frame is: as given, or as the window, or as the signal."""
    if s.has(3):
        return _whole(s, 3)
    shape, axis = (s.input(2).shape, 0) if s.has(2) else (s.x.shape, 1)
    size = None if shape is None else shape[axis]
    return size if isinstance(size, int) else None


def _stft_infer(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    if shape is None:
        return [(s.x.dtype, None)]
    length, step, (frames, bins) = _frame_length(s), _whole(s, 1), s.b.fresh(2)
    if isinstance(shape[1], int) and length is not None and step is not None:
        if length > shape[1]:
            raise ValueError(f"a frame of {length} does not fit a signal of {shape[1]}")
        frames = (shape[1] - length) // step + 1
    if length is not None:
        bins = length // 2 + 1 if s["onesided"] else length
    return [(s.x.dtype, (shape[0], frames, bins, 2))]


def _stft(
    n: Numbers,
    x: Array,
    frame_step: np.ndarray,
    window: Array | None = None,
    frame_length: np.ndarray | None = None,
    *,
    onesided: int,
) -> Array:
    size, step = x.shape[1], int(frame_step.reshape(()))
    if frame_length is not None:
        size = int(frame_length.reshape(()))
    elif window is not None:
        size = window.shape[0]
    starts = np.arange(0, x.shape[1] - size + 1, step)
    frames = n.take(x, starts[:, None] + np.arange(size), 1)
    if window is not None:
        frames = frames * n.reshape(window, (size, 1))
    y = _transform(n, frames, 2, None, False, False)
    return n.slice(y, [slice(None)] * 2 + [slice(0, size // 2 + 1 if onesided else size)])


def _stft_expand(s: Site) -> Sequence[Var]:
    """Frames are gathered, weighted and transformed."""
    b, zero, one = s.b, s.b.constant(np.int64(0)), s.b.constant(np.int64(1))

    def scalar(x: Var) -> Var:
        return b.cast(b.op("Reshape", x, b.ints([])), DType.INT64)

    total, step = scalar(shape_part(b, s.x, 1, 2)), scalar(s.x1)
    if s.has(3):
        size = scalar(s.input(3))
    else:
        size = scalar(shape_part(b, s.input(2), 0, 1)) if s.has(2) else total
    starts = b.op("Range", zero, total - size + one, step)
    places = b.unsqueeze(starts, [1]) + b.op("Range", zero, size, one)
    frames = b.op("Gather", s.x, places, axis=1)
    if s.has(2):
        frames = frames * b.unsqueeze(s.input(2), [1])
    axis = b.constant(np.int64(2))
    if s["onesided"] and s.x.shape is not None and s.x.shape[-1] == 1:
        return [b.op("DFT", frames, None, axis, onesided=1)]
    y = b.op("DFT", frames, None, axis)
    if not s["onesided"]:
        return [y]
    bins = b.op("Div", size, b.constant(np.int64(2))) + one
    return [b.op("Slice", y, b.ints([0]), b.reshape(bins, [1]), b.ints([2]))]


# ---- windows -------------------------------------------------------------------------------------


def _kind(s: Site) -> DType:
    return DType(s["output_datatype"])


def _typed(n: Numbers, y: Array, output_datatype: str) -> Array:
    kind = DType(output_datatype)
    return y if kind.is_float else n.to_integer(y, kind.np)


def _window(op: str, *weights: int) -> Card:
    """A sum of cosines: (w0 - w1 cos(angle) + w2 cos(2 angle)) / (w0 + w1 + w2)."""

    def impl(n: Numbers, size: np.ndarray, *, periodic: int, output_datatype: str) -> Array:
        count = int(size.reshape(()))
        around = n.full((), float(count if periodic else count - 1))
        turns = n.divide(n.lift(np.arange(count) * 2.0), around)
        y = n.full((count,), float(weights[0]))
        for k, weight in enumerate(weights[1:], 1):
            y = y + n.cos(turns * n.pi * float(k)) * float(weight * (-1) ** k)
        return _typed(n, n.divide(y, n.full((), float(sum(weights)))), output_datatype)

    return flat(
        op,
        impl,
        "it is made from its size alone",
        inputs=("size",),
        outputs=("output",),
        infer=lambda s: [(_kind(s), s.ints(0) or s.b.fresh(1))],
        attrs={"output_datatype": "float32", "periodic": 1},
        flat={"size": LENGTH},
    )


# ---- MelWeightMatrix -----------------------------------------------------------------------------


def _mel_infer(s: Site) -> Sequence[Type]:
    bands, length, (rows, columns) = _whole(s, 0), _whole(s, 1), s.b.fresh(2)
    rows = rows if length is None else length // 2 + 1
    return [(_kind(s), (rows, columns if bands is None else bands))]


def _mel(
    n: Numbers,
    num_mel_bins: np.ndarray,
    dft_length: np.ndarray,
    sample_rate: np.ndarray,
    lower: Array,
    upper: Array,
    *,
    output_datatype: str,
) -> Array:
    """Triangles over bins of a spectrum, their corners evenly apart in mel.

    Mel is proportional to log(1 + hertz / 700), whose factor cancels.
    """
    bands, length, rate = (int(x.reshape(())) for x in (num_mel_bins, dft_length, sample_rate))
    low, high = (n.log1p(n.divide(n.reshape(x, ()), n.full((), 700.0))) for x in (lower, upper))
    steps = n.divide(n.lift(np.arange(bands + 2) * 1.0), n.full((), bands + 2.0))
    hertz = n.expm1(low + (high - low) * steps) * 700.0
    at = n.floor(n.divide(hertz * float(length + 1), n.full((), float(rate))))
    corners = n.to_integer(at, np.dtype(np.int64))
    rows, (left, top, right) = (
        np.arange(length // 2 + 1),
        (corners[k : k + bands] for k in range(3)),
    )
    rows = rows[:, None]
    rising = (rows - left) / np.maximum(top - left, 1)
    falling = (right - rows) / np.maximum(right - top, 1)
    y = np.where((rows >= left) & (rows <= top), rising, 0.0)
    y = np.where((left == top) & (rows == top), 1.0, y)
    y = np.where((rows >= top) & (rows < right), falling, y)
    return _typed(n, n.lift(y), output_datatype)


HERTZ = "the matrix knows a frequency only by the bin that it falls into"

CARDS: tuple[Card, ...] = (
    linear(
        "CumSum",
        _cum_sum,
        lambda s, y_bar: s.again(y_bar, s.x1, reverse=1 - s["reverse"]),
        inputs=("x", "axis"),
        outputs=("y",),
        infer=same,
        batch=_cum_sum_batch,
        attrs={"exclusive": 0, "reverse": 0},
        flat={"axis": AXES},
    ),
    composite(
        "CumProd",
        _cum_prod,
        _cum_prod_expand,
        inputs=("x", "axis"),
        outputs=("y",),
        infer=same,
        attrs={"exclusive": 0, "reverse": 0},
        flat={"axis": AXES},
        since=26,
    ),
    linear(
        "DFT",
        _dft,
        _dft_transpose,
        inputs=("input", "dft_length?", "axis?"),
        outputs=("output",),
        infer=_dft_infer,
        batch=_dft_batch,
        attrs={"inverse": 0, "onesided": 0},
        flat={"dft_length": LENGTH, "axis": AXES},
    ),
    composite(
        "STFT",
        _stft,
        _stft_expand,
        inputs=("signal", "frame_step", "window?", "frame_length?"),
        outputs=("output",),
        infer=_stft_infer,
        attrs={"onesided": 1},
        flat={"frame_step": INDEX, "frame_length": LENGTH},
    ),
    _window("HannWindow", 1, 1),
    _window("HammingWindow", 25, 21),
    _window("BlackmanWindow", 42, 50, 8),
    flat(
        "MelWeightMatrix",
        _mel,
        HERTZ,
        inputs=(
            "num_mel_bins",
            "dft_length",
            "sample_rate",
            "lower_edge_hertz",
            "upper_edge_hertz",
        ),
        outputs=("output",),
        infer=_mel_infer,
        attrs={"output_datatype": "float32"},
        flat={
            "num_mel_bins": LENGTH,
            "dft_length": LENGTH,
            "sample_rate": LENGTH,
            "lower_edge_hertz": HERTZ,
            "upper_edge_hertz": HERTZ,
        },
    ),
)
