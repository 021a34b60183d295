"""A picture of matplotlib's as SVG inside a page: in the page's colours, without inline styles.

The page forbids inline styles, and its colours follow the reader's theme. So a picture is drawn in
colours that stand for roles, and what comes of it is rewritten: styles become attributes, and a
role's colour becomes the page's variable of that name.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from gradcli.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROLES = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "paper": "#040404",
    "first": "#050505",
    "second": "#060606",
    "odd": "#070707",
}
"""What a colour is for. These are never seen: the page has its own, for light and for dark."""

FONT = 11.0
"""Of labels, in pixels at the size that pictures are drawn for."""

_STYLE: Any = {
    "axes.edgecolor": ROLES["muted"],
    "axes.facecolor": "none",
    "axes.labelcolor": ROLES["ink"],
    "axes.labelsize": FONT,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 72.0,
    "figure.facecolor": "none",
    "font.size": FONT,
    "grid.color": ROLES["line"],
    "grid.linewidth": 0.8,
    "path.simplify_threshold": 0.3,
    "svg.fonttype": "none",
    "svg.hashsalt": "gradcli",
    "text.color": ROLES["ink"],
    # Nothing that is drawn is mathematics to be typeset.
    "text.parse_math": False,
    "xtick.color": ROLES["muted"],
    "xtick.labelcolor": ROLES["ink"],
    "xtick.labelsize": FONT,
    "ytick.color": ROLES["muted"],
    "ytick.labelcolor": ROLES["ink"],
    "ytick.labelsize": FONT,
}

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {"metadata", "style"}
_NUMBER = re.compile(r"-?\d+\.\d+")
_ID = re.compile(r"(url\(#|^#)([\w-]+)")


def needed() -> None:
    """Make sure that what draws and lays out is there.

    Raises:
        MissingExtraError: Without the extra `html`.
    """
    missing = [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"an HTML report needs {' and '.join(missing)}",
            'python -m pip install "gradcli[html]"',
        )


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty picture of so many pixels, in the style of the page; nothing global is changed."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width / 72.0, height / 72.0), layout="constrained")


def drawn(width: float, height: float, draw: Callable[[Figure], None], label: str) -> str:
    """What a function draws on an empty picture, as an element of a page.

    Args:
        width: Pixels.
        height: Likewise.
        draw: Puts something there.
        label: What it shows, in words, for whoever does not see it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    with canvas(width, height) as figure:
        draw(figure)
        written = io.BytesIO()
        # Not by `savefig`, which draws everything twice.
        canvas_of: Any = FigureCanvasSVG(figure)
        canvas_of.print_svg(written, metadata={"Date": None})
    return themed(written.getvalue(), label)


def themed(svg: bytes, label: str) -> str:
    """An SVG of matplotlib's in the page's colours, safe to stand inside it.

    Args:
        svg: As matplotlib wrote it.
        label: What it shows, in words.
    """
    root = ET.fromstring(svg)  # noqa: S314 # written by matplotlib just now, from numbers of ours
    used = {i for e in root.iter() for v in e.attrib.values() for _, i in _ID.findall(v)}
    # Names are matplotlib's, and the same in every picture; a page may have each only once.
    own = hashlib.sha256(svg + label.encode()).hexdigest()[:8]
    _walk(root, {name: f"{own}-{k}" for k, name in enumerate(sorted(used))})
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": label,
    }
    return ET.tostring(root, encoding="unicode")


def _walk(element: Any, names: dict[str, str]) -> None:
    """Rewrite an element and all below it; names are by matplotlib's."""
    element.tag = element.tag.removeprefix(_SVG)
    element.attrib = dict(_attributes(element.attrib, names))
    for child in list(element):
        tag = child.tag.removeprefix(_SVG)
        if tag in _DROPPED or (tag == "defs" and all(c.tag == f"{_SVG}style" for c in child)):
            element.remove(child)
        else:
            _walk(child, names)
            child.tail = None
    if element.tag == "defs":
        # A rule can reach what is used elsewhere by its own name only, not by what it stands in.
        for mark in element.iter("path"):
            mark.set("class", "mark")
    if element.tag != "text" and element.text is not None:
        element.text = element.text.strip() or None
    _lift(element)


_OWN = {"href", "x", "y"}


def _lift(group: Any) -> None:
    """Attributes that all of a group's uses share, said once: a scatter has hundreds of them."""
    if len(group) < 2 or any(child.tag != "use" for child in group):
        return
    first = {k: v for k, v in group[0].attrib.items() if k not in _OWN}
    shared = {k: v for k, v in first.items() if all(c.attrib.get(k) == v for c in group)}
    group.attrib |= shared
    for child in group:
        child.attrib = {k: v for k, v in child.attrib.items() if k not in shared}


def _attributes(given: dict[str, str], names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, written in given.items():
        text = _ID.sub(lambda m: m[1] + names.get(m[2], m[2]), written)
        if name == "style":
            yield from _unstyled(text)
        elif name == "id":
            if text in names:
                yield name, names[text]
        elif name == _LINK:
            yield "href", "".join(text.split())
        elif name == "transform" and text.startswith("rotate(-0 "):
            continue
        elif name in ("d", "x", "y", "points"):
            yield name, _NUMBER.sub(_rounded, text)
        elif not name.startswith("{"):
            yield name, text


def _rounded(match: re.Match[str]) -> str:
    """Two decimals: a hundredth of a pixel."""
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _unstyled(style: str) -> Iterator[tuple[str, str]]:
    """Declarations as attributes; of fonts only the size, since the page has its own."""
    sizes = re.findall(r"font(?:-size)?:[^;]*?([\d.]+)px", style)
    if sizes:
        yield "font-size", sizes[0]
    for declaration in style.split(";"):
        name, _, text = declaration.partition(":")
        name, text = name.strip(), text.strip()
        if name.startswith("font"):
            continue
        if name:
            yield name, _role(text)


_BY_COLOR = {color: f"var(--{role})" for role, color in ROLES.items()}


def _role(text: str) -> str:
    return _BY_COLOR.get(text, text)
