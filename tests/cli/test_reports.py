"""Where reports go: several at once, rewritten as the comparison grows, and never by halves."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import pytest

from gradcli.cli.files import Output
from gradcli.cli.reports import (
    FREE,
    SHARE,
    SUFFIXES,
    SUMMARY_BYTES,
    Export,
    ExportType,
    Reports,
    by_suffix,
)
from gradcli.measure.clock import Clock
from gradcli.measure.method import outcome
from gradcli.report import Dress
from tests.cli.support import PHYSICS, POINT, QUICK, ROOT, SAMPLES, cli, process, refused
from tests.installed import DRAWS, formats, needs_html

FILES = {
    "table": "r.txt",
    "json": "r.json",
    "jsonl": "r.jsonl",
    "csv": "r.csv",
    "markdown": "r.md",
    "junit": "r.xml",
    **({"html": "r.html"} if DRAWS else {}),
}
ASKED = (PHYSICS, "-i", POINT, *QUICK)


def exported(folder):
    return [word for name in FILES.values() for word in ("--export", str(folder / name))]


def test_every_format_at_once(tmp_path):
    result = cli("compare", *ASKED, *exported(tmp_path), "--export", f"github={tmp_path / 'g'}")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("AGREE")
    assert {p.name for p in tmp_path.iterdir()} == {*FILES.values(), "g"}
    assert (tmp_path / "r.txt").read_text(encoding="utf-8") == result.stdout
    whole = json.loads((tmp_path / "r.json").read_text())
    (line,) = (tmp_path / "r.jsonl").read_text().splitlines()
    assert json.loads(line)["run"] == whole["methods"][0]["run"]
    text = (tmp_path / "r.csv").read_bytes().decode()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert float(row["median"]) == whole["methods"][0]["run"]["median"]
    assert (tmp_path / "r.md").read_text(encoding="utf-8").startswith("### AGREE: ")
    suite = ET.fromstring((tmp_path / "r.xml").read_text())[0]
    assert [case.get("name") for case in suite.findall("testcase")] == ["reverse"]
    assert (tmp_path / "g").read_text().startswith("::notice file=")
    if DRAWS:
        assert '<section id="derivative"' in (tmp_path / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", formats(SUFFIXES))
def test_no_escape_code_in_a_pipe(form):
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")}
    result = subprocess.run(
        [sys.executable, "-m", "gradcli", "compare", *ASKED, "--format", form],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout
    assert b"\x1b" not in result.stdout
    assert "\x9b" not in result.stdout.decode()


def test_no_escape_code_in_a_file_even_where_colour_is_forced(tmp_path):
    shown = process(
        "compare", *ASKED, *exported(tmp_path), "-o", str(tmp_path / "o.txt"), FORCE_COLOR="1"
    )
    assert (shown.returncode, shown.stdout) == (0, b"")
    files = list(tmp_path.iterdir())
    assert len(files) == len(FILES) + 1
    assert [path.name for path in files if b"\x1b" in path.read_bytes()] == []


@pytest.mark.parametrize("form", formats(sorted(set(SUFFIXES) - {"table"})))
def test_forced_colour_is_for_the_table_alone(form):
    result = cli("compare", *ASKED, "--format", form, FORCE_COLOR="1")
    assert result.stdout
    assert "\x1b" not in result.stdout


def test_csv_has_rfc_4180_s_line_ends_in_a_pipe_too():
    text = process("compare", *ASKED, "--format", "csv").stdout
    assert text.count(b"\r\n") == text.count(b"\n") == 2
    assert b"\r\r" not in text


# ---- what is written when ------------------------------------------------------------------------


def test_exports_grow_with_every_method(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    seen = []

    def looking(engine, *args):
        report = json.loads(path.read_text()) if path.stat().st_size else None
        seen.append(report and ([m["method"] for m in report["methods"]], report["unfinished"]))
        return outcome(engine, *args)

    monkeypatch.setattr("gradcli.measure.gather.outcome", looking)
    asked = ("--method", "reverse", "--method", "forward", "--runs", "1")
    path.write_bytes(b"")
    result = cli("compare", PHYSICS, "-i", POINT, *asked, "--export", str(path))
    assert result.exit_code == 0
    assert seen == [([], ["reverse", "forward"]), (["reverse"], ["forward"])]
    assert json.loads(path.read_text())["unfinished"] == []
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_every_report_says_what_was_done(tmp_path, monkeypatch):
    def until_the_second(engine, *args):
        if engine.name == "forward":
            raise KeyboardInterrupt
        return outcome(engine, *args)

    monkeypatch.setattr("gradcli.measure.gather.outcome", until_the_second)
    asked = ("--method", "reverse", "--method", "forward", "--runs", "1", "--exit-zero")
    result = cli("compare", PHYSICS, "-i", POINT, *asked, *exported(tmp_path))
    assert result.exit_code == 130
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["unfinished"], report["exit_code"]) == (["forward"], 130)
    cases = ET.fromstring((tmp_path / "r.xml").read_text())[0].findall("testcase")
    assert [[child.tag for child in case] for case in cases] == [[], ["error"]]


@needs_html
def test_interrupted_nothing_is_drawn_and_the_page_is_whole(tmp_path, monkeypatch):
    def until_the_second(engine, *args):
        if engine.name == "forward":
            raise KeyboardInterrupt
        return outcome(engine, *args)

    monkeypatch.setattr("gradcli.measure.gather.outcome", until_the_second)
    monkeypatch.setattr("gradcli.report.web.svg.canvas", None)
    asked = ("--method", "reverse", "--method", "forward", "--runs", "1")
    paths = [tmp_path / "export.html", tmp_path / "o.html"]
    where = ("--export", str(paths[0]), "-o", str(paths[1]))
    assert cli("compare", PHYSICS, "-i", POINT, *asked, *where).exit_code == 130
    for path in paths:
        page = path.read_text(encoding="utf-8")
        assert page.endswith("</html>\n")
        assert "interrupted before forward" in page
        assert "this page is from before" in page


@needs_html
def test_what_breaks_while_pictures_are_drawn_takes_no_number_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("gradcli.report.web.svg.canvas", None)
    paths = [tmp_path / "r.html", tmp_path / "r.json"]
    result = cli("compare", *ASKED, *(w for path in paths for w in ("--export", str(path))))
    assert result.exit_code == 70
    page = paths[0].read_text(encoding="utf-8")
    assert page.endswith("</html>\n")
    assert ">reverse<" in page
    assert json.loads(paths[1].read_text())["unfinished"] == []


@needs_html
def test_a_page_is_drawn_once_however_many_files_and_methods_there_are(tmp_path, monkeypatch):
    from gradcli.report import web

    drawn = []

    def counted(*args, draft, **how):
        drawn.append(draft)
        return web.html(*args, draft=True, **how)

    monkeypatch.setattr("gradcli.report.formats.html", counted)
    files = [w for k in range(3) for w in ("--export", str(tmp_path / f"{k}.html"))]
    asked = ("--method", "reverse", "--method", "forward", "--runs", "1")
    assert cli("compare", PHYSICS, "-i", POINT, *asked, *files).exit_code == 0
    assert drawn == [True] * 4 + [False]


def test_what_is_rewritten_takes_no_more_than_its_share_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("gradcli.cli.reports.time.perf_counter", lambda: now[0])
    asked = []

    def write(*_):
        asked.append(now[0])
        now[0] += 0.2

    monkeypatch.setattr("gradcli.cli.files.Output.write", write)
    place = Output(tmp_path / "r.json", tmp_path / "r.tmp")
    kept: Reports[str] = Reports("table", None, [("json", place)], Dress(), lambda *_: "")
    for second in range(100):
        now[0] = max(now[0], float(second))
        kept.keep(lambda: "found")
    # Three for nothing, and then a fifth of a second in every four.
    assert asked[:3] == [0.0, 1.0, 2.0]
    assert SHARE * 100 - 0.2 <= len(asked) * 0.2 <= FREE + 0.2 + SHARE * 100
    wanted: Reports[str] = Reports("table", None, [], Dress(), lambda *_: "")
    wanted.keep(lambda: pytest.fail("nobody wants it"))


def test_the_time_of_exports_is_not_the_methods_time(monkeypatch):
    clock = Clock(10.0)
    before = clock.left()
    now = time.perf_counter
    skip = [0.0]
    monkeypatch.setattr("gradcli.measure.clock.time.perf_counter", lambda: now() + skip[0])
    with clock.stopped():
        skip[0] = 5.0
    assert before - 1.0 < clock.left() <= before


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_it_leaves_whole_files(tmp_path):
    path = tmp_path / "r.json"
    asked = [str(SAMPLES / "digits.onnx"), "-i", str(SAMPLES / "digits.npz"), "--runs", "20"]
    running = subprocess.Popen(
        [sys.executable, "-m", "gradcli", "compare", *asked, "--export", str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 100
        while not path.exists() or not json.loads(path.read_text())["methods"]:
            assert time.monotonic() < end
            assert running.poll() is None
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait(60)
    report = json.loads(path.read_text())
    assert report["methods"]
    assert report["unfinished"]


@pytest.mark.skipif(os.name != "posix", reason="/dev/stdout")
def test_a_device_is_written_once():
    asked = ("--method", "reverse", "--method", "forward", "--runs", "1", "-q")
    result = process("compare", PHYSICS, "-i", POINT, *asked, "--export", "github=/dev/stdout")
    assert result.stdout.count(b"::notice") == 1


@pytest.mark.skipif(os.name != "posix", reason="/dev/stdout")
def test_stdout_that_is_a_file_keeps_what_it_holds(tmp_path):
    """Opened by its name it would be replaced, and the table written to nowhere."""
    code = "import sys; sys.stdout.write('before\\n'); sys.stdout.flush();"
    code += "from gradcli.cli import main; main(sys.argv[1:])"
    asked = ("compare", PHYSICS, "-i", POINT, *QUICK, "-q", "--export", "github=/dev/stdout")
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", code, *asked], stdout=log, check=True, timeout=120)
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert [line[:8] for line in lines] == ["before", "AGREE  r", "::notice"]
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full")
@pytest.mark.parametrize("args", [("sample",), ("--help",), ("compare", PHYSICS, *QUICK)])
def test_a_full_disk_behind_stdout_is_no_bug(args):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gradcli", *args],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    assert "error: the output cannot be written (No space left on device)" in done.stderr
    assert "bug" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("compare", "m.onnx", *QUICK, "--export", "json=m.onnx"),
        ("compare", "m.onnx", *QUICK, "-o", "link.onnx"),
        ("grad", "m.onnx", "-i", "x.npz", "-o", "x.npz"),
        ("grad", "m.onnx", "-i", "x=x.npz", "-i", "t=0.5", "-o", "x.npz"),
        ("grad", "m.onnx", "--points", "x.npz", "-o", "x.npz"),
        ("formula", "m.onnx", "-o", "m.onnx"),
        ("diff", PHYSICS, "m.onnx", "-o", "m.onnx"),
    ],
)
def test_what_a_command_reads_it_does_not_write_over(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"m.onnx": Path(PHYSICS).read_bytes(), "x.npz": Path(POINT).read_bytes()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.onnx").symlink_to("m.onnx")
    refused(cli(*args), "is what this command reads", "another name")
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_a_disk_that_fills_up_takes_no_other_report_with_it(tmp_path, monkeypatch):
    from gradcli.cli.files import Output
    from gradcli.errors import OutputError

    write = Output.write

    def full(self, data):
        if self._target.suffix == ".md":
            raise OutputError("--export r.md: cannot be written (no space)")
        write(self, data)

    monkeypatch.setattr(Output, "write", full)
    result = cli("compare", *ASKED, *exported(tmp_path))
    assert result.exit_code == 2
    assert result.stdout.startswith("AGREE")
    assert result.stderr.count("warning: --export r.md: cannot be written") == 1
    assert result.stderr.count("error: --export r.md: cannot be written") == 1
    assert {p.name for p in tmp_path.iterdir()} == set(FILES.values()) - {"r.md"}


# ---- what is refused -----------------------------------------------------------------------------


def test_what_an_export_means(tmp_path):
    kind = ExportType()
    for text, meant in {
        "json=a": ("json", "a"),
        "json=a=b.csv": ("json", "a=b.csv"),
        "x/a=b.CSV": ("csv", "x/a=b.CSV"),
        "r.ndjson": ("jsonl", "r.ndjson"),
        "junit=r": ("junit", "r"),
    }.items():
        assert kind.convert(text, None, None) == Export(*meant)
    for text, word in {
        "jsn=r.json": "did you mean json=?",
        "r": "FORMAT=FILE",
        "r.doc": "FORMAT=FILE",
        "json=": "names no file",
        "json=-": "names no file",
        "": "FORMAT=FILE",
    }.items():
        with pytest.raises(click.BadParameter, match=re.escape(word)):
            kind.convert(text, None, None)
    assert by_suffix("a.Markdown") == "markdown"


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    same = str(tmp_path / "r.json")
    link = tmp_path / "link.json"
    link.symlink_to(same)
    refused(cli("compare", *ASKED, "--export", same, "-o", str(link)), "two reports")
    refused(cli("compare", *ASKED, "--export", f"json={tmp_path}"), "--export", "is a directory")
    gone = str(tmp_path / "none" / "r.json")
    refused(cli("compare", *ASKED, "--export", gone), "--export", "there is no directory")
    refused(cli("compare", *ASKED, "--export", "r.doc"), "--export", "FORMAT=FILE")
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.parametrize(
    ("name", "start"), [("r.md", "### AGREE"), ("r.csv", "path,"), ("r.log", "AGREE")]
)
def test_the_suffix_of_o_says_the_format(tmp_path, name, start):
    path = tmp_path / name
    assert cli("compare", *ASKED, "-o", str(path)).exit_code == 0
    assert path.read_text(encoding="utf-8").startswith(start)


# ---- exit codes ----------------------------------------------------------------------------------

WRONG = (*ASKED, "--rtol", "1e-12")
OPEN = (PHYSICS, "-i", POINT, "--method", "finite", "--runs", "1", "--rtol", "1e-16")


def test_exit_zero_forgives_what_disagrees_and_the_report_says_so_still():
    assert cli("compare", *WRONG).exit_code == 1
    result = cli("compare", *WRONG, "--exit-zero", "--format", "json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["verdict"], report["exit_code"]) == ("DISAGREE", 0)
    assert cli("compare", "no.onnx", "--exit-zero").exit_code == 2


@pytest.mark.parametrize(
    ("flags", "code", "warned"),
    [
        ((), 0, True),
        (("--inconclusive", "fail"), 3, False),
        (("--inconclusive", "fail", "--exit-zero"), 0, False),
        (("--inconclusive", "warn"), 0, True),
        (("--inconclusive", "ok"), 0, False),
    ],
)
def test_what_nothing_decided_counts_as(flags, code, warned):
    result = cli("compare", *OPEN, *flags, "--format", "json")
    report = json.loads(result.stdout)
    assert report["verdict"] == "INCONCLUSIVE"
    assert (result.exit_code, report["exit_code"]) == (code, code)
    assert ("warning: nothing could be decided" in result.stderr) == warned


# ---- GitHub --------------------------------------------------------------------------------------


def test_github_s_summary_is_appended_once_and_never_too_large(tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    asked = ("compare", *WRONG, "--format", "github")
    result = cli(*asked, GITHUB_STEP_SUMMARY=str(summary))
    assert result.stdout.startswith(f"::error file={PHYSICS.replace(':', '%3A')},title=")
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n### DISAGREE: ")
    assert text.count("### ") == 1
    summary.write_text("x" * (SUMMARY_BYTES - 300))
    assert cli(*asked, GITHUB_STEP_SUMMARY=str(summary)).exit_code == 1
    assert SUMMARY_BYTES - 300 < summary.stat().st_size <= SUMMARY_BYTES
    full = summary.read_bytes().ljust(SUMMARY_BYTES + 5)
    summary.write_bytes(full)
    assert cli(*asked, GITHUB_STEP_SUMMARY=str(summary)).exit_code == 1
    assert summary.read_bytes() == full


def test_a_summary_that_cannot_be_written_is_a_warning(tmp_path):
    result = cli("compare", *ASKED, "--format", "github", GITHUB_STEP_SUMMARY=str(tmp_path))
    assert result.exit_code == 0
    assert "warning: the summary of the step cannot be written" in result.stderr


def test_without_the_format_github_no_summary_is_written(tmp_path):
    summary = tmp_path / "summary.md"
    assert cli("compare", *ASKED, GITHUB_STEP_SUMMARY=str(summary)).exit_code == 0
    assert not summary.exists()
