"""The HTML report in a browser: it is silent, loads nothing, and does what it offers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gradcli.report import html
from tests.cli.support import cli
from tests.installed import DRAWS
from tests.report.pictured import drawn
from tests.report.test_web import HOSTILE, hostile

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

playwright: Any = pytest.importorskip(
    "playwright.sync_api", reason='needs playwright: pip install -e ".[browser]"'
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
    pytest.mark.skipif(not DRAWS, reason="needs the extra `html`"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Opened:
    """A page from a file, and all that it said, asked and loaded."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.heard: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context(**context).new_page()
        self.page.on("console", lambda message: self.heard.append(message.text))
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def _refuse(self, dialog: Any) -> None:
        self.heard.append("dialog")
        dialog.dismiss()

    @property
    def requests(self) -> list[str]:
        return [url for url in self.asked if not url.startswith("data:")]


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Iterator[Opened]:
    path = tmp_path / "report.html"
    path.write_text(html(drawn(), command="gradcli compare m.onnx"), encoding="utf-8")
    made = Opened(chromium, path, viewport={"width": 1280, "height": 900})
    yield made
    assert made.heard == []
    assert made.requests == [path.as_uri()]
    made.page.context.close()


def column(page: Any, k: int) -> list[str]:
    """A column of the table of methods, from top to bottom."""
    return [
        row.strip()
        for row in page.locator(f".sortable tbody tr > :nth-child({k})").all_inner_texts()
    ]


def test_a_heading_sorts_by_click_up_down_and_back(opened: Opened):
    page = opened.page
    before = column(page, 1)
    heading = page.locator(".sortable thead th", has_text="max rel error")
    cells = [float(x) for x in column(page, 5)]
    assert cells != sorted(cells)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [float(x) for x in column(page, 5)] == sorted(cells)
    assert (
        page.locator("#methods [role=status]").inner_text() == "Sorted by max rel error, ascending."
    )
    heading.locator("button").click()
    assert [float(x) for x in column(page, 5)] == sorted(cells, reverse=True)
    heading.locator("button").click()
    assert column(page, 1) == before


def test_a_heading_sorts_by_keyboard(opened: Opened):
    page = opened.page
    button = page.locator(".sortable thead th button").first
    button.focus()
    page.keyboard.press("Enter")
    assert column(page, 1) == sorted(column(page, 1))
    page.keyboard.press("Space")
    assert column(page, 1) == sorted(column(page, 1), reverse=True)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "verdict"


def test_the_theme_follows_the_system_and_then_the_button(opened: Opened):
    page = opened.page
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    stroke = "getComputedStyle(document.querySelector('svg text')).fill"
    page.emulate_media(color_scheme="dark")
    dark, drawn_dark = page.evaluate(colour), page.evaluate(stroke)
    page.emulate_media(color_scheme="light")
    light, drawn_light = page.evaluate(colour), page.evaluate(stroke)
    assert dark != light
    assert drawn_dark != drawn_light
    button = page.locator("#theme")
    seen = []
    for _ in range(3):
        button.click()
        seen.append((button.inner_text(), page.evaluate(colour)))
    assert seen == [("Theme: light", light), ("Theme: dark", dark), ("Theme: automatic", light)]


def test_tabs_by_click_and_by_arrow_keys(opened: Opened):
    page = opened.page
    tabs = page.locator("[role=tab]")
    panels = page.locator("[role=tabpanel]")
    visible = lambda: [panels.nth(k).is_visible() for k in range(2)]  # noqa: E731 # asked again
    assert visible() == [True, False]
    tabs.nth(1).click()
    assert visible() == [False, True]
    page.keyboard.press("ArrowRight")
    assert visible() == [True, False]
    assert tabs.nth(0).get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.id") == "tab-1"
    page.keyboard.press("End")
    assert visible() == [False, True]


def test_numbers_are_read_off_by_pointer_and_by_arrow_keys(opened: Opened):
    page = opened.page
    truth = drawn().elements[0].truth.reshape(3, 30)
    figure = page.locator("[data-map]").first
    reading = figure.locator(".reading")
    figure.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    where, number = reading.inner_text().split(": ")
    assert where == "[0, 1, 0, 0, 0, 1]"
    assert float(number) == pytest.approx(truth[1, 1], rel=1e-5)
    figure.scroll_into_view_if_needed()
    box = figure.locator("image").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 29.5 / 30, box["y"] + box["height"] * 2.5 / 3)
    where, number = reading.inner_text().split(": ")
    assert where == "[0, 2, 0, 0, 5, 4]"
    assert float(number) == pytest.approx(truth[2, 29], rel=1e-5)
    assert figure.locator(".cursor").get_attribute("visibility") == "visible"


def test_a_picture_is_enlarged_by_keyboard_and_put_back(opened: Opened):
    page = opened.page
    figure = page.locator('[data-map="0"]:has(svg)')
    button = figure.locator(".enlarge")
    assert button.get_attribute("aria-label") == "Enlarge Jacobian"
    before = figure.locator("image").first.bounding_box()
    height = page.evaluate("document.documentElement.scrollHeight")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("#closer").is_visible()
    assert page.locator("#closer-title").inner_text() == "Jacobian"
    whole = figure.locator("image").first.bounding_box()
    assert whole["width"] > 2 * before["width"]
    # Arrow keys read numbers off as before, and what they come to is in sight.
    page.keyboard.press("ArrowDown")
    for _ in range(3):
        page.keyboard.press("+")
    assert page.locator("#closer-size").inner_text() == "800 %"
    closer = figure.locator("image").first.bounding_box()
    assert closer["width"] == pytest.approx(8 * whole["width"], rel=0.02)
    page.keyboard.press("ArrowLeft")
    cursor, stage = figure.locator(".cursor"), page.locator("#closer-stage")
    at, around = cursor.bounding_box(), stage.bounding_box()
    assert around["x"] - 5 <= at["x"] <= around["x"] + around["width"]
    assert figure.locator(".reading").inner_text().startswith("[0, 0, 0, 0, 0, 0]: ")
    for _ in range(9):
        page.keyboard.press("-")
    assert page.locator("#closer-size").inner_text() == "100 %"
    page.keyboard.press("Escape")
    assert not page.locator("#closer").is_visible()
    assert page.evaluate("document.activeElement.ariaLabel") == "Enlarge Jacobian"
    assert page.evaluate("document.documentElement.scrollHeight") == height
    assert figure.locator("image").first.bounding_box()["width"] == before["width"]


def test_dots_and_letters_do_not_grow_with_a_picture(opened: Opened):
    page = opened.page
    # It is moved within the document, and found again all the same.
    page.locator("figure[data-title=reverse]").first.evaluate("one => { one.id = 'one'; }")
    figure = page.locator("#one")
    dots, letters = figure.locator("use[href]"), figure.locator("svg text")
    size = lambda one: one.bounding_box()["height"]  # noqa: E731 # asked again
    dot, letter = size(dots.last), size(letters.first)
    far = lambda: abs(dots.last.bounding_box()["x"] - dots.nth(20).bounding_box()["x"])  # noqa: E731
    apart = far()
    figure.locator(".enlarge").click()
    page.locator("#closer-in").click()
    page.locator("#closer-in").click()
    assert size(dots.last) < 3 * dot
    assert size(letters.first) < 3 * letter
    assert far() > 8 * apart
    page.locator("#closer-close").click()
    assert not page.locator("#closer").is_visible()


def test_on_paper_tables_keep_their_headings_and_everything_is_open(opened: Opened):
    page = opened.page
    page.emulate_media(media="print")
    assert page.locator(".sortable thead button").first.is_visible()
    assert not page.locator(".enlarge").first.is_visible()
    assert not page.locator("#theme").is_visible()
    panels = page.locator(".panel")
    assert panels.count() == 2
    assert all(panels.nth(k).is_visible() for k in range(2))
    assert page.locator(".panel .name").nth(1).is_visible()


def test_every_picture_can_be_enlarged(opened: Opened):
    page = opened.page
    buttons = page.locator(".enlarge")
    assert buttons.count() == page.locator("figure:has(svg)").count() > 10
    for k in range(buttons.count()):
        if buttons.nth(k).is_visible():
            buttons.nth(k).click()
            svg = page.locator("#closer svg:visible")
            assert svg.bounding_box()["width"] > 200
            page.keyboard.press("Escape")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(chromium: Any, tmp_path: Path, width: int):
    path = tmp_path / "report.html"
    long = "/model/layers.0/" * 20
    path.write_text(html(hostile(long), command=long * 5), encoding="utf-8")
    made = Opened(chromium, path, viewport={"width": width, "height": 800})
    wide = made.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    assert made.heard == []
    made.page.context.close()


def test_without_scripts_everything_is_there(chromium: Any, tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text(html(drawn()), encoding="utf-8")
    made = Opened(chromium, path, java_script_enabled=False)
    assert made.page.locator(".panel").nth(1).is_visible()
    assert not made.page.locator("#theme").is_visible()
    made.page.context.close()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_does_nothing(chromium: Any, tmp_path: Path, text: str):
    path = tmp_path / "report.html"
    path.write_text(html(hostile(text), command=text), encoding="utf-8")
    made = Opened(chromium, path)
    assert made.heard == []
    assert made.requests == [path.as_uri()]
    assert made.page.locator("script").count() == 2
    assert made.page.locator("img").count() == 0
    made.page.context.close()


@pytest.mark.parametrize("name", ["<script>alert(1)<script>", "[link=https:e.org]x[link]"])
def test_a_file_with_such_names_does_nothing(chromium: Any, tmp_path: Path, name: str):
    node = helper.make_node("Tanh", [f"x{name}"], [f"y{name}"], name=f"n{name}")
    sides = [
        helper.make_tensor_value_info(f"{side}{name}", TensorProto.FLOAT, [2, 3]) for side in "xy"
    ]
    graph = helper.make_graph([node], "g", sides[:1], sides[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = tmp_path / f"{name}.onnx"
    onnx.save(made, path)
    np.save(tmp_path / "x.npy", np.full((2, 3), 0.25, np.float32))
    report = tmp_path / "report.html"
    quick = ("--runs", "1", "--warmup", "0", "--explain", "--sweep", "-o", str(report))
    result = cli("compare", str(path), "-i", str(tmp_path / "x.npy"), *quick)
    assert (result.exit_code, result.stdout) == (0, "")
    opened = Opened(chromium, report)
    assert name in opened.page.locator("h1").inner_text()
    assert f"n{name}" in opened.page.locator("#nodes").inner_text()
    assert opened.heard == []
    assert opened.requests == [report.as_uri()]
    opened.page.context.close()
