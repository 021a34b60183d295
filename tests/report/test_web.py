"""The HTML report as a file: what it may load, what it says, how large it is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradcli.comparison import At, Comparison
from gradcli.errors import MissingExtraError
from gradcli.report import html
from gradcli.report.headline import headline
from gradcli.report.web import LARGEST, svg
from gradcli.report.web.maps import PANELS, diverging, layout_of, pictured, pooled
from tests.installed import needs_html
from tests.report import examples
from tests.report.pictured import block, drawn

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus=alert(1) autofocus='",
    "</style></script><svg onload=alert(1)>",
    "[link=https://example.org]click[/link]",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{1}{0}$ #{x} url(#p)",
    "javascript:alert(1)//\u202e\x1b[31m",
)

VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """Tags with their attributes, their nesting held to; text by the tag it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such tag."""
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self) -> str:
        """All that is read."""
        return "".join(t for tag, t in self.texts if tag not in ("script", "style"))


def renamed(value: Any, text: str) -> Any:
    """A fact with this text for every name and sentence that is not one of gradcli's own words."""
    own = {"method", "status", "operator", "dtype", "kind", "decided", "provider", "witness"}
    if is_dataclass(value) and not isinstance(value, type):
        kept = {f.name for f in fields(value)} & own
        changes = {
            f.name: renamed(getattr(value, f.name), text)
            for f in fields(value)
            if f.name not in kept
        }
        return replace(value, **changes)
    if isinstance(value, str) and value and not isinstance(value, Enum):
        return text
    if isinstance(value, tuple):
        return tuple(renamed(v, text) for v in value)
    return value


def hostile(text: str) -> Comparison:
    c = drawn()
    made: Comparison = renamed(c, text)
    subject = replace(made.subject, wrt={text: (1, 2)}, of={text: (3,)})
    # Names of methods are gradcli's own.
    advice = tuple(replace(a, text=text) for a in c.advice)
    explanation = made.explanation
    assert explanation is not None
    explanation = replace(explanation, method="reverse")
    return replace(made, subject=subject, advice=advice, sweeps=c.sweeps, explanation=explanation)


@pytest.fixture(scope="module")
def page() -> str:
    return html(drawn(), command="gradcli compare m.onnx --sweep")


@needs_html
def test_it_says_everything(page: str):
    text = Page(page).text
    for word in (
        "AGREE", "sample_models/physics.onnx", "Error against the truth", "Time", "Jacobian",
        "Error over the step", "Kinks and domain edges", "Where the error comes from",
        "Environment", "gradcli compare m.onnx --sweep", "onnxruntime", "for 1 evaluation",
    ):  # fmt: skip
        assert word in text, word
    assert page.startswith("<!doctype html>")


@needs_html
def test_it_loads_nothing_and_runs_nothing_but_its_own(page: str):
    parsed = Page(page)
    (policy,) = [
        m["content"] or ""
        for m in parsed.of("meta")
        if m.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "foreignobject")
        for name, text in attrs.items():
            assert name != "style"
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert (text or "").startswith(("#", "data:image/png;base64,"))
    outside = re.findall(r"https?://[^\s\"'<]+", page)
    assert set(outside) <= {"http://www.w3.org/2000/svg"}


@needs_html
@pytest.mark.parametrize("text", HOSTILE)
def test_names_stay_names(text: str, page: str):
    made = html(hostile(text), command=text)
    parsed, calm = Page(made), Page(page)
    assert len(parsed.of("script")) == len(calm.of("script")) == 2
    assert {tag for tag, _ in parsed.tags} == {tag for tag, _ in calm.tags}
    names = {name for _, attrs in calm.tags for name in attrs}
    assert {name for _, attrs in parsed.tags for name in attrs} <= names
    shown = text.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert parsed.text.count(shown) > 10
    assert "49" not in "".join(t for tag, t in parsed.texts if tag == "h1")


@needs_html
def test_letters_from_right_to_left_turn_no_number_beside_them():
    name = "\u05e9\u05dc\u05d5\u05dd"
    made = Page(html(hostile(name), command=f"gradcli {name}"))
    assert f"\u2068{name}\u2069[" in made.text
    assert [t for tag, t in made.texts if tag == "code" and name in t] == [f"gradcli {name}"]


@needs_html
def test_of_many_nodes_some_are_shown_and_all_are_there():
    c = drawn()
    assert c.explanation is not None
    node = c.explanation.nodes[0]
    nodes = tuple(replace(node, node=f"node{k}") for k in range(50))
    made = Page(html(replace(c, explanation=replace(c.explanation, nodes=nodes))))
    names = [t for tag, t in made.texts if tag == "th" and t.startswith("node")]
    assert [n.split()[0] for n in names if n != "node"] == [f"node{k}" for k in range(50)]
    assert "30 more" in [t for tag, t in made.texts if tag == "summary"]


@needs_html
def test_identifiers_are_unique_and_everything_pointed_at_is_there(page: str):
    tags = Page(page).tags
    ids = Counter(a["id"] for _, a in tags if "id" in a)
    assert [name for name, n in ids.items() if n > 1] == []
    pointed = {
        a[name] for _, a in tags for name in ("aria-labelledby", "aria-controls") if name in a
    }
    pointed |= {(a["href"] or "")[1:] for _, a in tags if (a.get("href") or "").startswith("#")}
    pointed |= {
        m for _, a in tags for v in a.values() for m in re.findall(r"url\(#([^)]+)\)", v or "")
    }
    assert pointed <= set(ids)


@needs_html
def test_every_picture_says_in_words_what_it_shows(page: str):
    parsed = Page(page)
    pictures = parsed.of("svg")
    assert len(pictures) > 10
    for picture in pictures:
        assert picture["role"] == "img"
        assert len(picture["aria-label"] or "") > 10


@needs_html
def test_what_is_read_off_a_picture_is_the_number_itself():
    b = block("y/x", (2,), (3, 4))
    (data, *_) = json.loads(re.findall(r'id="maps">(.*?)</script>', html(drawn(b)), re.DOTALL)[0])
    values = np.frombuffer(base64.b64decode(data["values"]), "<f4").reshape(2, 12)
    assert np.array_equal(values, b.truth.reshape(2, 12).astype(np.float32))
    assert (data["first"], data["down"], data["across"]) == (0, 12, 1)
    assert data["shape"] == [2, 3, 4]


@needs_html
def test_a_large_answer_makes_no_large_page():
    c = drawn(*(block(f"y{k}/x", (4,), (3, 100, 90), k) for k in range(3)))
    many = tuple(replace(c.kinks[0], node=f"{'n' * 5000}{k}") for k in range(3000))
    assert c.explanation is not None
    nodes = tuple(replace(c.explanation.nodes[0], node="m" * 5000) for _ in range(3000))
    c = replace(
        c,
        kinks=many,
        notes=tuple("x" * 5000 for _ in range(3000)),
        explanation=replace(c.explanation, nodes=nodes),
    )
    made = html(c, command="gradcli " + "y" * 10**7)
    assert 100_000 < len(made.encode()) <= LARGEST
    assert "more characters" in made
    assert "the largest of" in made or "of the largest magnitude" in made or "first" in made


@needs_html
def test_without_elements_the_page_says_so():
    text = Page(html(examples.smooth())).text
    assert "numbers themselves were not kept" in text
    assert "Error against the truth" not in text


@needs_html
def test_a_draft_says_all_and_draws_nothing(monkeypatch: pytest.MonkeyPatch, page: str):
    monkeypatch.setattr(svg, "canvas", None)
    made, whole = Page(html(drawn(), draft=True)), Page(page)
    assert made.of("svg") == []
    assert "Pictures are drawn at the end, and this page is from before" in made.text
    sections = {a["id"] for a in made.of("section")}
    assert {"methods", "sweep", "kinks", "nodes", "again"} <= sections
    assert len(made.of("td")) > 100
    assert "this page is from before" not in whole.text


@needs_html
def test_of_the_same_facts_a_page_is_the_same(page: str):
    assert html(drawn(), command="gradcli compare m.onnx --sweep") == page


@needs_html
def test_where_nobody_knows_the_truth_a_method_is_drawn():
    b = block("x", (), (4, 4))
    unknown = np.full_like(b.truth, np.nan)
    made = Page(html(drawn(replace(b, truth=unknown)))).text
    assert "The truth is not known; this is what reverse says." in made


@needs_html
def test_numbers_that_are_none_break_nothing():
    b = block("x", (), (4, 4))
    for bad in (np.nan, np.inf, 0.0, 5e-324, 1.7e308):
        values = {name: np.full_like(a, bad) for name, a in b.values.items()}
        Page(html(drawn(replace(b, truth=np.full_like(b.truth, bad), values=values))))
        Page(html(drawn(replace(b, values=values))))


def test_without_the_extra_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(svg, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs jinja2 and matplotlib") as error:
        html(examples.smooth())
    assert error.value.hint == 'python -m pip install "gradcli[html]"'


# ---- colours -------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    c = np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    """Of two colours (WCAG 2.2)."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_marks_are_told_from_what_is_behind_them(theme: int):
    css = files("gradcli.report.web").joinpath("page.css").read_text(encoding="utf-8")
    pairs = dict(re.findall(r"--(\w+): light-dark\((#\w{6}, #\w{6})\)", css))
    colors = {name: pair.split(", ")[theme] for name, pair in pairs.items()}
    for behind in ("paper", "raised"):
        for name in ("ink", "muted", "first", "second", "odd", "good", "bad"):
            assert contrast(colors[name], colors[behind]) >= 4.5, (name, behind)


@needs_html
def test_lightness_falls_evenly_from_the_middle_to_both_ends():
    colors = diverging()(np.linspace(0, 1, 21))[:, :3]
    shown = ["#" + "".join(f"{round(255 * c):02x}" for c in color) for color in colors]
    y = np.array([luminance(color) for color in shown])
    light = np.cbrt(y)
    assert np.argmax(light) == 10
    for side in (light[10:], light[10::-1]):
        falls = -np.diff(side)
        assert np.all(falls > 0)
        assert falls.max() < 3 * falls.min()
    assert abs(light[0] - light[-1]) < 0.1


# ---- which element stands where ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "wrt", "titles", "shapes"),
    [
        ((), (1, 7), [""], [(1, 7)]),
        ((), (1, 1, 8, 6), [""], [(8, 6)]),
        ((), (1, 3, 4, 5), ["channel 0", "channel 1", "channel 2"], [(4, 5)] * 3),
        ((5, 2), (), [""], [(5, 2)]),
        ((1, 3), (1, 4), ["Jacobian"], [(3, 4)]),
        ((2,), (1, 4, 5), ["Jacobian", "output 0", "output 1"], [(2, 20), (4, 5), (4, 5)]),
        ((1, 1), (3, 4), [""], [(3, 4)]),
        ((), (), [""], [(1, 1)]),
    ],
)
def test_shapes_are_laid_out_as_images(of, wrt, titles, shapes):
    b = block("x", of, wrt)
    layout = layout_of(b)
    sheets = layout.sheets(np.zeros(b.truth.size))
    assert [s.title for s in sheets] == titles
    assert [s.where.shape for s in sheets] == shapes
    assert layout.left_out(np.zeros(b.truth.size)) == ()
    assert layout.count == len(sheets)
    images = sheets[1:] if titles[0] == "Jacobian" else sheets
    if images:
        every = np.concatenate([s.where.ravel() for s in images])
        assert sorted(every) == list(range(b.truth.size))


@needs_html
def test_of_many_channels_those_that_are_furthest_off_are_drawn_and_it_is_said():
    b = block("x", (3,), (20, 4, 5))
    wrong = b.truth.copy()
    wrong[2, 13, 1, 2] += 1.0
    wrong[0, 7, 0, 0] += 2.0
    # What is far off as a number need not be so beside a method's tolerance.
    rough = b.truth + 0.5
    made = pictured(
        replace(b, values={"reverse": wrong, "finite-forward": rough}),
        9216,
        {"reverse": 1e-6, "finite-forward": 1e3},
    )
    titles = [m.title for m in made.maps]
    assert len(titles) == 1 + PANELS
    assert titles[0] == "Jacobian"
    assert set(titles[1:3]) == {"output 0, channel 7", "output 2, channel 13"}
    (said,) = made.said
    assert said.startswith(
        "3 outputs of 20 channels: drawn are the 8 with the largest errors beside"
    )
    assert said.endswith("the worst first; 52 left out.")


@needs_html
def test_what_is_left_out_is_named_where_it_is_little():
    b = block("x", (10,), (4, 5))
    wrong = b.truth + np.arange(10.0)[:, None, None]
    (said,) = pictured(replace(b, values={"reverse": wrong}), 9216, {}).said
    assert said.endswith("the worst first; 2 left out: output 1, output 0.")


@needs_html
def test_of_many_channels_that_are_right_the_largest_are_drawn():
    b = block("x", (), (20, 4, 5))
    truth = b.truth / 100
    truth[13] *= 1e4
    made = pictured(replace(b, truth=truth, values={"reverse": truth}), 9216, {"reverse": 1e-6})
    assert made.maps[0].title == "channel 13"
    assert "the 8 with the largest elements" in made.said[0]


@needs_html
def test_a_method_s_error_is_drawn_where_it_is_largest():
    b = block("x", (), (20, 4, 5))
    wrong, few = b.truth.copy(), np.full(b.truth.shape, np.nan)
    wrong[13, 1, 2] += 1.0
    wrong[4, 0, 0] = np.inf
    # Nothing of the first channel is known of this one.
    few[5] = b.truth[5] + 1e-3
    made = pictured(replace(b, values={"reverse": wrong, "finite": few}), 9, {})
    one, other = made.errors
    assert "at most 1.0, at [13, 1, 2]; 1 infinitely far off; here is channel 13" in one.text
    assert "here is channel 5, where that is" in other.text
    assert one.data["first"] == 13 * 20
    assert np.nanmax(np.frombuffer(base64.b64decode(one.data["values"]), "<f4")) == 1.0


@needs_html
def test_of_many_blocks_the_worst_are_drawn_and_the_others_named():
    blocks = [block(f"y{k}/x", (1, 3), (4,), k) for k in range(9)]
    values = {**blocks[7].values, "reverse": blocks[7].truth + 1.0}
    blocks[7] = replace(blocks[7], values=values)
    made = Page(html(drawn(*blocks)))
    assert next(t for tag, t in made.texts if tag == "h3" and "/x" in t) == "y7/x"
    (said,) = [t for tag, t in made.texts if tag == "p" and "9 blocks" in t]
    names = said.split(" left out: ")[1].rstrip(".").split(", ")
    assert said.startswith("9 blocks: drawn are the 6 with the largest errors beside the tolerance")
    assert len(names) == 3
    headings = "".join(t for tag, t in made.texts if tag == "h3")
    assert not any(name in headings for name in names)


@needs_html
@pytest.mark.parametrize("size", [100, 5000])
def test_over_a_sequence_numbers_are_numbers_and_a_sample_is_seen(size):
    b = block("x", (), (size,))
    few = np.full(size, np.nan)
    few[[3, size // 2]] = b.truth[[3, size // 2]] + [1e-9, 1e-6]
    made = pictured(replace(b, values={"finite": few, "reverse": b.truth * (1 + 1e-7)}), 10_000, {})
    sample, whole = made.errors
    assert "$" not in sample.svg + whole.svg
    assert re.search(">1e-[0-9]+<", whole.svg)
    # Each of the two elements is a dot, where a line would have nothing to join.
    (dots,) = re.findall('<g clip-path="[^"]*" fill="var\\(--first\\)"[^>]*>(.*?)</g>', sample.svg)
    assert dots.count("<use") == 2
    assert ("each point stands for" in whole.text) == (size > 600)
    assert "each point stands for" not in sample.text


@needs_html
def test_of_several_points_all_are_told_and_it_is_said_which_is_shown():
    good, bad = examples.smooth(), examples.odd()
    at = [At(f"point {k}", bad if k == 1 else good) for k in range(3)]
    c = replace(bad, points=tuple(at), worst_point=1)
    made = Page(html(c))
    text = made.text
    assert "what follows is of the worst, point 1." in text
    assert [t for tag, t in made.texts if tag == "th" and t.startswith("point ")] == [
        "point 0", "point 1 (this page)", "point 2",
    ]  # fmt: skip
    assert text.count(headline(good).text) == 2
    assert "part of the tolerance" in text
    many = tuple(At(f"point {k}", bad if k == 777 else good) for k in range(1000))
    made = Page(html(replace(c, points=many, worst_point=777)))
    names = [t for tag, t in made.texts if tag == "th" and t.startswith("point ")]
    assert names[0] == "point 777 (this page)"
    assert len(names) == 200
    assert "These are the worst, and 800 more are in --format json" in made.text


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 400), st.integers(0, 9))
def test_of_pooled_cells_the_largest_is_kept(rows, columns, most, seed):
    size = np.random.default_rng(seed).random(rows * columns)
    where = np.arange(rows * columns).reshape(rows, columns)
    kept, (high, wide) = pooled(where, size, most)
    assert kept.size <= most
    assert kept.shape == (-(-rows // high), -(-columns // wide))
    for r in range(kept.shape[0]):
        for c in range(kept.shape[1]):
            tile = where[r * high : (r + 1) * high, c * wide : (c + 1) * wide].ravel()
            assert kept[r, c] == tile[np.argmax(size[tile])]


@needs_html
def test_a_page_lists_the_largest_elements():
    b = block("x", (), (4, 4))
    rows = pictured(b, 100, {}).largest
    at = np.unravel_index(int(np.argmax(np.abs(b.truth))), b.truth.shape)
    assert rows[0][0] == f"[{at[0]}, {at[1]}]"
    assert rows[0][1] == f"{b.truth[at]:.9g}"
    assert rows[0][-1] == "0"
    assert len(rows) == 8
