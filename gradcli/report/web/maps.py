"""Heat maps: a derivative over the shape of its input or output, a Jacobian, and errors."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcli.comparison import FLOOR, Block
from gradcli.report.cells import scientific, value
from gradcli.report.web.charts import NARROW, distance, power
from gradcli.report.web.svg import ROLES, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = 8
"""Channels of an image, or outputs of a Jacobian, that are drawn."""

TINY = 1e-300
"""Errors below this are drawn as this."""

STRIP = 600
"""Points of a curve over a sequence; of longer ones each point stands for several elements."""


@dataclass(frozen=True)
class Sheet:
    """A matrix to be drawn, and where its elements come from.

    Attributes:
        title: What it is of, e.g. `channel 2`.
        where: For each element of the matrix, its flat place in the block; -1 for none.
        axes: What rows and columns are.
    """

    title: str
    where: np.ndarray
    axes: tuple[str, str]


@dataclass(frozen=True)
class Map:
    """A heat map, or a curve where there is one axis only.

    Attributes:
        title: A few words.
        svg: The picture.
        text: What is to be seen, in a sentence.
        data: What is read off under the pointer: see `_readout`; empty for curves.
    """

    title: str
    svg: str
    text: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictured:
    """One block, in pictures.

    Attributes:
        name: The block's.
        said: What was left out or drawn together.
        maps: Of the derivative.
        errors: Of each method's error.
        largest: The largest elements: their place, the truth, and each method's error.
    """

    name: str
    said: tuple[str, ...]
    maps: tuple[Map, ...]
    errors: tuple[Map, ...]
    largest: tuple[tuple[str, ...], ...]


# ---- which element stands where ------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How a block is laid out in the plane.

    Axes of length 1 go; a Jacobian is a matrix first, and then an image for each of its outputs;
    leading axes of what has more than two are channels.

    Attributes:
        whole: All of it as one sheet; None where it is a pile of images.
        pile: Flat places of the images, [outputs, channels, rows, columns]; None where there are
            none.
        axes: What rows and columns of the images are.
    """

    whole: Sheet | None
    pile: np.ndarray | None = None
    axes: tuple[str, str] = ("", "")

    def sheets(self, weight: np.ndarray) -> tuple[Sheet, ...]:
        """What is drawn: of many images those that hold the most, that of the most first.

        Args:
            weight: Of every flat element.
        """
        first = () if self.whole is None else (self.whole,)
        return (*first, *map(self._image, self._ordered(weight)[:PANELS]))

    def left_out(self, weight: np.ndarray) -> tuple[str, ...]:
        """Of what `sheets` leaves out, the titles."""
        return tuple(map(self._title, self._ordered(weight)[PANELS:]))

    def _ordered(self, weight: np.ndarray) -> list[int]:
        """The images as they are drawn: in order where all are, else by what they hold."""
        if self.pile is None:
            return []
        most = np.max(weight[self.pile], axis=(2, 3)).ravel()
        if most.size <= PANELS:
            return list(range(most.size))
        return [int(k) for k in np.argsort(-most, kind="stable")]

    def holding(self, place: int) -> Sheet:
        """A sheet that holds a flat place."""
        if self.whole is not None:
            return self.whole
        assert self.pile is not None
        return self._image(place // math.prod(self.pile.shape[2:]))

    @property
    def images(self) -> str:
        """How many images there are, in words."""
        if self.pile is None:
            return ""
        counts = zip(self.pile.shape, ("outputs", "channels"), strict=False)
        return " of ".join(f"{n:,} {name}" for n, name in counts if n > 1)

    @property
    def count(self) -> int:
        """Sheets that are drawn."""
        images = 0 if self.pile is None else min(PANELS, math.prod(self.pile.shape[:2]))
        return images + (self.whole is not None)

    def _image(self, k: int) -> Sheet:
        assert self.pile is not None
        return Sheet(self._title(k), self.pile[divmod(k, self.pile.shape[1])], self.axes)

    def _title(self, k: int) -> str:
        assert self.pile is not None
        named = zip(
            ("output", "channel"), divmod(k, self.pile.shape[1]), self.pile.shape, strict=False
        )
        return ", ".join(f"{name} {at}" for name, at, n in named if n > 1)


def layout_of(block: Block) -> Layout:
    """A block in the plane."""
    places = np.arange(block.truth.size).reshape(block.truth.shape)
    rows, columns = math.prod(block.of), math.prod(block.wrt)
    if rows > 1 and columns > 1:
        matrix = Sheet("Jacobian", places.reshape(rows, columns), ("output", "input"))
        inner = _squeezed(block.wrt)
        if len(inner) < 2:
            return Layout(matrix)
        return Layout(matrix, places.reshape(rows, -1, *inner[-2:]), _axes(block.wrt))
    shape = block.wrt if columns > 1 else block.of if rows > 1 else ()
    inner = _squeezed(shape)
    if len(inner) < 2:
        return Layout(Sheet("", places.reshape(1, -1), ("", "element")))
    if len(inner) == 2:
        return Layout(Sheet("", places.reshape(inner), _axes(shape)))
    return Layout(None, places.reshape(1, -1, *inner[-2:]), _axes(shape))


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _axes(shape: Sequence[int]) -> tuple[str, str]:
    """Names of the last two axes that are longer than 1."""
    long = [k for k, n in enumerate(shape) if n != 1]
    return f"axis {long[-2]}", f"axis {long[-1]}"


def badness(block: Block, rtol: Mapping[str, float]) -> np.ndarray:
    """How far each element is off, beside its size and the tolerance of the method; flat.

    0 for what is exactly right, or not known.

    Args:
        block: Whose elements.
        rtol: The relative tolerance of each method that was judged.
    """
    truth = np.reshape(block.truth, -1)
    size = np.where(np.isfinite(truth), np.abs(truth), 0.0)
    size = np.fmax(size, FLOOR * np.max(size, initial=0.0) or 1.0)
    worst = np.zeros(truth.shape)
    for name, said in block.values.items():
        off = distance(np.reshape(said, -1), truth)
        worst = np.fmax(worst, off / size / (rtol.get(name) or 1.0))
    return worst


# ---- fewer cells ---------------------------------------------------------------------------------


def pooled(where: np.ndarray, size: np.ndarray, most: int) -> tuple[np.ndarray, tuple[int, int]]:
    """A sheet of at most so many cells, each the largest element of those that it stands for.

    Args:
        where: Flat places, a matrix.
        size: The magnitude of every flat element; NaN counts as least.
        most: Cells.

    Returns:
        The places that are left, and how many rows and columns one cell stands for.
    """
    rows, columns = where.shape
    high, wide = 1, 1
    while -(-rows // high) * -(-columns // wide) > most:
        if rows / high > columns / wide:
            high += 1
        else:
            wide += 1
    if high == wide == 1:
        return where, (1, 1)
    padded = np.pad(where, ((0, -rows % high), (0, -columns % wide)), constant_values=-1)
    down, across = padded.shape[0] // high, padded.shape[1] // wide
    tiles = np.moveaxis(padded.reshape(down, high, across, wide), 1, 2).reshape(down, across, -1)
    weights = np.where(tiles < 0, -2.0, np.nan_to_num(size[tiles], nan=-1.0))
    best = np.argmax(weights, axis=2)
    return np.take_along_axis(tiles, best[..., None], 2)[..., 0], (high, wide)


# ---- drawing -------------------------------------------------------------------------------------


def pictured(block: Block, most: int, rtol: Mapping[str, float]) -> Pictured:
    """A block in pictures.

    Args:
        block: What to draw.
        most: Cells of one picture.
        rtol: The relative tolerance of each method that was judged.
    """
    truth = np.reshape(block.truth, -1)
    off = {name: distance(np.reshape(a, -1), truth) for name, a in block.values.items()}
    layout = layout_of(block)
    flat, whose = _shown(block)
    size = np.where(np.isfinite(flat), np.abs(flat), 0.0)
    scale = float(np.max(size, initial=0.0))
    known = np.isfinite(truth).any()
    bad = badness(block, rtol)
    by_error = bool(np.any(bad))
    weight = bad if by_error else size
    said = [f"The truth is not known; this is what {whose} says."] if whose else []
    if left := layout.left_out(weight):
        said.append(chosen(layout.images, PANELS, left, by_error=by_error))
    return Pictured(
        block.name,
        tuple(said),
        tuple(_truth(block, flat, sheet, scale, most) for sheet in layout.sheets(weight)),
        tuple(_error(block, off[m], m, layout, most) for m in off) if known else (),
        tuple(_largest(block, truth, off)),
    )


NAMED = 12
"""Of what is left out, how much is called by its name."""


def chosen(of: str, shown: int, left: Sequence[str], *, by_error: bool) -> str:
    """Which of many are drawn, in a sentence.

    Args:
        of: What there is.
        shown: How many of them are drawn.
        left: The names of those that are not.
        by_error: Whether they are chosen by their errors; else by their size.
    """
    which = "errors beside the tolerance, the worst" if by_error else "elements, the largest"
    names = f": {', '.join(left)}" if len(left) <= NAMED else ""
    return (
        f"{of}: drawn are the {shown:,} with the largest {which} first; {len(left):,} left out"
        f"{names}."
    )


def _shown(block: Block) -> tuple[np.ndarray, str]:
    """The truth, flat; where nobody knows it, what the method says that computed most, its name."""
    arrays = {"": block.truth, **block.values}
    known = {name: int(np.sum(np.isfinite(a))) for name, a in arrays.items()}
    whose = "" if known[""] else max(known, key=lambda name: known[name])
    return np.reshape(arrays[whose], -1), whose


def single(blocks: Sequence[Block]) -> Pictured:
    """Blocks of one element each: a table of numbers needs no picture."""
    rows = []
    for block in blocks:
        flat = np.reshape(block.truth, -1)
        off = {name: distance(np.reshape(a, -1), flat) for name, a in block.values.items()}
        rows += [(f"{block.name}{at}", *cells) for at, *cells in _largest(block, flat, off)]
    return Pictured("", (), (), (), tuple(rows))


def _truth(block: Block, flat: np.ndarray, sheet: Sheet, scale: float, most: int) -> Map:
    text = _extremes(block, flat, sheet)
    if 1 in sheet.where.shape:
        svg = drawn(NARROW, 190, lambda f: _curve(f, flat[sheet.where.ravel()]), text)
        return Map(
            sheet.title or "derivative", svg, f"{text}{_enveloped(flat[sheet.where.ravel()])}"
        )
    where, cell = pooled(sheet.where, np.abs(flat), most)
    shown = np.where(where < 0, np.nan, flat[where])
    text += _cells(cell, "of the largest magnitude")

    def draw(figure: Figure) -> None:
        axes, bar = _panel(figure, sheet)
        limit = scale or 1.0
        _image(axes, shown / limit, (-1.0, 1.0), diverging(), cell)
        _marks(axes, shown, limit, cell)
        _legend(bar, "derivative", (-limit, 0.0, limit), diverging())

    svg = drawn(NARROW, _height(shown), draw, text)
    return Map(sheet.title or "derivative", svg, text, _readout(block, sheet, cell, shown, "value"))


def _error(block: Block, off: np.ndarray, method: str, layout: Layout, most: int) -> Map:
    known = off[np.isfinite(off)]
    endless = int(np.sum(np.isinf(off)))
    text = f"{method}: no element is known"
    if known.size:
        at = int(np.nanargmax(np.where(np.isfinite(off), off, -1.0)))
        text = f"{method}: at most {scientific(float(off[at]))}, at {_index(block, at)}"
    if 0 < known.size < off.size - endless:
        text += f"; {known.size:,} of {off.size:,} elements computed"
    if endless:
        text += f"; {endless:,} infinitely far off"
    if not np.any(known > 0):
        # A picture of nothing but zeros, or of nothing, is no picture.
        return Map(
            method, "", f"{method}: exactly the reference" if known.size == off.size else text
        )
    sheet = layout.holding(at)
    if layout.whole is None:
        text += f"; here is {sheet.title}, where that is"
    if 1 in sheet.where.shape:
        curve = off[sheet.where.ravel()]
        svg = drawn(NARROW, 170, lambda f: _curve(f, curve, log=True), text)
        return Map(method, svg, f"{text}{_enveloped(curve)}")
    # What is infinitely far off has no colour, and must not hide in its cell what has one.
    where, cell = pooled(sheet.where, np.where(np.isinf(off), np.nan, off), most)
    shown = np.where(where < 0, np.nan, off[where])
    text += _cells(cell, "that is furthest off")
    positive = shown[np.isfinite(shown) & (shown > 0)]
    high = max(float(positive.max()), TINY)
    low = max(min(float(positive.min()), high / 10), high * 1e-6)

    def draw(figure: Figure) -> None:
        axes, bar = _panel(figure, sheet)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(shown > 0, np.log10(np.fmin(shown, high)), np.nan)
        _image(axes, logs, (math.log10(low), math.log10(high)), sequential(), cell)
        _legend(bar, "error", (low, math.sqrt(low * high), high), sequential())

    svg = drawn(NARROW, _height(shown), draw, text)
    return Map(method, svg, text, _readout(block, sheet, cell, shown, "error"))


def _panel(figure: Figure, sheet: Sheet) -> tuple[Any, Any]:
    """Axes for a picture, with labels, and for its legend beside it."""
    axes, bar = figure.subplots(1, 2, width_ratios=(24, 1))
    for axis, name in ((axes.yaxis, sheet.axes[0]), (axes.xaxis, sheet.axes[1])):
        axis.get_major_locator().set_params(integer=True, nbins=5)
        axis.set_label_text(name)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    axes.tick_params(length=2)
    return axes, bar


def _image(
    axes: Any, shown: np.ndarray, limits: tuple[float, float], colors: Any, cell: tuple[int, int]
) -> None:
    """Cells, on axes that count elements."""
    rows, columns = shown.shape[0] * cell[0], shown.shape[1] * cell[1]
    axes.imshow(
        np.ma.masked_invalid(shown),
        cmap=colors,
        vmin=limits[0],
        vmax=limits[1],
        interpolation="none",
        aspect="auto",
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
    )


def _height(shown: np.ndarray) -> float:
    """Of a picture whose cells are squares, where that is not too flat or too high."""
    rows, columns = shown.shape
    return 46.0 + float(np.clip(235.0 * rows / columns, 80.0, 300.0))


SIGNED = 20
"""Rows or columns beyond which a sign is larger than its cell."""


def _marks(axes: Any, shown: np.ndarray, limit: float, cell: tuple[int, int]) -> None:
    """Signs on the largest and on the least cell: colours alone say nothing."""
    if max(shown.shape) > SIGNED:
        return
    known = np.where(np.isfinite(shown), shown, 0.0)
    for place, sign in ((np.argmax(known), "+"), (np.argmin(known), "−")):
        row, column = np.unravel_index(place, shown.shape)
        if known[row, column] != 0 and (known[row, column] > 0) == (sign == "+"):
            dark = abs(known[row, column]) > 0.5 * limit
            axes.text((column + 0.5) * cell[1] - 0.5, (row + 0.5) * cell[0] - 0.5, sign,
                      color="#ffffff" if dark else "#000000", ha="center", va="center",
                      fontsize=13)  # fmt: skip


def _legend(bar: Any, name: str, ticks: Sequence[float], colors: Any) -> None:
    """The colours from the least to the largest, with numbers beside them, and of what."""
    bar.imshow(np.linspace(1, 0, 128)[:, None], cmap=colors, aspect="auto", interpolation="none",
               extent=(0, 1, 0, 1))  # fmt: skip
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set_ylabel(name)
    bar.set_yticks(
        [0.0, 0.5, 1.0], [scientific(t) if t >= 0 else f"−{scientific(-t)}" for t in ticks]
    )
    bar.tick_params(length=2)


def _curve(figure: Figure, y: np.ndarray, *, log: bool = False) -> None:
    """A curve over a sequence; of a long one the highest and the lowest of every few elements."""
    axes: Any = figure.subplots()
    x = np.arange(y.size)
    # The margins of an axis are to be numbers too.
    y = np.clip(np.where(np.isfinite(y), y, np.nan), -1e300, 1e300)
    if log:
        axes.set_yscale("log")
        # What matplotlib writes there itself is a formula, which an SVG with text shows as source.
        axes.yaxis.set_major_formatter(lambda y, _: power(round(math.log10(y))))
        axes.yaxis.set_minor_formatter(lambda *_: "")
        y = np.where(y > 0, y, np.nan)
        if np.isfinite(y).any() and np.nanmax(y) < 1e3 * np.nanmin(y):
            axes.set_ylim(np.nanmin(y) / 10, np.nanmax(y) * 10)
    else:
        axes.axhline(0, color=ROLES["muted"], linewidth=0.8)
    if _is_sparse(y):
        # A line through a sample would miss what stands alone.
        axes.plot(x, y, "o", color=ROLES["first"], markersize=3)
        axes.set_xlim(-0.02 * y.size - 0.6, 1.02 * y.size - 0.4)
    elif y.size > STRIP:
        each = -(-y.size // STRIP)
        rows = np.pad(y, (0, -y.size % each), constant_values=np.nan).reshape(-1, each)
        keep = np.isfinite(rows).any(axis=1)
        x, rows = (np.arange(len(rows)) * each)[keep], rows[keep]
        low = np.nanmin(rows, axis=1)
        axes.fill_between(x, low, np.nanmax(rows, axis=1), color=ROLES["first"], linewidth=0.8)
    elif y.size > 48:
        axes.plot(x, y, color=ROLES["first"], linewidth=1)
    else:
        axes.plot(x, y, "o", color=ROLES["first"], markersize=5)
        if not log:
            axes.vlines(x, 0, y, color=ROLES["first"], linewidth=2)
        axes.set_xlim(-0.6, y.size - 0.4)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=4)
    axes.set_xlabel("element")
    axes.set_ylabel("error" if log else "derivative")
    axes.grid(axis="y")


def _is_sparse(y: np.ndarray) -> bool:
    """Whether so few elements of a sequence are known that each is a dot of its own."""
    return int(np.sum(np.isfinite(y))) <= min(STRIP, y.size // 2)


def _enveloped(y: np.ndarray) -> str:
    if y.size <= STRIP or _is_sparse(y):
        return ""
    return f"; each point stands for the range of {-(-y.size // STRIP):,} elements"


def _cells(cell: tuple[int, int], which: str) -> str:
    high, wide = cell
    return f"; each cell is the one {which} of {high} × {wide}" if high * wide > 1 else ""


def _extremes(block: Block, flat: np.ndarray, sheet: Sheet) -> str:
    places = sheet.where[np.isfinite(flat[sheet.where])]
    if not places.size:
        return "no element is known"
    top, bottom = places[np.argmax(flat[places])], places[np.argmin(flat[places])]
    return (
        f"from {flat[bottom]:.4g} at {_index(block, int(bottom))}"
        f" to {flat[top]:.4g} at {_index(block, int(top))}"
    )


def _index(block: Block, place: int) -> str:
    at = np.unravel_index(place, block.truth.shape)
    return f"[{', '.join(str(int(i)) for i in at)}]"


def _readout(
    block: Block, sheet: Sheet, cell: tuple[int, int], shown: np.ndarray, what: str
) -> dict[str, Any]:
    """Numbers under the pointer: float32 of each cell, row by row, and where elements are.

    A sheet is evenly spaced: an element's flat place is that of the first, and so much more for
    every row and column.
    """
    first = int(sheet.where[0, 0])
    rows, columns = sheet.where.shape
    with np.errstate(over="ignore"):
        single_precision = shown.astype("<f4")
    return {
        "what": what,
        "rows": shown.shape[0],
        "columns": shown.shape[1],
        "cell": list(cell),
        "shape": list(block.truth.shape),
        "first": first,
        "down": int(sheet.where[1, 0]) - first if rows > 1 else 0,
        "across": int(sheet.where[0, 1]) - first if columns > 1 else 0,
        "values": base64.b64encode(single_precision.tobytes()).decode(),
    }


def _largest(
    block: Block, flat: np.ndarray, off: Mapping[str, np.ndarray], shown: int = 8
) -> Iterator[tuple[str, ...]]:
    size = np.where(np.isfinite(flat), np.abs(flat), -1.0)
    for place in np.argsort(-size, kind="stable")[:shown]:
        if size[place] >= 0:
            errors = (_error_cell(o[place]) for o in off.values())
            yield (_index(block, int(place)), value(float(flat[place])), *errors)


def _error_cell(x: float) -> str:
    return "–" if math.isnan(x) else scientific(float(x))


# ---- colours -------------------------------------------------------------------------------------


def diverging() -> Any:
    """From blue over a light grey to red: lightness falls evenly to both sides, in Oklab."""
    from matplotlib.colors import ListedColormap

    t = np.linspace(-1, 1, 255)
    light = 0.96 - 0.56 * np.abs(t)
    chroma = 0.17 * np.sqrt(np.abs(t)) * np.abs(t) ** 0.25
    hue = np.where(t < 0, np.deg2rad(258.0), np.deg2rad(35.0))
    return ListedColormap(oklab(light, chroma * np.cos(hue), chroma * np.sin(hue)))


def sequential() -> Any:
    """Perceptually uniform, and the same to the colour-blind."""
    import matplotlib as mpl

    return mpl.colormaps["cividis"]


def oklab(light: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sRGB of colours in Oklab (Ottosson 2020), clipped to what a screen has, [n, 3]."""
    to_cones = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
         [1, -0.0894841775, -1.2914855480]]
    )  # fmt: skip
    to_linear = np.array(
        [[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
         [-0.0041960863, -0.7034186147, 1.7076147010]]
    )  # fmt: skip
    linear = np.clip((np.stack([light, a, b], 1) @ to_cones.T) ** 3 @ to_linear.T, 0, 1)
    return np.asarray(
        np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    )
