"""Constants that are too many for one file lie in another beside it, and appear with it."""

import numpy as np
import onnx
import pytest

import gradcli
from gradcli import exporting, onnxfile
from gradcli.errors import CannotError, OutputError
from tests.cli.support import cli
from tests.exporting.test_export import external, run


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """As if a file could hold no more than this."""
    monkeypatch.setattr("gradcli.onnxfile.place.MOST", 4096)


@pytest.fixture
def model(tmp_path):
    return external(tmp_path / "in", 128)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def names(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_file_and_that_beside_it_are_a_model_like_any_other(model, out, dtype):
    made = gradcli.export(model, out / "d.onnx", operator="vjp", dtype=dtype)
    assert names(out) == ["d.onnx", "d.onnx.data"]
    assert made.shared == ()
    assert made.beside == (out / "d.onnx.data").stat().st_size
    assert len(made.data) < 4096
    onnx.checker.check_model(str(out / "d.onnx"), full_check=True)
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal((2, 128)).astype(dtype) for _ in "xw")
    found = run(out / "d.onnx", {"x": x, "y_bar": w})["x_bar"]
    want = gradcli.vjp(model, x, w)["x"]
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
    again = gradcli.vjp(out / "d.onnx", {"x": x, "y_bar": w}, w, wrt="x", of="x_bar")
    assert np.all(np.isfinite(again["x"]))


def test_the_command_says_so_and_writes_over_both(model, out):
    for _ in range(2):
        told = cli("export", str(model), "--operator", "vjp", "-o", str(out / "d.onnx"))
        assert told.exit_code == 0
        said = "".join(told.stdout.split())
        assert "d.onnx.data(65,536bytesofconstants)" in said
        assert names(out) == ["d.onnx", "d.onnx.data"]


def test_beside_the_model_its_own_data_are_referred_to(model):
    made = gradcli.export(model, model.parent / "d.onnx", operator="vjp")
    assert (made.shared, made.beside) == (("W",), 0)
    assert names(model.parent) == ["d.onnx", "m.onnx", "weights.bin"]


def test_a_derivative_that_does_not_hold_leaves_neither(model, out, monkeypatch):
    monkeypatch.setattr(exporting.proof, "RULES", -1.0)
    with pytest.raises(CannotError):
        gradcli.export(model, out / "d.onnx", operator="vjp")
    assert names(out) == []


def test_a_model_that_cannot_be_written_takes_its_data_with_it(model, out, monkeypatch):
    def full(*_):
        raise OutputError("d.onnx: cannot be written (No space left on device)")

    monkeypatch.setattr(onnxfile, "put", full)
    with pytest.raises(OutputError, match="No space"):
        gradcli.export(model, out / "d.onnx", operator="vjp")
    assert names(out) == []


def test_data_that_cannot_be_written_leave_nothing(model, out, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnxfile.Place, "_append", full)
    with pytest.raises(OutputError, match=r"d\.onnx\.data: cannot be written \(No space left"):
        gradcli.export(model, out / "d.onnx", operator="vjp")
    assert names(out) == []


def test_the_model_s_data_are_not_written_over(model):
    (model.parent / "weights.bin").rename(model.parent / "d.onnx.data")
    proto = onnx.load(model, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "d.onnx.data"
    model.write_bytes(proto.SerializeToString())
    before = (model.parent / "d.onnx.data").read_bytes()
    with pytest.raises(OutputError, match="holds its constants"):
        gradcli.export(model, model.parent / "d.onnx", operator="vjp", dtype="float64")
    assert (model.parent / "d.onnx.data").read_bytes() == before
