"""`gradcli check --baseline`: what has changed in a project's models since one was saved."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gradcli.checks.baseline import keep
from gradcli.cli import checking
from gradcli.comparison import Speed
from gradcli.engines import Program
from tests.cli.projects import CONFIG, first_weight, made, perturbed, rewritten
from tests.cli.support import SAMPLES, cli, refused, save_model
from tests.installed import needs_html


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What is tested here is what is done with costs: a fiftieth of a second of each is enough.
    monkeypatch.setattr("gradcli.checks.baseline.LONGEST", 0.02)
    return made(tmp_path)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """One of the project, with costs as they are measured where nobody is in a hurry."""
    folder = made(tmp_path_factory.mktemp("saved"))
    path = folder / "base.json"
    result = cli("check", "--config", str(folder / "gradcli.toml"), "--save-baseline", str(path))
    assert result.exit_code == 0, result.output
    assert f"wrote {path}: 2 models" in result.stderr
    return path.read_bytes()


@pytest.fixture
def saved(baseline):
    Path("base.json").write_bytes(baseline)
    return json.loads(baseline)


def test_a_baseline_says_what_it_is_of(saved):
    assert saved["gradcli_baseline"] == 1
    assert saved["environment"]["numpy"] == np.__version__
    physics = saved["models"]["physics"]
    assert physics["question"]["operator"] == "gradient"
    assert set(physics["question"]["inputs"]) == {"x", "t"}
    assert len(physics["sha256"]) == 64
    assert [len(block["elements"]) for block in physics["derivative"]] == [1, 1]
    assert set(physics["methods"]) == {"reverse", "finite", "complex-step"}
    speed = physics["methods"]["reverse"]["times_forward"]
    assert 0 < speed["low"] <= speed["median"] <= speed["high"]
    assert Path("base.json").stat().st_size < 10_000


def test_what_is_the_same_has_no_findings(saved):
    result = cli("check", "--baseline", "base.json")
    assert result.exit_code == 0, result.stdout
    assert "no findings against base.json" in " ".join(result.stdout.split())


def test_a_weight_that_changed_is_found_in_every_format(saved):
    perturbed("physics.onnx", first_weight("physics.onnx"))
    result = cli("check", "--baseline", "base.json", "--export", "r.xml", "--export", "r.json")
    text = " ".join(result.stdout.split())
    assert result.exit_code == 1
    assert result.stdout.startswith("CHANGED  physics")
    assert "is uncertain" in text
    assert "the file is another one: sha256" in text
    models = json.loads(Path("r.json").read_text())["models"]
    assert [m["exit_code"] for m in models] == [1, 0]
    assert {c["what"] for c in models[0]["changes"]} >= {"derivative"}
    tree = ET.parse("r.xml")
    failed = [c for c in tree.iter("testcase") if c.find("failure") is not None]
    assert [c.get("name") for c in failed] == ["baseline"]
    assert (
        "title=gradcli%3A changed"
        in cli("check", "--baseline", "base.json", "--format", "github").stdout.splitlines()[0]
    )
    assert cli("check", "--baseline", "base.json", "--exit-zero").exit_code == 0


def test_a_baseline_may_be_configured(saved):
    rewritten("gradcli.toml", 'baseline = "base.json"\n' + CONFIG)
    perturbed("physics.onnx", first_weight("physics.onnx"))
    assert cli("check").exit_code == 1
    assert cli("check", "physics", "--save-baseline", "base.json").exit_code == 0
    assert cli("check").exit_code == 0, "the other one was kept"


def test_another_question_is_an_error_that_says_what_differs(saved):
    rewritten("gradcli.toml", CONFIG.replace('physics.npz"', 'physics.npz"\nwrt = "x"'))
    result = cli("check", "--baseline", "base.json")
    text = " ".join(result.stdout.split())
    assert result.exit_code == 2
    assert "its baseline is of another question: wrt t is absent, and was 1×1 hint" in text
    np.savez("physics.npz", x=[[0.5]], t=[[0.5]])
    rewritten("gradcli.toml", CONFIG)
    text = " ".join(cli("check", "--baseline", "base.json").stdout.split())
    assert "inputs x is" in text


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"gradcli_baseline": 0}', '{"gradcli_baseline": 1, "models": 3}']
)
def test_what_is_no_baseline_is_refused(content):
    rewritten("base.json", content)
    refused(cli("check", "--baseline", "base.json"), "base.json", "is no baseline")


def test_a_baseline_that_is_not_there_or_lacks_a_model_is_refused(saved):
    asked = ("check", "--baseline", "base.json", "--export", "json=base.json")
    refused(cli(*asked), "--export base.json", "is what this command reads")
    refused(cli("check", "--baseline", "no.json"), "no.json", "--save-baseline")
    del saved["models"]["kinked"]
    rewritten("base.json", json.dumps(saved))
    refused(cli("check", "--baseline", "base.json"), "kinked", "--save-baseline base.json")
    refused(cli("check", "--baseline", "a", "--save-baseline", "b"), "both")
    rewritten("gradcli.toml", 'baseline = "a\\u0000b"\n' + CONFIG)
    refused(cli("check"), "a\\x00b", "no file can be called so")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b.update(gradcli_baseline=2), ["newer gradcli", "version 2"]),
        (lambda b: b.pop("environment"), ["it lacks 'environment'"]),
        (lambda b: b["models"]["physics"].pop("question"), ["it lacks 'question'"]),
        (lambda b: block(b).update(shape=[7]), ["block x has 1 numbers of 7"]),
        (lambda b: block(b).update(elements=[], uncertainty=[]), ["0 numbers of 1"]),
        (lambda b: block(b).update(elements=[None]), ["numbers that are none"]),
        (lambda b: block(b).update(elements=["x"]), ["'x'"]),
        (lambda b: block(b).update(uncertainty=[-1]), ["uncertainty that can be none"]),
        (lambda b: block(b).update(uncertainty=[float("inf")]), ["uncertainty that can be none"]),
        (lambda b: reverse(b).update(dtype="float7"), ["float7"]),
        (lambda b: reverse(b).update(error=-1), ["has the error -1"]),
        (lambda b: reverse(b)["times_forward"].update(low=0, median=0), ["a method costs 0.0 to"]),
    ],
)
def test_a_baseline_that_says_what_cannot_be_is_refused(saved, change, words):
    change(saved)
    rewritten("base.json", json.dumps(saved))
    refused(cli("check", "physics", "--baseline", "base.json"), "base.json", *words)


def block(baseline):
    return baseline["models"]["physics"]["derivative"][0]


def reverse(baseline):
    return baseline["models"]["physics"]["methods"]["reverse"]


def test_a_baseline_of_another_machine_says_so(saved):
    saved["environment"]["onnxruntime"] = "1.0.0"
    rewritten("base.json", json.dumps(saved))
    result = cli("check", "physics", "--baseline", "base.json", "--export", "r.json")
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    assert "no findings against base.json, saved elsewhere: onnxruntime was 1.0.0 and is" in told
    (other,) = json.loads(Path("r.json").read_text())["elsewhere"]
    assert other.startswith("onnxruntime was 1.0.0")
    assert cli("check", "physics", "--save-baseline", "base.json").exit_code == 0
    kept = json.loads(Path("base.json").read_text())["models"]["kinked"]["methods"]
    assert {r["times_forward"] for r in kept.values()} == {None}, "costs there are of elsewhere"


def test_saving_anew_keeps_what_has_not_changed_and_tells_what_has(saved):
    result = cli("check", "--save-baseline", "base.json")
    assert result.exit_code == 0
    assert "saved anew" not in result.stdout
    again = json.loads(Path("base.json").read_text())
    assert again["models"] == saved["models"], "many small changes add up to one that is found"
    perturbed("physics.onnx", first_weight("physics.onnx"))
    result = cli("check", "--save-baseline", "base.json")
    assert result.exit_code == 0
    assert "saved anew: the derivative" in " ".join(result.stdout.split())
    again = json.loads(Path("base.json").read_text())["models"]
    assert again["kinked"] == saved["models"]["kinked"]
    assert again["physics"]["sha256"] != saved["models"]["physics"]["sha256"]
    assert again["physics"]["derivative"] != saved["models"]["physics"]["derivative"]
    rewritten("base.json", "nothing")
    assert cli("check", "--save-baseline", "base.json").exit_code == 0


@pytest.mark.parametrize("read", ["gradcli.toml", "physics.onnx", "./kinked.npz"])
def test_nothing_is_written_over_what_is_read(read):
    before = Path(read).read_bytes()
    for option in ("--save-baseline", "-o", "--export"):
        path = f"json={read}" if option == "--export" else read
        said = refused(cli("check", option, path), option, read)
        assert "is what this command reads" in said
    assert Path(read).read_bytes() == before
    refused(cli("check", "--save-baseline", "."), "--save-baseline .", "is a directory")


def test_no_baseline_is_written_of_a_model_in_error(saved):
    before = Path("base.json").read_bytes()
    Path("physics.onnx").write_bytes(b"nothing")
    result = cli("check", "--save-baseline", "base.json")
    assert result.exit_code == 2
    assert "is not written" in result.stderr
    assert Path("base.json").read_bytes() == before


def test_what_could_not_be_compared_is_not_decided(saved, monkeypatch):
    def less(*args):
        now = keep(*args)
        unknown = tuple(
            replace(b, values=(math.nan,) * len(b.values), known="few") for b in now.derivative
        )
        return replace(now, derivative=unknown)

    monkeypatch.setattr(checking, "keep", less)
    asked = ("check", "physics", "--baseline", "base.json")
    result = cli(*asked, "--export", "r.xml", "--export", "r.json", "--export", "r.md")
    assert result.exit_code == 3
    assert result.stdout.startswith("INCONCLUSIVE  physics  its derivative could not be compared")
    assert "x, t: not all of it could be compared" in " ".join(result.stdout.split())
    assert "1 inconclusive; no findings against base.json (exit 3)" in " ".join(
        result.stdout.split()
    )
    (model,) = json.loads(Path("r.json").read_text())["models"]
    assert (model["exit_code"], model["not_compared"]) == (3, ["x", "t"])
    assert "| INCONCLUSIVE | physics |" in Path("r.md").read_text(encoding="utf-8")

    def held(*words):
        report = cli(*asked, *words, "--export", "r.xml", "--format", "github")
        (case,) = [c for c in ET.parse("r.xml").iter("testcase") if c.get("name") == "baseline"]
        told = [line for line in report.stdout.splitlines() if "not compared" in line]
        return report.exit_code, [e.tag for e in case], [line.split()[0] for line in told]

    assert held() == (3, ["failure"], ["::error"])
    assert held("--inconclusive", "warn") == (0, ["skipped"], ["::warning"])
    assert held("--inconclusive", "ok") == (0, [], [])
    assert held("--exit-zero") == (0, ["failure"], ["::error"])


def test_a_cost_is_a_finding_only_where_it_is_so_again_and_again(saved, monkeypatch):
    measured = []

    def slow(problem, settings, methods, progress=None, needed=()):
        measured.append(list(methods))
        again = 1e3 if len(measured) < last else 1.0
        then = saved["models"]["physics"]["methods"]
        spread = ("low", "median", "high")
        return {
            name: Speed(*(again * then[name]["times_forward"][k] for k in spread))
            for name in methods
        }

    monkeypatch.setattr("gradcli.checks.baseline.speeds", slow)
    monkeypatch.setattr(checking, "speeds", slow)
    last = 3
    assert cli("check", "physics", "--baseline", "base.json").exit_code == 0
    assert len(measured) == 3
    measured.clear()
    last = 9
    result = cli("check", "physics", "--baseline", "base.json")
    assert result.exit_code == 1
    assert "reverse costs" in " ".join(result.stdout.split())


@needs_html
def test_html_tells_findings(saved):
    perturbed("physics.onnx", first_weight("physics.onnx"))
    cli("check", "--baseline", "base.json", "--export", "r.html")
    page = Path("r.html").read_text(encoding="utf-8")
    assert "CHANGED" in page
    assert "<dt>finding</dt><dd>the derivative" in page


# ---- slower than it was --------------------------------------------------------------------------


def layers(path, copies=1):
    """One output of a wide product; the weights as a sum of exact shares, each multiplied alone."""
    rng = np.random.default_rng(3)
    first = rng.normal(size=(4, 384)).astype(np.float32)
    wide = rng.normal(size=(384, 384)).astype(np.float32) / 16
    last = rng.normal(size=(384, 1)).astype(np.float32) / 16
    shares = [2.0 ** -min(k + 1, copies - 1) for k in range(copies)] if copies > 1 else [1.0]
    weights: dict[str, np.ndarray] = {"first": first, "last": last}
    weights |= {f"w{k}": np.float32(share) * wide for k, share in enumerate(shares)}
    parts = [f"p{k}" for k in range(copies)]
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "first"], ["a"]),
        *(node("MatMul", ["a", f"w{k}"], [part]) for k, part in enumerate(parts)),
        node("Sum", parts, ["b"]),
        node("Tanh", ["b"], ["c"]),
        node("MatMul", ["c", "last"], ["y"]),
    ]
    made = save_model(
        Path(path), nodes, {"x": (TensorProto.FLOAT, [1, 4])}, {"y": (TensorProto.FLOAT, [1, 1])}
    )
    model = onnx.load(made)
    model.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in weights.items())
    onnx.save(model, made)


WIDE = """
runs = 1
warmup = 0
methods = ["reverse"]
reference = "float64"

[[model]]
path = "wide.onnx"
inputs = "wide.npy"
"""


@pytest.fixture
def wide(monkeypatch):
    """A model with a baseline, its costs measured as they are in earnest but for less long."""
    monkeypatch.setattr("gradcli.checks.baseline.LONGEST", 0.3)
    layers("wide.onnx")
    np.save("wide.npy", np.array([[0.3, -0.2, 0.5, 0.1]], np.float32))
    rewritten("gradcli.toml", WIDE)
    result = cli("check", "--save-baseline", "base.json")
    assert result.exit_code == 0, result.output


def held():
    """Exit code, what is a finding, and all that is said."""
    result = cli("check", "--baseline", "base.json", "--format", "json")
    (model,) = json.loads(result.stdout)["models"]
    texts = [c["text"] for c in model["changes"]] + model["baseline_notes"]
    findings = [(c["what"], c["where"]) for c in model["changes"] if c["fails"]]
    return result.exit_code, findings, "; ".join(texts)


# Real clocks: no test that is always run hangs on how busy a machine is.


@pytest.mark.slow
def test_a_method_that_does_its_work_three_times_is_found_and_one_that_does_not_is_not(
    wide, monkeypatch
):
    assert held() == (0, [], "")
    once = Program.run

    def thrice(self, *args, **kwargs):
        for _ in range(2 if self.engine.name == "reverse" else 0):
            once(self, *args, **kwargs)
        return once(self, *args, **kwargs)

    monkeypatch.setattr(Program, "run", thrice)
    code, findings, said = held()
    assert (code, findings) == (1, [("speed", "reverse")])
    assert "reverse costs" in said


@pytest.mark.slow
def test_a_model_that_does_more_work_for_the_same_function_is_found(wide):
    layers("wide.onnx", copies=8)
    code, findings, said = held()
    assert (code, findings) == (1, [("speed", "a forward pass")]), said
    assert "times a fixed piece of work" in said
    assert "its derivative is what it was" in said


@pytest.mark.slow
def test_a_method_of_which_one_answer_takes_longer_than_all_may_is_measured(wide, monkeypatch):
    monkeypatch.setattr("gradcli.checks.baseline.LONGEST", 1e-4)
    assert held() == (0, [], "")


def test_a_method_that_became_too_slow_to_be_measured_is_told(wide, monkeypatch):
    monkeypatch.setattr(checking, "timed", lambda *_: {})
    monkeypatch.setattr("gradcli.checks.baseline.timed", lambda *_: {})
    assert "too slow now for its cost to be measured: reverse" in held()[2]


# ---- every weight --------------------------------------------------------------------------------

CONSTANT = {
    "physics": {"u.bias"},
    "kinked": {"logits.bias"},
    "diabetes": {"score.bias", "target_mean"},
}
"""Weights that a derivative with respect to the input does not hang on: what is added last."""

DEAD = [1, 2]
"""Hidden units of `kinked` that its point leaves switched off: nothing behind them matters."""


def weights():
    for sample in CONSTANT:
        for tensor in onnx.load(SAMPLES / f"{sample}.onnx").graph.initializer:
            array = numpy_helper.to_array(tensor)
            if array.dtype.kind != "f":
                continue
            live = np.ones(array.shape, bool)
            if tensor.name == "pre_activation.weight":
                live[DEAD] = False
            if tensor.name == "pre_activation.bias":
                live[1:] = False  # off its kink, a Relu's slope does not hang on a bias
            if (sample, tensor.name) == ("kinked", "logits.weight"):
                live[:, DEAD] = False
            yield sample, tensor.name, live & (array != 0)


@pytest.mark.parametrize(
    ("sample", "tensor", "live"), [pytest.param(*w, id=f"{w[0]}-{w[1]}") for w in weights()]
)
def test_any_one_weight_that_changed_by_a_thousandth_is_found(sample, tensor, live):
    for suffix in (".onnx", ".npz"):
        shutil.copy(SAMPLES / f"{sample}{suffix}", ".")
    config = f'methods = ["reverse"]\nruns = 1\nwarmup = 0\n[[model]]\npath = "{sample}.onnx"\n'
    rewritten("gradcli.toml", f'{config}inputs = "{sample}.npz"\n')
    assert cli("check", "--save-baseline", "base.json").exit_code == 0
    index = int(np.random.default_rng(len(tensor)).choice(np.flatnonzero(live)))
    perturbed(f"{sample}.onnx", tensor, index)
    result = cli("check", "--baseline", "base.json", "--format", "json")
    (model,) = json.loads(result.stdout)["models"]
    moved = any(change["what"] == "derivative" for change in model["changes"])
    if tensor in CONSTANT[sample]:
        assert not moved
        assert "its derivative is what it was" in " ".join(model["baseline_notes"])
    else:
        assert moved, f"{tensor}, element {index}"
        assert result.exit_code == 1
