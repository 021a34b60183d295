"""--points: as many questions as there are rows, and the worst of them is the answer."""

import csv
import io
import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from onnx import TensorProto, helper

from gradcli import api
from gradcli.cli.points import MOST
from gradcli.engines import Program as EngineProgram
from tests.cli.support import DIABETES, PHYSICS, SAMPLES, cli, refused, save_model
from tests.cli.test_inputs import TYPED, claiming_npy

ROWS = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, -0.5]], np.float32)
FLAT = ("--operator", "jacobian")


def gradients(x):
    return [api.gradient(PHYSICS, {"x": [[a]], "t": [[b]]}) for a, b in x]


def files(folder):
    """The same three points in each kind of file."""
    (folder / "p.csv").write_text("x,t\n" + "\n".join(f"{a},{b}" for a, b in ROWS.tolist()))
    listed = {"x": ROWS[:, :1].tolist(), "t": ROWS[:, 1:].tolist()}
    (folder / "p.json").write_text(json.dumps(listed))
    np.savez(folder / "flat.npz", x=ROWS[:, :1], t=ROWS[:, 1:])
    np.savez(folder / "whole.npz", x=ROWS[:, :1, None], t=ROWS[:, 1:, None])
    return ["p.csv", "p.json", "flat.npz", "whole.npz"]


def test_grad_stacks_the_derivatives_of_every_kind_of_file(tmp_path):
    want = gradients(ROWS)
    for name in files(tmp_path):
        result = cli("grad", PHYSICS, "--points", str(tmp_path / name), "--format", "npz")
        assert (result.exit_code, result.stderr) == (0, ""), name
        found = np.load(io.BytesIO(result.stdout_bytes))
        for key in ("x", "t"):
            np.testing.assert_array_equal(found[key], np.stack([g[key] for g in want]), name)


def test_the_leading_axis_of_an_array_counts_points(tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    np.save(tmp_path / "p.npy", x)
    result = cli("grad", DIABETES, "--points", str(tmp_path / "p.npy"))
    found = np.load(io.BytesIO(result.stdout_bytes))
    assert found.shape == (3, 1, 10)
    for k, row in enumerate(x):
        np.testing.assert_array_equal(found[k], api.gradient(DIABETES, row[None])["patient"])


def test_what_input_gives_is_the_same_at_all_points(tmp_path):
    (tmp_path / "p.csv").write_text("0.1\n0.3\n")
    np.save(tmp_path / "t.npy", np.array([[0.2]], np.float32))
    given = ["--points", f"x={tmp_path / 'p.csv'}", "--input", f"t={tmp_path / 't.npy'}"]
    result = cli("grad", PHYSICS, *given, "--wrt", "x", "--format", "json")
    (block,) = json.loads(result.stdout)["derivative"]
    want = [g["x"].tolist() for g in gradients([[0.1, 0.2], [0.3, 0.2]])]
    assert (block["shape"], block["values"]) == ([2, 1, 1], want)


QUICK = ("--method", "reverse", "--method", "finite", "--runs", "1", "--warmup", "0")


def test_compare_reports_the_worst_point_and_has_all(tmp_path):
    # The bundled point of this network lies on a kink; the others do not.
    kink = np.load(SAMPLES / "kinked.npz")["flower_mm"]
    np.save(tmp_path / "p.npy", np.stack([kink[0] + 1.5, kink[0], kink[0] - 2.25]))
    given = (str(SAMPLES / "kinked.onnx"), "--points", str(tmp_path / "p.npy"), *QUICK)
    found = json.loads(cli("compare", *given, "--at-kink", "fail", "--format", "json").stdout)
    assert [p["label"] for p in found["points"]] == ["point 0", "point 1", "point 2"]
    assert [p["exit_code"] for p in found["points"]] == [0, 1, 0]
    assert (found["worst_point"], found["exit_code"]) == (1, 1)
    assert found["kinks"]
    assert [m["method"] for m in found["points"][2]["methods"]] == ["reverse", "finite"]
    result = cli("compare", *given, "--at-kink", "fail")
    assert result.exit_code == 1
    assert "worst, point 1" in " ".join(result.stdout.split())


def test_every_format_has_every_point(tmp_path):
    (tmp_path / "p.csv").write_text("x,t\n0.25,0.5\n0.5,0.5\n0.75,0.1\n")
    where = [f"point {k} (line {k + 2})" for k in range(3)]
    # A tolerance that no float32 keeps, so that there is something to tell of each.
    asked = ["compare", PHYSICS, "--points", str(tmp_path / "p.csv"), "--method", "reverse"]
    asked += ["--rtol", "1e-9", "--runs", "1", "--warmup", "0"]

    def told(form):
        result = cli(*asked, "--format", form)
        assert result.exit_code == 1, result.output
        return result.stdout

    rows = list(csv.DictReader(io.StringIO(told("csv"))))
    assert [(row["point"], row["verdict"]) for row in rows] == [(w, "DISAGREE") for w in where]
    assert len({row["worst_value"] for row in rows}) == 3
    lines = [json.loads(line) for line in told("jsonl").splitlines()]
    assert [line["point"] for line in lines] == where
    suites = ET.fromstring(told("junit"))
    cases = [case.get("name") for case in suites.iter("testcase")]
    assert cases == [f"reverse, {w}" for w in where]
    assert (suites.get("tests"), suites.get("failures")) == ("3", "3")
    for form in ("table", "markdown", "github"):
        text = " ".join(told(form).split())
        assert [w for w in where if w not in text] == [], form


def test_a_method_is_prepared_once_for_all_points(tmp_path, monkeypatch):
    prepared = []
    init = EngineProgram.__init__

    def counted(*args):
        prepared.append(args)
        init(*args)

    monkeypatch.setattr(EngineProgram, "__init__", counted)
    (tmp_path / "p.csv").write_text("x,t\n0.25,0.5\n0.5,0.5\n0.75,0.1\n")
    assert cli("grad", PHYSICS, "--points", str(tmp_path / "p.csv")).exit_code == 0
    assert len(prepared) == 1


def test_what_is_prepared_at_one_point_is_not_taken_where_it_differs(tmp_path):
    path = save_model(
        tmp_path / "picked.onnx",
        [helper.make_node("Gather", ["x", "k"], ["y"], axis=1)],
        {"x": (TensorProto.FLOAT, ["N", 3]), "k": (TensorProto.INT64, [1])},
        {"y": (TensorProto.FLOAT, ["N", 1])},
    )
    deriver, model = api.Deriver(), api.load(path)
    for k, rows in ((0, 1), (1, 1), (1, 2), (2, 2)):
        x = np.ones((rows, 3), np.float32)
        problem = api.ask(model, {"x": x, "k": np.array([k])}, operator="vjp", seed=k)
        (found,) = deriver.derive(problem).blocks.values()
        np.testing.assert_array_equal(found[:, k], problem.cotangents["y"][:, 0].astype("f4"))
        assert np.count_nonzero(found) == rows


def test_a_row_of_a_table_is_told_by_its_line(tmp_path):
    (tmp_path / "p.csv").write_text("t,x\n\n0.1,0.2\n0.3,0.4\n")
    result = cli("compare", PHYSICS, "--points", str(tmp_path / "p.csv"), *QUICK)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "points 2: 2 AGREE; what follows is of the worst, point" in text
    assert "(line 3)" in text or "(line 4)" in text


BAD = [
    (np.zeros((3, 4)), ("points are of shape [4]", "[N, 10]")),
    (np.float32(3), ("has no axis of points",)),
    (np.zeros((0, 10)), ("has 0 points",)),
    (np.zeros((MOST + 1, 10), np.int8), (f"1 to {MOST:,} are taken",)),
    (np.array([[0.0] * 10, [0.0] * 9 + [np.nan]]), ("point 1 holds NaN", "at [9]")),
]


@pytest.mark.parametrize(("array", "words"), BAD)
@pytest.mark.parametrize("command", ["compare", "grad"])
def test_points_that_do_not_fit(command, array, words, tmp_path):
    np.save(tmp_path / "p.npy", array)
    refused(cli(command, DIABETES, "--points", str(tmp_path / "p.npy")), "p.npy", *words, "hint")


def test_refusals_that_name_more_than_one_file(tmp_path):
    np.savez(tmp_path / "p.npz", x=ROWS[:, :1], t=ROWS[:2, :1])
    points = str(tmp_path / "p.npz")
    refused(cli("grad", PHYSICS, "--points", points), "x has 3, t has 2")
    np.savez(tmp_path / "p.npz", speed=ROWS[:, :1])
    refused(cli("grad", PHYSICS, "--points", points), "no input called 'speed'")
    np.savez(tmp_path / "p.npz", x=ROWS[:, :1])
    both = ["--points", points, "--input", points]
    refused(cli("grad", PHYSICS, *both), "'x'")
    refused(cli("grad", PHYSICS, "--points", points, "--points", points), "gives 'x' twice")


def test_a_ragged_table_names_its_line(tmp_path):
    (tmp_path / "p.csv").write_text(f"{TYPED}\n1,2\n")
    refused(cli("grad", DIABETES, "--points", str(tmp_path / "p.csv")), "p.csv", "line 2")


def test_an_array_that_claims_many_points_is_refused_by_its_header(tmp_path):
    (tmp_path / "p.npy").write_bytes(claiming_npy((1 << 40, 10)))
    refused(cli("grad", DIABETES, "--points", str(tmp_path / "p.npy")), "truncated")


def test_one_point_is_several_all_the_same(tmp_path):
    (tmp_path / "p.csv").write_text(TYPED)
    result = cli("grad", DIABETES, "--points", str(tmp_path / "p.csv"), *FLAT)
    assert np.load(io.BytesIO(result.stdout_bytes)).shape == (1, 1, 1, 1, 10)
