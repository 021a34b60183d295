import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import click
import numpy as np
import pytest

from gradcli.cli.options import METHODS
from gradcli.cli.shell import GIVEN, command_line
from tests.cli.support import (
    DIABETES,
    PHYSICS,
    POINT,
    QUICK,
    ROOT,
    SAMPLES,
    cli,
    process,
    two_inputs,
)


def compared(*args, code=0, **how):
    result = cli("compare", *args, "--format", "json", **how)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout), result


def test_a_method_that_is_asked_for_twice_is_run_once():
    twice = ("--method", "reverse", "--method", "forward", "--method", "reverse")
    report, _ = compared(PHYSICS, "-i", POINT, *twice, "--reference", "float64")
    assert [m["method"] for m in report["methods"]] == ["reverse", "forward"]


def test_every_method_answers_and_agrees():
    report, result = compared(PHYSICS, "--input", POINT)
    assert [m["method"] for m in report["methods"]] == list(METHODS)
    assert {m["status"] for m in report["methods"]} == {"computed"}
    assert {m["verdict"] for m in report["methods"]} == {"AGREE"}
    assert (report["verdict"], report["exit_code"]) == ("AGREE", 0)
    assert report["problem"]["operator"] == "gradient"
    assert report["primal"]["matches"] is True
    assert result.stderr == ""


def test_the_report_says_with_what_it_was_made_and_how_to_ask_again():
    import gradcli

    report, _ = compared(PHYSICS, "-i", POINT, *QUICK, "--of", "u[0,0]")
    assert report["environment"]["gradcli"] == gradcli.__version__
    assert report["environment"]["cores"] >= 1
    words = shlex.split(report["command"])
    asked = ("compare", PHYSICS, "-i", POINT, *QUICK, "--of", "u[0,0]", "--format", "json")
    assert words == ["gradcli", *asked]


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell reads it")
def test_a_shell_reads_back_the_command_line_whatever_stands_in_it():
    words = ["a b", "it's", "$HOME", "\x1b[31m'\\n", "é\n", "-", "", "\udcff"]
    with click.Context(click.Command("c")) as ctx:
        ctx.meta[GIVEN] = tuple(words)
        line = command_line()
    assert line.isprintable()
    script = f"set -- {line.removeprefix('gradcli ')}; printf '%s\\0' \"$@\""
    said = subprocess.run(
        ["bash", "-c", script], capture_output=True, check=True, timeout=60
    ).stdout
    assert said.split(b"\0")[:-1] == [os.fsencode(word) for word in words]


def test_the_report_goes_to_stdout_and_has_a_row_a_method():
    result = cli("compare", PHYSICS, "--input", POINT, COLUMNS="80")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "the derivative of the output u (1×1) with respect to the" in result.stdout
    for method in METHODS:
        assert re.search(rf"^{method} +AGREE", result.stdout, re.MULTILINE)
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_colour_can_be_forced():
    result = cli("compare", PHYSICS, "-i", POINT, *QUICK, FORCE_COLOR="1")
    assert "\x1b[32mAGREE" in result.stdout


def test_what_the_error_comes_from_is_explained_where_that_is_asked_for():
    report, _ = compared(PHYSICS, "-i", POINT, *QUICK)
    assert report["explanation"] is None
    report, _ = compared(PHYSICS, "-i", POINT, "--method", "reverse", "--explain")
    found = report["explanation"]
    assert (found["method"], found["left"]) == ("reverse", 0)
    assert {b["node"] for b in found["nodes"]} == {"point", "linear", "hidden", "u"}
    assert {b["what"] for b in found["nodes"]} == {"rounding", "exact"}
    result = cli("compare", PHYSICS, "-i", POINT, "--method", "reverse", "--explain", COLUMNS="80")
    assert re.search(r"rounding +hidden \(Tanh\)$", result.stdout, re.MULTILINE)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_methods_are_chosen():
    report, _ = compared(PHYSICS, "-i", POINT, "--method", "finite", "--method", "forward")
    assert [m["method"] for m in report["methods"]] == ["finite", "forward"]


def test_random_inputs_are_said_loudly_and_are_the_seed_s():
    def values(seed):
        report, result = compared(PHYSICS, *QUICK, "--seed", seed)
        assert "warning: input x[1, 1], t[1, 1] is random" in result.stderr
        assert any("is random" in note for note in report["notes"])
        return report["methods"][0]["worst"]["reference"]

    assert values("1") == values("1") != values("2")


def test_a_shape_of_a_random_input():
    report, _ = compared(DIABETES, *QUICK, "--shape", "patient=3,10")
    assert report["problem"]["wrt"] == [{"name": "patient", "shape": [3, 10]}]


def test_wrt_and_of_and_operator():
    report, _ = compared(
        str(SAMPLES / "digits.onnx"),
        *("-i", str(SAMPLES / "digits.npz"), *QUICK, "--operator", "vjp"),
        *("--of", "logits[0,3]", "--of", "logits[0,4]"),
    )
    assert [of["name"] for of in report["problem"]["of"]] == ["logits[0,3]", "logits[0,4]"]
    assert report["problem"]["operator"] == "vjp"
    assert "random" in " ".join(report["notes"])


@pytest.mark.parametrize("operator", ["gradient", "jacobian", "jvp", "vjp"])
def test_every_operator(operator):
    report, _ = compared(PHYSICS, "-i", POINT, "--operator", operator, *QUICK)
    assert report["problem"]["operator"] == operator
    assert report["verdict"] == "AGREE"


def test_directions_from_files(tmp_path):
    np.savez(tmp_path / "dot.npz", x=np.ones((1, 1)), t=np.zeros((1, 1)))
    np.save(tmp_path / "bar.npy", np.full((1, 1), 2.0))
    report, result = compared(PHYSICS, "-i", POINT, "--tangent", str(tmp_path / "dot.npz"), *QUICK)
    assert report["problem"]["operator"] == "jvp"
    assert (report["notes"], result.stderr) == ([], "")
    report, _ = compared(PHYSICS, "-i", POINT, "--cotangent", str(tmp_path / "bar.npy"), *QUICK)
    assert report["problem"]["operator"] == "vjp"


def test_inputs_by_name(tmp_path):
    model = two_inputs(tmp_path / "m.onnx")
    np.save(tmp_path / "a.npy", np.array([2.0, 3.0]))
    np.savez(tmp_path / "b.npz", whatever=np.array([5.0, 7.0]))
    report, result = compared(
        *(model, "-i", f"a={tmp_path / 'a.npy'}", "-i", f"a=b={tmp_path / 'b.npz'}", *QUICK),
        *("--of", "y[0]", "--wrt", "a"),
    )
    assert result.stderr == ""
    assert report["methods"][0]["worst"]["reference"] in (5.0, 0.0)


@pytest.mark.parametrize("which", ["model", "input"])
def test_stdin_is_binary(which):
    path = SAMPLES / ("physics.onnx" if which == "model" else "physics.npz")
    args = ("-", "-i", POINT) if which == "model" else (PHYSICS, "-i", "-")
    report, result = compared(*args, *QUICK, stdin=path.read_bytes())
    assert report["model"]["path"] == ("<stdin>" if which == "model" else PHYSICS)
    assert result.stderr == ""


def test_the_widest_dtype_is_chosen_and_can_be_set():
    report, _ = compared(PHYSICS, "-i", POINT, *QUICK)
    assert report["methods"][0]["dtype"] == "float32"
    report, _ = compared(PHYSICS, "-i", POINT, *QUICK, "--dtype", "float64")
    assert report["methods"][0]["dtype"] == "float64"
    assert report["methods"][0]["max_rel_error"] < 1e-12


def test_tolerances_and_runs_reach_the_judge():
    report, _ = compared(
        *(PHYSICS, "-i", POINT, "--method", "reverse", "--rtol", "0.5", "--atol", "0.25"),
        *("--runs", "3", "--warmup", "0"),
    )
    assert report["problem"]["rtol"] == {"float32": 0.5, "float64": 0.5}
    assert report["problem"]["atol"] == 0.25
    assert len(report["methods"][0]["run"]["times"]) == 3


def test_a_tolerance_that_float32_misses_exits_1():
    report, _ = compared(PHYSICS, "-i", POINT, *QUICK, "--rtol", "1e-12", code=1)
    assert (report["verdict"], report["exit_code"]) == ("DISAGREE", 1)
    assert report["methods"][0]["cause"] == "rounding"


def test_a_kink_is_told():
    report, _ = compared(str(SAMPLES / "kinked.onnx"), "-i", str(SAMPLES / "kinked.npz"))
    (kink,) = [k for k in report["kinks"] if k["active"]]
    assert (kink["op"], kink["margin"]) == ("Relu", 0.0)
    assert {m["verdict"] for m in report["methods"]} >= {"KINK"}


def test_a_report_in_a_file(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("old")
    result = cli("compare", PHYSICS, "-i", POINT, *QUICK, "-o", str(path))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert json.loads(path.read_text())["verdict"] == "AGREE"
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_in_a_file(tmp_path):
    path = tmp_path / "report.txt"
    assert cli("compare", PHYSICS, "-i", POINT, *QUICK, "-o", str(path)).exit_code == 0
    assert "reverse  AGREE" in path.read_text(encoding="utf-8")


def test_a_process_in_a_pipe():
    result = process("compare", PHYSICS, "--input", POINT, *QUICK, COLUMNS="80")
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode()
    assert "\x1b" not in text
    assert "×" in text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_process_on_a_poor_console(encoding):
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    result = process("compare", PHYSICS, "--input", POINT, *QUICK, **env)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode(encoding)
    sign = "×" if encoding == "cp1252" else "x"
    assert re.search(rf" {sign}$", text, re.MULTILINE)
    assert re.search(r"^reverse +AGREE +float32 +[\d.]+ +#+\.? ", text, re.MULTILINE)


def test_a_sweep_is_drawn_and_all_its_points_are_in_the_json():
    asked = (PHYSICS, "-i", POINT, "--method", "finite", "--runs", "1", "--sweep")
    drawn = cli("compare", *asked, COLUMNS="80")
    assert drawn.exit_code == 0
    assert drawn.stdout.count("error of finite differences in float64, against the step h") == 1
    assert re.search(
        r"^finite-central +\S+ +\S+ +6\.1e-6 +\S+ +h\^2\.0 +–$", drawn.stdout, re.MULTILINE
    )
    assert max(map(len, drawn.stdout.splitlines())) <= 80
    (sweep,) = compared(*asked)[0]["sweeps"]
    assert sweep["dtype"] == "float64"
    steps = [point["step"] for point in sweep["points"]]
    assert {0.5, 2.0**-26, 2.0**-50} <= set(steps)
    assert sweep["formulas"][0]["best"]["error"] == min(p["forward"] for p in sweep["points"])
    both = compared(*asked, "--dtype", "float32")[0]["sweeps"]
    assert [s["dtype"] for s in both] == ["float64", "float32"]
    assert not compared(*asked[:-1])[0]["sweeps"]


@pytest.mark.parametrize(("way", "code"), [("report", 0), ("skip", 3), ("fail", 1), ("nudge", 0)])
def test_what_becomes_of_a_kink(way, code):
    kinked = str(SAMPLES / "kinked.onnx"), "-i", str(SAMPLES / "kinked.npz")
    report, _ = compared(*kinked, *QUICK, "--at-kink", way, code=code)
    assert report["verdict"] == {"skip": "INCONCLUSIVE", "nudge": "AGREE"}.get(way, "KINK")


def test_interrupted_it_tells_what_is_done(monkeypatch):
    from gradcli.measure.method import outcome

    def until_the_second(engine, *args):
        if engine.name == "forward":
            raise KeyboardInterrupt
        return outcome(engine, *args)

    monkeypatch.setattr("gradcli.measure.gather.outcome", until_the_second)
    asked = [PHYSICS, "--input", POINT, "--method", "reverse", "--method", "forward"]
    report, result = compared(*asked, code=130)
    assert result.stderr == "gradcli: interrupted\n"
    assert [m["method"] for m in report["methods"]] == ["reverse"]
    assert report["unfinished"] == ["forward"]
    shown = cli("compare", *asked)
    assert shown.exit_code == 130
    assert "interrupted before forward" in shown.stdout


def test_quiet_is_the_headline_and_verbose_is_everything():
    quiet, normal, verbose = (
        cli("compare", PHYSICS, "--input", POINT, *QUICK, *flag, COLUMNS="80").stdout
        for flag in (["-q"], [], ["-v"])
    )
    assert quiet == normal.partition("\n")[0] + "\n"
    assert quiet.startswith("AGREE  reverse agrees with ")
    assert "\narithmetic" not in normal
    assert re.search(
        r"^arithmetic +float32 on CPU, 1 thread; tolerances 3.0e-3", verbose, re.MULTILINE
    )


def test_failures_only_leaves_out_what_agrees():
    whole, failures = (
        cli("compare", PHYSICS, "--input", POINT, *QUICK, "--rtol", "1e-9", *flags).stdout
        for flags in (["--method", "complex-step"], ["--method", "complex-step", "--failures-only"])
    )
    rows = re.compile(r"^(reverse|complex-step) +([A-Z]+) ", re.MULTILINE)
    assert dict(rows.findall(whole)) == {"reverse": "DISAGREE", "complex-step": "AGREE"}
    assert dict(rows.findall(failures)) == {"reverse": "DISAGREE"}
    assert ("advice" in whole, "advice" in failures) == (True, False)


# A shell that runs something in the background makes it deaf to this signal.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from gradcli.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="a signal that POSIX sends")
def test_a_process_that_is_interrupted_tells_what_is_done(tmp_path):
    report = tmp_path / "report.json"
    asked = ("compare", PHYSICS, "-i", POINT, "--runs", "1000000000", "--budget", "40")
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *asked, "--export", f"json={report}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    ) as running:
        for _ in range(400):
            time.sleep(0.1)
            if report.exists() and json.loads(report.read_text(encoding="utf-8"))["methods"]:
                break
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stderr) == (130, b"gradcli: interrupted\n")
    done = json.loads(report.read_text(encoding="utf-8"))
    assert done["methods"]
    assert done["unfinished"]
    assert f"interrupted before {', '.join(done['unfinished'])}" in " ".join(
        stdout.decode().split()
    )
