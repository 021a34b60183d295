import numpy as np
import onnx
import pytest

from gradcli import api
from tests.cli.support import PHYSICS, POINT, SAMPLES, cli, process, refused


def test_a_derivative_is_written_and_described(tmp_path):
    path = tmp_path / "d.onnx"
    result = cli("export", PHYSICS, "-i", POINT, "--operator", "vjp", "-o", str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    words = " ".join(result.stdout.split())
    for said in ("u_bar (N×1): cotangent of u", "x_bar (N×1)", "complex-step", "tolerance 3e-03"):
        assert said in words, words
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert [p.name for p in tmp_path.iterdir()] == ["d.onnx"]
    onnx.checker.check_model(str(path), full_check=True)


def test_grad_takes_the_derivative_of_the_derivative(tmp_path):
    path, out = str(tmp_path / "d.onnx"), str(tmp_path / "g.npz")
    cli("export", PHYSICS, "-i", POINT, "--operator", "gradient", "-o", path)
    result = cli("grad", path, "-i", POINT, "--of", "x_bar", "-o", out)
    assert result.exit_code == 0, result.stderr
    with np.load(out) as second, np.load(POINT) as point:
        x, t, h = point["x"].astype(np.float64), point["t"], 1e-3
        first = [api.gradient(PHYSICS, {"x": x + s, "t": t}, dtype="float64")["x"] for s in (h, -h)]
        np.testing.assert_allclose(second["x"], (first[0] - first[1]) / (2 * h), rtol=1e-3)


def test_stdout(tmp_path):
    result = process("export", PHYSICS, "-i", POINT, "--operator", "jvp", "-o", "-")
    assert (result.returncode, result.stderr) == (0, b"")
    assert [o.name for o in onnx.load_from_string(result.stdout).graph.output] == ["u_dot"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--wrt", "y"), "'y'"),
        (("--of", "w"), "'w'"),
        (("--shape", "z=1,1"), "'z'"),
        (("--per-row",), "--per-row"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(words, said, tmp_path):
    path = tmp_path / "d.onnx"
    result = cli("export", PHYSICS, "--operator", "vjp", *words, "-o", str(path))
    refused(result, said, code=3 if words[0] == "--per-row" else 2)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_is_needed():
    assert cli("export", PHYSICS, "-o", "d.onnx").exit_code == 2


def test_a_place_that_cannot_be_written(tmp_path):
    path = str(tmp_path / "none" / "d.onnx")
    refused(cli("export", PHYSICS, "--operator", "vjp", "-o", path), "no directory")


def test_a_file_that_is_there_is_replaced_and_the_model_is_not(tmp_path):
    path, model = tmp_path / "d.onnx", tmp_path / "m.onnx"
    path.write_bytes(b"old")
    model.write_bytes((SAMPLES / "physics.onnx").read_bytes())
    words = ("export", str(model), "-i", POINT, "--operator", "vjp", "-o")
    assert cli(*words, str(path)).exit_code == 0
    assert onnx.load(path).graph.output[0].name == "x_bar"
    (tmp_path / "link.onnx").symlink_to(model)
    for target in ("m.onnx", "link.onnx"):
        refused(cli(*words, str(tmp_path / target)), target, "is what this command reads")
    assert model.read_bytes() == (SAMPLES / "physics.onnx").read_bytes()
