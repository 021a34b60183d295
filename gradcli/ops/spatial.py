"""Windows over the spatial axes of [N, C, D1..Dk]: what convolutions and pools share.

One place resolves auto_pad, pads, strides, dilations and ceil_mode into plain numbers, for the
primal, for shape inference and for the rules alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import dims as shape_tensor


@dataclass(frozen=True)
class Axis:
    """Windows along one axis: element t of window o stands at o*stride + t*dilation - before.

    A convolution reads the long side (`size`) and makes the short one (`output`); its transpose
    goes the other way, over the same windows.

    Attributes:
        size: Elements on the long side; "" where unknown.
        kernel: Elements of a window.
        stride: Between windows.
        dilation: Between a window's elements.
        before: Padding in front, negative where the first window leaves elements out; None where
            it hangs on an unknown size.
        after: Padding behind, enough for every window; None likewise.
        output: The number of windows; None where unknown.
        slack: Padded elements behind the last window's reach; None where unknown.
    """

    size: Dim
    kernel: int
    stride: int
    dilation: int
    before: int | None
    after: int | None
    output: Dim | None
    slack: int | None

    @property
    def reach(self) -> int:
        """How many elements a window spans, the gaps counted."""
        return (self.kernel - 1) * self.dilation + 1


Axes = tuple[Axis, ...]


def windows(
    sizes: Sequence[Dim],
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    centred: bool = False,
) -> Axes:
    """The windows of a convolution or a pool over spatial axes of these sizes.

    With auto_pad SAME and strides longer than windows there is nothing to pad, but elements are
    left over: a convolution leaves them behind the last window, a pool is `centred` and leaves half
    of them in front. So does onnxruntime.

    Raises:
        ValueError: When the attributes do not fit the rank, or auto_pad is unknown.
    """
    given = zip(sizes, _attributes(len(sizes), kernel, strides, dilations, pads), strict=True)
    return tuple(_axis(d, *numbers, auto_pad, bool(ceil_mode), centred) for d, numbers in given)


def _axis(
    size: Dim,
    kernel: int,
    stride: int,
    dilation: int,
    before: int,
    after: int,
    auto_pad: str,
    ceil: bool,
    centred: bool,
) -> Axis:
    reach = (kernel - 1) * dilation + 1
    if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        if stride == 1:
            output: Dim = size
            missing = reach - 1
        elif isinstance(size, int):
            output = -(-size // stride)
            missing = (output - 1) * stride + reach - size
            missing = missing if centred else max(missing, 0)
        else:
            return Axis(size, kernel, stride, dilation, None, None, None, None)
        before, after = halves(missing, more_before=auto_pad == "SAME_LOWER")
        after = max(after, 0)
    elif auto_pad == "VALID":
        before = after = 0
    elif auto_pad != "NOTSET":
        raise ValueError(f"auto_pad {auto_pad!r} is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    if not isinstance(size, int):
        if stride == 1:
            same = before + after == reach - 1
            return Axis(size, kernel, 1, dilation, before, after, size if same else None, 0)
        return Axis(size, kernel, stride, dilation, before, None if ceil else after, None, None)
    room = size + before + after - reach
    if room < 0 and not ceil:
        raise ValueError(
            f"a window of {reach} does not fit {size} elements padded by {before}, {after}"
        )
    output = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (output - 1) * stride >= size + before:
        # A window must not start in the padding behind: it would see nothing else.
        output -= 1
    after = max(after, (output - 1) * stride + reach - size - before)
    slack = size + before + after - ((output - 1) * stride + reach)
    return Axis(size, kernel, stride, dilation, before, after, output, slack)


def transposed(
    sizes: Sequence[Dim],
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
) -> Axes:
    """The windows of a transposed convolution whose operand, the short side, has these sizes.

    Padding that would have to be negative, because `output_shape` asks for more than the windows
    reach, becomes slack: elements behind that stay 0, as in onnxruntime.

    Raises:
        ValueError: When the attributes do not fit the rank, or auto_pad is unknown.
    """
    k = len(sizes)
    extra = tuple(output_padding or (0,) * k)
    asked: tuple[int | None, ...] = tuple(output_shape[-k:]) if output_shape else (None,) * k
    given = zip(sizes, _attributes(k, kernel, strides, dilations, pads), extra, asked, strict=True)
    return tuple(
        _transposed_axis(d, *numbers, more, wanted, auto_pad) for d, numbers, more, wanted in given
    )


def _transposed_axis(
    short: Dim,
    kernel: int,
    stride: int,
    dilation: int,
    before: int,
    after: int,
    extra: int,
    asked: int | None,
    auto_pad: str,
) -> Axis:
    reach = (kernel - 1) * dilation + 1
    slack = extra
    if auto_pad not in {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"}:
        raise ValueError(f"auto_pad {auto_pad!r} is none of NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    upper = auto_pad == "SAME_UPPER"
    if asked is not None:
        if not isinstance(short, int):
            return Axis(asked, kernel, stride, dilation, None, None, short, None)
        excess = (short - 1) * stride + reach + extra - asked
        before, after = halves(max(excess, 0), more_before=not upper)
        slack += max(-excess, 0)
    elif auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        excess = reach + extra - stride
        before, after = halves(max(excess, 0), more_before=not upper)
    elif auto_pad == "VALID":
        before = after = 0
    if isinstance(short, int):
        left = (short - 1) * stride + reach + slack - before - after
        if left < 0:
            raise ValueError(f"pads {before}, {after} cut away more than the {short} windows reach")
        return Axis(left, kernel, stride, dilation, before, after, short, slack)
    same = stride == 1 and reach + slack == 1 + before + after
    size = short if same else ""
    return Axis(size, kernel, stride, dilation, before, after, short, slack)


def _attributes(
    k: int,
    kernel: Sequence[int],
    strides: Sequence[int] | None,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
) -> list[tuple[int, int, int, int, int]]:
    """For each axis: kernel, stride, dilation, padding in front and behind."""
    pads = tuple(pads or (0,) * (2 * k))
    strides = tuple(strides or (1,) * k)
    dilations = tuple(dilations or (1,) * k)
    if not len(kernel) == len(strides) == len(dilations) == k or len(pads) != 2 * k:
        raise ValueError(
            f"{k} spatial axes, but kernel {tuple(kernel)}, strides {strides}, "
            f"dilations {dilations}, pads {pads}"
        )
    if min((1, *kernel, *strides, *dilations)) < 1 or min((0, *pads)) < 0:
        raise ValueError("kernels, strides and dilations are at least 1, pads at least 0")
    return list(zip(kernel, strides, dilations, pads[:k], pads[k:], strict=True))


def halves(total: int, more_before: bool) -> tuple[int, int]:
    """A padding split in two; an odd one gives its last element to the front or to the back."""
    before = int((total + more_before) / 2)  # towards zero, also when there is too much already
    return before, total - before


# ---- what inference and rules ask ----------------------------------------------------------------


def dims(b: Builder, known: Sequence[Dim | None]) -> tuple[Dim, ...]:
    """Dimensions, with a new symbol wherever nothing is known (None or "")."""
    return tuple(b.fresh(1)[0] if dim is None or not str(dim) else dim for dim in known)


def pads(axes: Axes) -> tuple[int, ...]:
    """All padding in ONNX's order: in front of each axis, then behind each.

    Raises:
        UnsupportedError: Where it hangs on a size that is known only at run time.
    """
    out: list[int] = []
    for pad in (*(a.before for a in axes), *(a.after for a in axes)):
        if pad is None:
            raise UnsupportedError(
                "auto_pad, ceil_mode or output_shape pads by a size that is known only at run time",
                "give the input's shape, so that the graph can be specialised to it",
            )
        out.append(pad)
    return tuple(out)


def strides(axes: Axes) -> tuple[int, ...]:
    """The strides of all axes."""
    return tuple(a.stride for a in axes)


def dilations(axes: Axes) -> tuple[int, ...]:
    """The dilations of all axes."""
    return tuple(a.dilation for a in axes)


def kernel(axes: Axes) -> tuple[int, ...]:
    """The window's size along all axes."""
    return tuple(a.kernel for a in axes)


# ---- as numbers ----------------------------------------------------------------------------------


def counts(axes: Axes, padding: tuple[tuple[int, int], ...]) -> np.ndarray:
    """How many elements of each window lie in the long side widened by this padding.

    Args:
        axes: Windows of known sizes.
        padding: (before, after) for each axis: the part of the padding that counts.
    """
    total = np.ones((), np.float64)
    for axis, (before, after) in zip(axes, padding, strict=True):
        assert isinstance(axis.size, int)
        assert isinstance(axis.output, int)
        assert axis.before is not None
        starts = np.arange(axis.output)[:, None] * axis.stride - axis.before
        places = starts + np.arange(axis.kernel) * axis.dilation
        inside = (places >= -before) & (places < axis.size + after)
        total = total[..., None] * inside.sum(axis=1)
    return total


def cut(n: Numbers, x: Array, axes: Axes, fill: float | Array) -> Array:
    """Every window of x [N, C, D1..Dk], padded with `fill`: [N, C, out1.., kernel1..]."""
    front, back = _ends(axes)
    within = n.slice(x, [slice(None), slice(None), *(slice(max(-p, 0), None) for p in front)])
    widths = [(max(p, 0), q) for p, q in zip(front, back, strict=True)]
    return windowed(n, n.pad(within, [(0, 0), (0, 0), *widths], fill), axes)


@dataclass(frozen=True)
class Phase:
    """What a transposed convolution adds up at every stride-th place along one axis.

    Attributes:
        axis: The windows of the short side that meet there.
        taps: The kernel's elements that they meet, in the windows' order.
    """

    axis: Axis
    taps: tuple[int, ...]


def phases(a: Axis) -> list[Phase]:
    """A transposed convolution along an axis as convolutions, one for each place within a stride.

    The long side's place u takes x[o] w[t] wherever o*stride + t*dilation = u + before; with
    u = q*stride + r, such t are the same for every q, and their o lie q apart.
    """
    assert isinstance(a.size, int)
    assert isinstance(a.output, int)
    assert a.before is not None
    places = -(-a.size // a.stride)
    found = []
    for r in range(a.stride):
        taps = [t for t in range(a.kernel) if (r + a.before - t * a.dilation) % a.stride == 0]
        taps.reverse()
        starts = [(r + a.before - t * a.dilation) // a.stride for t in taps]
        step = starts[1] - starts[0] if len(taps) > 1 else 1
        reach = (len(taps) - 1) * step + 1
        before = -starts[0] if taps else 0
        left = max(a.output + min(before, 0), 0) + max(before, 0)
        missing = places - 1 + reach - left
        windows = Axis(
            a.output,
            len(taps),
            1,
            step,
            before,
            max(missing, 0),
            places,
            max(-missing, 0),
        )
        found.append(Phase(windows, tuple(taps)))
    return found


def interleave(n: Numbers, parts: Sequence[Array], axes: Axes) -> Array:
    """The phases' results [N, M, places1..], in the order of their product, as the long side."""
    k = len(axes)
    by = strides(axes)
    if len(parts) == 1:
        whole = parts[0]
    else:
        shape = parts[0].shape
        whole = n.concat([n.reshape(part, (1, *shape)) for part in parts], 0)
        whole = n.reshape(whole, (*by, *shape))
        pairs = [axis for i in range(k) for axis in (k + 2 + i, i)]
        whole = n.transpose(whole, (k, k + 1, *pairs))
        long = [d * s for d, s in zip(shape[2:], by, strict=True)]
        whole = n.reshape(whole, (*shape[:2], *long))
    return n.slice(whole, [slice(None), slice(None), *(slice(0, int(a.size)) for a in axes)])


def cut_places(n: Numbers, plane: np.ndarray, axes: Axes) -> np.ndarray:
    """What `cut` does, for integers over the spatial axes alone: padding repeats the nearest."""
    front, back = _ends(axes)
    within = plane[tuple(slice(max(-p, 0), None) for p in front)]
    widths = [(max(p, 0), q) for p, q in zip(front, back, strict=True)]
    return np.asarray(windowed(n, np.pad(within, widths, mode="edge"), axes))


def _ends(axes: Axes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ends = pads(axes)
    return ends[: len(axes)], ends[len(axes) :]


def windowed(n: Numbers, padded: Array, axes: Axes) -> Array:
    """Every window over the last axes of an array padded already: [..., out.., kernel..]."""
    view = n.windows(padded, kernel(axes), strides(axes), dilations(axes))
    if any(a.slack is not None and a.slack >= a.stride for a in axes):
        rest = (slice(None),) * (padded.ndim - len(axes))
        view = n.slice(view, [*rest, *(slice(0, int(a.output or 0)) for a in axes)])
    return view


def taps(n: Numbers, view: Array, k: int) -> Iterator[Array]:
    """The elements of all windows, tap by tap in row-major order: arrays [..., out1..outk]."""
    rank = view.ndim - k
    for tap in np.ndindex(*view.shape[rank:]):
        cuts = [*(slice(None),) * rank, *(slice(t, t + 1) for t in tap)]
        yield n.reshape(n.slice(view, cuts), view.shape[:rank])


# ---- as graphs -----------------------------------------------------------------------------------


def spread(b: Builder, y: Var, w: Var, axes: Axes, group: int, like: Var) -> Var:
    """The transpose of a convolution in its data: y [N, M, short] through w, shaped like `like`.

    The remainder that strides leave behind the last window becomes output_padding; where it is not
    known before the run, or is longer than ONNX allows, a Pad does the same.
    """
    given: dict[str, Any] = {
        "group": group,
        "kernel_shape": kernel(axes),
        "strides": strides(axes),
        "dilations": dilations(axes),
    }
    slack = [a.slack for a in axes]
    front, back = _ends(axes)
    fits = all(r is not None and r < a.stride for r, a in zip(slack, axes, strict=True))
    if fits and min((0, *front)) == 0:
        return b.op(
            "ConvTranspose", y, w, pads=(*front, *back), output_padding=tuple(slack), **given
        )
    cut_front = tuple(max(p, 0) for p in front)
    whole = b.op("ConvTranspose", y, w, pads=(*cut_front, *(0,) * len(axes)), **given)
    added = [0, 0, *(max(-p, 0) for p in front)]
    # Longer or shorter than wanted: a negative pad cuts.
    want, got = b.shape_of(like), b.shape_of(whole)
    if want.const is not None and got.const is not None:
        missing = b.ints((want.const - got.const - added).tolist())
    else:
        missing = b.op("Sub", b.op("Sub", want, got), b.ints(added))
    return b.op("Pad", whole, shape_tensor(b, added, missing))
