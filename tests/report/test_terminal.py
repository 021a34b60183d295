import re

import pytest
from rich.cells import cell_len

from gradcli.report import encodable, table
from gradcli.report.rows import columns, row
from tests.report import examples

EXAMPLES = {
    "smooth": examples.smooth,
    "odd": examples.odd,
    "certified": examples.certified,
    "blamed": examples.blamed,
    "swept": examples.swept,
}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_screen(name, width, snapshot):
    assert table(EXAMPLES[name](), width=width) == snapshot


def test_the_screen_in_colour(snapshot):
    assert table(examples.odd(), width=80, color=True) == snapshot


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_line_is_wider_than_the_screen_and_no_cell_is_cut(name):
    comparison = EXAMPLES[name]()
    keys = [column.key for column in columns(comparison) if not column.bar]
    cells = {row(j).cells[key] for j in comparison.methods for key in keys}
    for width in range(40, 161):
        text = table(comparison, width=width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert [cell for cell in cells if cell not in text] == [], f"at width {width}"
        # Of a long name of a node the end is told, which no other has.
        assert "…" not in text.replace("…/", "")


def test_colour_changes_nothing_but_colour():
    plain = table(examples.odd(), width=100)
    colored = table(examples.odd(), width=100, color=True)
    assert "\x1b[" not in plain
    assert "\x1b[" in colored
    bare = re.sub(r"\x1b\[[0-9;]*m", "", colored)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


def test_names_are_never_markup():
    text = table(examples.odd(), width=120)
    assert "models/[bold]красный[/bold].onnx" in text
    assert "[link=https://example.org]x" in text


def test_every_method_has_one_row_where_the_screen_is_wide_enough():
    lines = table(examples.smooth(), width=140).splitlines()
    for judgement in examples.smooth().methods:
        assert len([line for line in lines if line.startswith(f"{judgement.method} ")]) == 1
    headings = " ".join(part for column in columns(examples.smooth()) for part in column.heading)
    assert set(headings.split()) <= set(" ".join(lines).split())


def test_the_worst_nodes_are_listed_with_what_to_do():
    text = table(examples.blamed(), width=80)
    assert re.search(r"97 % .* wrong rule +/layer1/act/Tanh_3 \(Mish:", text)
    assert "look at the rule of reverse for Tanh" in text
    assert "[bold]conv (Conv)" in text
    assert "/many/5 (MatMul)" in text
    assert "/many/6" not in text
    assert "4 more nodes in --format json" in text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "utf-8", "no-such", None])
def test_a_poor_console_gets_likenesses(encoding):
    text = encodable(table(examples.odd(), width=80), encoding)
    text.encode("ascii" if encoding in (None, "no-such") else encoding)
    if encoding in ("ascii", None):
        assert "x\n" in text  # the heading of ×forward
        assert "\\u043a" in text  # к


def test_lone_surrogates_are_escaped():
    assert encodable("a\ud800b", "utf-8") == "a\\ud800b"
