"""The line of progress: on a terminal only, on stderr only, and gone in the end."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gradcli.cli import screen
from gradcli.engines.base import Part
from gradcli.report import Line
from gradcli.report.progress import PATIENCE
from tests.cli.support import SAMPLES, cli

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


def run(tmp_path: Path, *args: str, terminal: bool) -> tuple[bytes, bytes]:
    """What a real process writes to stdout, a pipe, and to stderr, a terminal or a file."""
    command = [sys.executable, "-m", "gradcli", *args]
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm", "COLUMNS": "80"}
    if not terminal:
        done = subprocess.run(command, capture_output=True, env=environment, check=False)  # our own
        return done.stdout, done.stderr
    main, other = pty.openpty()
    report = tmp_path / "stdout"
    with report.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=other, env=environment)  # our own
    os.close(other)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    process.wait()
    os.close(main)
    return report.read_bytes(), shown


WHAT = ("compare", str(SAMPLES / "physics.onnx"), "--budget", "10", "--runs", "1", "--explain")
INPUT = ("-i", str(SAMPLES / "physics.npz"))


def test_a_terminal_sees_a_bar_that_is_removed_and_stdout_stays_clean(tmp_path):
    out, shown = run(tmp_path, *WHAT, *INPUT, terminal=True)
    assert b"\x1b" not in out
    assert out.decode().rstrip().count("\n") > 20
    assert b"explaining: " in shown
    assert "━".encode() in shown
    # It was hidden and is shown again, and the last line is erased.
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1
    assert shown.endswith(b"\x1b[2K")


def test_a_pipe_sees_none_of_it(tmp_path):
    out, shown = run(tmp_path, *WHAT, *INPUT, terminal=False)
    assert b"\x1b" not in out + shown
    assert b"explaining: " not in shown


def test_what_is_done_at_once_is_not_told():
    stream = io.StringIO()
    line = Line(stream, 79)
    line.tell("reading the model")
    line.remove()
    line.tell("too late")
    time.sleep(2 * PATIENCE)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("grad", "-o", "x.npz"), "finite"),
        (("export", "--operator", "vjp", "-o", "x.onnx"), "witness: complex-step"),
        (("diff", str(SAMPLES / "physics.onnx")), "what rounding does"),
        (("formula",), "writing the formula"),
        (("inspect",), "looking at its nodes"),
    ],
)
def test_every_command_says_what_it_does(args, words, tmp_path, monkeypatch):
    told: list[str] = []

    @contextmanager
    def progress(what: str = "") -> Iterator[Callable[[str], None]]:
        told.append(what)
        yield told.append

    monkeypatch.setattr(screen, "progress", progress)
    monkeypatch.chdir(tmp_path)
    model, point = (str(SAMPLES / f"physics.{end}") for end in ("onnx", "npz"))
    given = [] if args[0] == "inspect" else ["-i", point]
    method = ["--method", "finite"] if args[0] == "grad" else []
    result = cli(args[0], model, *args[1:], *given, *method)
    assert result.exit_code == 0, result.output
    assert any(what.startswith(words) for what in told), told


@pytest.mark.parametrize("width", [20, 39, 40, 79, 120])
def test_it_never_needs_a_second_line(width):
    stream = io.StringIO()
    line = Line(stream, width)
    long = "certified reference: both sides of serving_default_input_2:0, element 43843, 1536 bits"
    line.tell(Part(long, 1_234, 5_678))
    line.tell("forward")
    shown = line._progress.get_renderable()
    line.tell(Part(long, 5_678, 5_678))
    line._progress.console.print(shown)
    line.remove()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert all(len(part.rstrip()) <= width for part in re.split("[\r\n]", plain))
    assert max(plain.split("\n"), key=len).strip()


def test_a_part_says_how_far_along_it_is():
    part = Part("rows", 3, 1200)
    assert (part, part.what, part.done, part.total) == ("rows: 3 of 1,200", "rows", 3, 1200)
