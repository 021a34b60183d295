"""Every format that programs read, read back by a program."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gradcli.cli.reports import SUFFIXES
from gradcli.comparison import Judgement, KinkAt, Policy, Verdict
from gradcli.report import FORMATS, Dress, capped, comparison_json, shown
from gradcli.report.encoding import visible
from gradcli.report.github import LONGEST, MOST, github
from gradcli.report.junit import WHOLE, junit
from gradcli.report.markdown import CUT, escaped, markdown
from gradcli.report.records import CSV_COLUMNS, as_csv, jsonl
from tests.installed import formats
from tests.report import examples

EXAMPLES = {
    "smooth": examples.smooth,
    "odd": examples.odd,
    "certified": examples.certified,
    "blamed": examples.blamed,
    "swept": examples.swept,
}

HOSTILE = [
    "=cmd|' /C calc'!A0",
    "</failure><script>alert(1)</script>]]>&amp;",
    "[a](javascript:x) ![i](http://e.org/p) `c` | **b** <img src=x onerror=y> @team #1 www.e.org",
    "%0A::error::x\n::set-output name=a::b\r::add-mask::c,file=d:e",
    "\x1b[31mred\x1b[0m\x00\x07\x9b31m\u202e\ud800\ufffe\U0001f600",
    '\'; DROP TABLE "x",","\r\n=1+1',
]


def hostile(text):
    """A comparison whose every name, path and message is this."""
    c = examples.odd()
    wrong, *others = c.methods
    assert wrong.worst is not None
    worst = replace(wrong.worst, name=text, node=text)
    methods = (
        replace(wrong, detail=text, worst=worst, notes=(text,)),
        *(replace(j, reason=text if j.reason else "", detail=text) for j in others),
    )
    kinks = tuple(replace(k, node=text, op=text) for k in c.kinks)
    named = {"path": text, "wrt": {text: (1, 2)}, "of": {text: ()}}
    return replace(
        c,
        subject=replace(c.subject, **named),
        methods=methods,
        kinks=kinks,
        notes=(text,),
        primal=replace(c.primal, reason=text),
        unfinished=(text,),
    )


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


# ---- all of them ---------------------------------------------------------------------------------


def test_the_command_line_names_them_all():
    assert list(SUFFIXES) == list(FORMATS)
    every = [suffix for suffixes in SUFFIXES.values() for suffix in suffixes]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("form", formats(FORMATS))
@pytest.mark.parametrize("name", EXAMPLES)
def test_no_format_has_a_control_character_or_says_nothing(form, name):
    text = shown(EXAMPLES[name](), form)
    assert text.endswith("\n")
    assert re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", text) is None


@pytest.mark.parametrize("form", formats(sorted(set(FORMATS) - {"table"})))
@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_puts_a_control_character_into_a_file(form, text):
    made = shown(hostile(text), form, Dress(command="gradcli compare"))
    assert re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", made) is None
    assert made.encode()


@pytest.mark.parametrize("form", formats(FORMATS))
def test_the_exit_code_that_they_tell_is_the_policy_s(form):
    c = replace(examples.smooth(), verdict=Verdict.INCONCLUSIVE, exit_code=3)
    strict, lenient = (shown(c, form, Dress(policy=Policy(level))) for level in ("fail", "ok"))
    assert strict != lenient


# ---- JSON Lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_line_of_json_is_a_method_and_what_it_is_of(name):
    c = EXAMPLES[name]()
    lines = [json.loads(line) for line in jsonl(c, command="gradcli compare m").splitlines()]
    whole = json.loads(comparison_json(c))
    assert [line["method"] for line in lines] == [j.method for j in c.methods]
    for line, method in zip(lines, whole["methods"], strict=True):
        assert {key: line[key] for key in method} == method
        assert line["model"] == whole["model"]
        assert line["operator"] == whole["problem"]["operator"]
        assert line["wrt"] == [t["name"] for t in whole["problem"]["wrt"]]
        assert line["comparison_verdict"] == whole["verdict"]
        assert line["unfinished"] == whole["unfinished"]
        assert (line["environment"], line["command"]) == (
            whole["environment"],
            "gradcli compare m",
        )


def test_lines_are_standard_json_in_ascii():
    text = jsonl(examples.odd())
    assert text.isascii()
    assert json.loads(text.splitlines()[1], parse_constant=pytest.fail)["uncertainty"] == "NaN"


# ---- CSV -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_row_of_csv_is_a_method(name):
    c = EXAMPLES[name]()
    text = as_csv(c)
    assert text.count("\r\n") == text.count("\n") == len(c.methods) + 1
    heading, *rows = rows_of(text)
    assert heading == list(CSV_COLUMNS)
    assert {len(row) for row in rows} <= {len(heading)}
    for row, j in zip(rows, c.methods, strict=True):
        cells = dict(zip(heading, row, strict=True))
        assert (cells["method"], cells["status"]) == (j.method, j.status)
        assert cells["verdict"] == (j.verdict or "")
        if j.run:
            assert float(cells["median"]) == j.run.median
            assert int(cells["runs"]) == len(j.run.times)
        if j.max_rel_error is not None and not math.isnan(j.max_rel_error):
            assert float(cells["max_rel_error"]) == j.max_rel_error
        assert cells["sampled"] in ("true", "false")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "  =", "\n="])
def test_no_text_becomes_a_formula_and_numbers_stay_numbers(start):
    (heading, row, *_) = rows_of(as_csv(hostile(f"{start}1+1")))
    cells = dict(zip(heading, row, strict=True))
    assert cells["path"].startswith("'")
    assert cells["worst_node"].startswith("'")
    swapped = examples.odd()
    assert swapped.methods[0].worst is not None
    worst = replace(swapped.methods[0].worst, value=-1.5)
    method = replace(swapped.methods[0], worst=worst)
    row = rows_of(as_csv(replace(swapped, methods=(method,))))[1]
    assert dict(zip(heading, row, strict=True))["worst_value"] == "-1.5"


@given(st.text())
def test_any_text_is_one_cell(text):
    c = examples.smooth()
    rows = rows_of(as_csv(replace(c, subject=replace(c.subject, path=text))))
    assert {len(row) for row in rows} == {len(CSV_COLUMNS)}
    assert len(rows) == len(c.methods) + 1
    assert all(cell.isprintable() for row in rows for cell in row)


# ---- Markdown ------------------------------------------------------------------------------------


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


@pytest.mark.parametrize("name", EXAMPLES)
def test_markdown_is_a_heading_facts_and_a_table(name):
    c = EXAMPLES[name]()
    html = rendered(markdown(c))
    assert html.startswith(f"<h3>{c.verdict}: ")
    table = html.split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr>") == len(c.methods)
    assert re.findall(r'<tr>\n<td style="text-align:left">(.*?)</td>', table) == [
        j.method for j in c.methods
    ]
    assert "█" not in html


def text_of(html):
    """What a reader sees."""
    return "".join(ET.fromstring(f"<p>{html}</p>").itertext())


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_any_text_in_markdown_is_that_text(text):
    html = rendered(f"| heading | b |\n|---|---|\n| x{escaped(text)}x | y |\n")
    cells = re.findall(r"<td>(.*?)</td>", html, re.DOTALL)
    assert len(cells) == 2
    assert "<" not in cells[0]
    assert text_of(cells[0]).replace("\N{WORD JOINER}", "") == f"x{visible(text)}x"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_is_markup_in_markdown(text):
    html = rendered(markdown(hostile(text)))
    tags = set(re.findall(r"<(\w+)", html))
    assert tags <= {"h3", "ul", "li", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert not re.search(r"@\w|#\d|www\.e|(?<!\\)://e", markdown(hostile(text)))


def test_quiet_markdown_is_its_heading_and_failures_are_asked_for_alone():
    c = examples.odd()
    assert markdown(c, detail="quiet").count("\n") == 1
    assert "| AGREE |" not in markdown(examples.blamed(), failures_only=True)


def test_what_is_too_long_ends_at_a_line_and_says_so():
    text = "é" * 10 + "\n" + "b" * 50 + "\n" + "c" * 100 + "\n"
    assert capped(text, len(text.encode())) == text
    for size in range(len(text.encode())):
        short = capped(text, size)
        assert len(short.encode()) <= size
        assert not short or short.endswith(CUT)
    assert capped(text, 120).startswith("é" * 10 + "\n" + "b" * 50 + CUT)


# ---- JUnit ---------------------------------------------------------------------------------------

# Of Jenkins' junit-10.xsd: attributes (required ones first, up to the bar) and children in order.
SHAPE = {
    "testsuites": (["|", "name", "time", "tests", "failures", "disabled", "errors"], ["testsuite"]),
    "testsuite": (
        *(["name", "|", "tests", "failures", "errors", "time", "skipped", "timestamp", "id"],),
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (["|"], ["property"]),
    "property": (["name", "value", "|"], []),
    "testcase": (
        *(["name", "|", "classname", "time", "status", "assertions"],),
        ["skipped", "error", "failure", "system-out", "system-err"],
    ),
    "skipped": (["|", "type", "message"], []),
    "error": (["|", "type", "message"], []),
    "failure": (["|", "type", "message"], []),
    "system-out": (["|"], []),
}


def check_shape(element):
    attributes, children = SHAPE[element.tag]
    bar = attributes.index("|")
    assert set(attributes[:bar]) <= set(element.attrib) <= set(attributes) - {"|"}
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places)
    for child in element:
        check_shape(child)


def number(element, name):
    return float(element.get(name) or "nan")


def suite_of(text):
    root = ET.fromstring(text)
    check_shape(root)
    (suite,) = root
    cases = suite.findall("testcase")
    assert number(suite, "tests") == number(root, "tests") == len(cases)
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert number(suite, name) == len(suite.findall(f"testcase/{tag}"))
    total = sum(number(case, "time") for case in cases)
    assert number(suite, "time") == pytest.approx(total, abs=1e-5)
    return {case.get("name"): case for case in cases}


def state(case):
    return case[0].tag if len(case) else "passed"


@pytest.mark.parametrize("name", EXAMPLES)
def test_junit_has_a_case_a_method(name):
    c = EXAMPLES[name]()
    cases = suite_of(junit(c, command="gradcli compare m.onnx"))
    assert set(cases) >= {j.method for j in c.methods} | set(c.unfinished)
    for j in c.methods:
        wanted = {"failed": "error", "skipped": "skipped"}.get(j.status, "passed")
        if j.verdict is Verdict.DISAGREE:
            wanted = "failure"
        if j.verdict in (Verdict.INCONCLUSIVE, Verdict.STAIRCASE):
            wanted = "skipped"
        assert state(cases[j.method]) == wanted


def test_a_failure_says_what_is_wrong_and_where():
    failure = suite_of(junit(examples.odd()))["reverse"][0]
    assert failure.get("type") == "DISAGREE.rule"
    assert "worst at logits[0,3]/image[0, 1, 2, 3]: 1.031 against 1" in failure.get("message")
    assert failure.text == failure.get("message")


def test_what_has_not_been_run_is_an_error_and_not_a_success():
    cases = suite_of(junit(replace(examples.smooth(), methods=(), unfinished=("reverse",))))
    assert state(cases["reverse"]) == "error"


@pytest.mark.parametrize(
    ("level", "wanted"), [(None, "failure"), ("fail", "failure"), ("warn", "skipped"), ("ok", None)]
)
def test_a_whole_that_decided_nothing_is_a_case_of_its_own(level, wanted):
    vague = Judgement("finite", "computed", verdict=Verdict.INCONCLUSIVE)
    c = replace(examples.smooth(), methods=(vague,), verdict=Verdict.INCONCLUSIVE, exit_code=3)
    cases = suite_of(junit(c, policy=Policy(level)))
    assert (state(cases[WHOLE]) if WHOLE in cases else None) == wanted
    assert state(cases["finite"]) == ("passed" if level == "ok" else "skipped")


def test_a_kink_fails_where_that_is_asked_for():
    kink = Judgement("reverse", "computed", verdict=Verdict.KINK)
    at = KinkAt("relu", "Relu", (0,), 0.0, True, "0 at 0")
    c = replace(examples.smooth(), methods=(kink,), kinks=(at,), verdict=Verdict.KINK, exit_code=1)
    assert state(suite_of(junit(c))["reverse"]) == "passed"
    assert state(suite_of(junit(c, policy=Policy(at_kink="fail")))["reverse"]) == "failure"


@pytest.mark.parametrize("text", HOSTILE)
def test_junit_is_xml_whatever_the_names(text):
    cases = suite_of(junit(hostile(text), command=text))
    failure = cases["reverse"][0]
    assert len(failure) == 0
    told = failure.text or ""
    assert all(visible(line) in told for line in text.split("\n"))


@given(st.text(st.characters()))
def test_junit_is_xml_whatever_the_path(text):
    c = examples.smooth()
    made = junit(replace(c, subject=replace(c.subject, path=text)), command=text)
    assert made.isascii()
    suite_of(made)


# ---- GitHub --------------------------------------------------------------------------------------


def read_back(text):
    """Workflow commands, read as the runner does."""
    found = []
    for line in text.splitlines():
        command = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line)
        assert command is not None, line
        level, listed, message = command.groups()
        properties = dict(pair.split("=", 1) for pair in listed.split(","))

        def plain(s):
            codes = (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
            for code, c in codes:
                s = s.replace(code, c)
            return s

        found.append((level, {k: plain(v) for k, v in properties.items()}, plain(message)))
    return found


def test_annotations_say_what_disagrees_and_the_verdict():
    first, *others = read_back(github(examples.odd()))
    assert first[0] == "error"
    assert first[1] == {
        "file": "models/[bold]красный[/bold].onnx",
        "title": "gradcli: DISAGREE",
    }
    assert first[2].startswith("reverse: cause rule (its derivative is wrong in float64 too)")
    assert others[-1][0] == "notice"
    ((level, _, message),) = read_back(github(examples.smooth()))
    assert (level, message[:6]) == ("notice", "AGREE:")


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_ends_an_annotation_or_begins_another(text):
    for level, properties, message in read_back(github(hostile(text))):
        assert level in ("error", "warning", "notice")
        assert set(properties) == {"file", "title"}
        assert properties["file"] == visible(text)
        assert message


def test_a_model_from_stdin_is_no_file_to_point_at():
    c = examples.smooth()
    ((_, properties, _),) = read_back(
        github(replace(c, subject=replace(c.subject, path="<stdin>")))
    )
    assert set(properties) == {"title"}


def test_annotations_are_no_more_than_github_shows_and_no_longer():
    wrong = examples.odd().methods[0]
    many = tuple(replace(wrong, method=f"m{k}", detail=f"{k}" * 9000) for k in range(40))
    found = read_back(github(replace(examples.odd(), methods=many, unfinished=())))
    errors = [message for level, _, message in found if level == "error"]
    assert len(errors) == MOST
    assert errors[-1] == "31 more: see the report"
    assert max(map(len, errors)) <= LONGEST
    assert [level for level, _, _ in found][-1] == "notice"


@pytest.mark.parametrize(
    ("level", "wanted"),
    [("fail", ["error", "warning"]), ("warn", ["warning", "warning"]), ("ok", ["notice"])],
)
def test_annotations_of_what_is_undecided_follow_the_policy(level, wanted):
    vague = Judgement("finite", "computed", verdict=Verdict.INCONCLUSIVE)
    c = replace(examples.smooth(), methods=(vague,), verdict=Verdict.INCONCLUSIVE, exit_code=3)
    assert [a[0] for a in read_back(github(c, policy=Policy(level)))] == wanted
