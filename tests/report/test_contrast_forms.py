"""Reports of two models: from one set of rows, each read back by what reads such files."""

import csv
import io
import json
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from gradcli.comparison import Policy
from gradcli.report import CONTRAST_FORMATS, Dress, contrast_shown, contrast_text
from tests.report import contrasts

HOSTILE = (
    "<script>alert(1)</script>",
    "[link](javascript:x)|`a`",
    "::error::no, %0A::error::no",
    "=HYPERLINK(1)",
    "a]]>&amp;\"'<!--",
)
VERDICTS = {"SAME": contrasts.same, "DIFFER": contrasts.differ, "UNDECIDED": contrasts.undecided}


def shown(found, form, **policy):
    return contrast_shown(found, form, Dress("gradcli diff a b", Policy(**policy)))


def cases(text):
    """Of each case what it is: passed, or the name of the element in it."""
    root = ET.fromstring(text)
    return {
        case.attrib["name"]: next((child.tag for child in case), "passed")
        for case in root.iter("testcase")
    }


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_format_says_the_verdict_and_has_no_colour(verdict):
    for form in CONTRAST_FORMATS:
        text = shown(VERDICTS[verdict](), form)
        assert verdict in text, form
        assert "\x1b" not in text, form


@pytest.mark.parametrize("form", CONTRAST_FORMATS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_and_nothing_else(form, name):
    text = shown(contrasts.named(name), form)
    if form == "junit":
        assert {case for case in cases(text) if name in case} == set(cases(text))
        assert ET.fromstring(text).find(".//script") is None
    if form == "github":
        assert len(re.findall(r"^::(error|warning|notice) ", text, re.MULTILINE)) == len(
            text.splitlines()
        )
    if form == "markdown":
        assert not re.search(r"<\w|(?<!\\)`|(?<!\\)\[", text)
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    if form == "csv":
        for row in csv.reader(io.StringIO(text)):
            assert not any(cell.startswith(("=", "+", "@")) for cell in row)


def test_json_lines_and_rows_have_a_record_a_tensor_and_the_same_numbers():
    found = contrasts.differ()
    whole = json.loads(shown(found, "json"))
    lines = [json.loads(line) for line in shown(found, "jsonl").splitlines()]
    rows = list(csv.DictReader(io.StringIO(shown(found, "csv"))))
    blocks = [*whole["primal"], *whole["derivative"]]
    assert len(blocks) == len(lines) == len(rows) == 2
    for block, line, row in zip(blocks, lines, rows, strict=True):
        assert block.items() <= line.items()
        assert float(row["excess"]) == block["excess"]
        assert row["shape"] == " ".join(map(str, block["shape"]))
        assert row["same"] == str(block["same"]).lower()
        assert row["value_node"] == line["value_node"] == "conv"
    assert [line["what"] for line in lines] == ["output", "jacobian"]
    assert whole["derivative"][0]["share"] == 0.25 / 2.5


def test_junit_has_a_case_a_tensor_and_says_where_they_part():
    text = shown(contrasts.differ(), "junit")
    assert cases(text) == {"output y": "passed", "jacobian y / x": "failure"}
    (failure,) = ET.fromstring(text).iter("failure")
    assert "first at node conv (Conv)" in failure.attrib["message"]
    suite = ET.fromstring(text).find("testsuite")
    assert suite is not None
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "1")


@pytest.mark.parametrize(
    ("inconclusive", "whole", "level", "code"),
    [
        (None, "failure", "error", 3),
        ("fail", "failure", "error", 3),
        ("warn", "skipped", "warning", 0),
        ("ok", None, "notice", 0),
    ],
)
@pytest.mark.parametrize("made", [contrasts.undecided, contrasts.coarse])
def test_what_is_undecided_counts_as_the_user_says(made, inconclusive, whole, level, code):
    found = made()
    told = cases(shown(found, "junit", inconclusive=inconclusive))
    assert told.get("diff") == whole
    assert told["jacobian y / x"] == "skipped"
    (line,) = shown(found, "github", inconclusive=inconclusive).splitlines()
    assert line.startswith(f"::{level} file=b.onnx,title=gradcli%3A UNDECIDED::")
    assert json.loads(shown(found, "json", inconclusive=inconclusive))["exit_code"] == code
    assert f"(exit {code})" in shown(found, "table", inconclusive=inconclusive)


def test_a_failure_may_end_with_zero_and_stays_a_failure():
    assert json.loads(shown(contrasts.differ(), "json", exit_zero=True))["exit_code"] == 0
    assert "failure" in cases(shown(contrasts.differ(), "junit", exit_zero=True)).values()
    first, last = shown(contrasts.differ(), "github").splitlines()
    assert first.startswith("::error file=b.onnx,title=gradcli%3A DIFFER::jacobian y / x[0,1,2]: 1")
    assert last.endswith("from node conv (Conv) on (exit 1)")


def test_a_screen_says_which_part_in_its_labels():
    text = contrast_text(contrasts.differ())
    for label in ("values part  ", "cotangents part  ", "worst  "):
        assert re.search(rf"^{label}", text, re.MULTILINE)
    assert "t1 differs by 5.0e-1, 2.5e-1 of its largest element" in " ".join(text.split())
    assert "7/10" in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_rounding_hides_is_not_called_the_same():
    text = contrast_text(contrasts.coarse(), failures_only=True)
    assert re.search(r"^jacobian y / x +unclear ", text, re.MULTILINE)
    assert "worst  jacobian y / x" in text


def test_quiet_failures_only_and_verbose():
    found = contrasts.differ()
    assert contrast_text(found, detail="quiet").count("\n") == 1
    assert "output y" in contrast_text(found)
    assert "output y" not in contrast_text(found, failures_only=True)
    assert "a, b, c and 1 more" in " ".join(contrast_text(found).split())
    assert "a, b, c, d" in " ".join(contrast_text(found, detail="verbose").split())


def test_long_names_lose_their_middle_unless_two_would_look_the_same():
    name = f"encoder/{'layer/' * 12}dense/MatMul"
    found = contrasts.named(name)
    short = contrast_text(found, width=200)
    table = short.split("\n\n")[2]
    assert "…" in table
    assert name not in table
    assert name in contrast_text(found, width=200, detail="verbose")
    assert json.loads(shown(found, "json"))["value"]["node"] == name
    assert "…" in shown(found, "markdown")
    other = f"{name[:40]}#{name[41:]}"
    two = replace(found, primal=(replace(found.primal[0], of=other),))
    assert other in contrast_text(two, width=200)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_it_reads_at_any_width_and_cuts_no_number(width):
    for make in VERDICTS.values():
        lines = contrast_text(make(), width=width).splitlines()
        assert max(map(len, lines)) <= width
    assert "6.2e4" in contrast_text(contrasts.differ(), width=width)
