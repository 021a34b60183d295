import io
import json
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from gradcli import api
from tests.cli.support import (
    DIABETES,
    PHYSICS,
    POINT,
    SAMPLES,
    cli,
    process,
    refused,
    save_model,
)

DIGITS = str(SAMPLES / "digits.onnx")
DIGIT = str(SAMPLES / "digits.npz")


def arrays(data):
    found = np.load(io.BytesIO(data), allow_pickle=False)
    return dict(found) if hasattr(found, "keys") else found


def expected():
    with np.load(POINT) as point:
        return api.gradient(PHYSICS, dict(point))


def test_a_pipe_gets_npz_by_name_of_wrt():
    result = process("grad", PHYSICS, "--input", POINT)
    assert (result.returncode, result.stderr) == (0, b"")
    found = arrays(result.stdout)
    assert found.keys() == {"x", "t"}
    for name, array in expected().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.float32


def test_a_pipe_gets_npy_of_a_single_array():
    result = cli("grad", PHYSICS, "--input", POINT, "--wrt", "t")
    found = arrays(result.stdout_bytes)
    np.testing.assert_array_equal(found, expected()["t"])


@pytest.mark.parametrize("suffix", ["npy", "npz", "json", "txt"])
def test_the_suffix_chooses_the_format(suffix, tmp_path):
    path = tmp_path / f"g.{suffix}"
    result = cli("grad", PHYSICS, "-i", POINT, "--wrt", "t", "-o", str(path))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    want = expected()["t"]
    if suffix == "npy":
        np.testing.assert_array_equal(arrays(path.read_bytes()), want)
    elif suffix == "npz":
        np.testing.assert_array_equal(arrays(path.read_bytes())["t"], want)
    elif suffix == "json":
        (block,) = json.loads(path.read_text())["derivative"]
        assert (block["of"], block["wrt"], block["shape"]) == (None, "t", [1, 1])
        assert block["values"] == want.tolist()
    else:
        assert str(want[0, 0]) in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_the_format_can_be_set_against_the_suffix(tmp_path):
    path = tmp_path / "g.dat"
    assert cli("grad", PHYSICS, "-i", POINT, "--format", "npz", "-o", str(path)).exit_code == 0
    assert arrays(path.read_bytes()).keys() == {"x", "t"}


def test_the_same_file_twice_is_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        assert cli("grad", PHYSICS, "-i", POINT, "-o", str(tmp_path / name)).exit_code == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_jacobian_is_named_of_wrt_and_shaped_of_then_wrt():
    result = cli("grad", DIGITS, "-i", DIGIT, "--format", "npz")
    found = arrays(result.stdout_bytes)
    assert {name: a.shape for name, a in found.items()} == {"logits/image": (1, 10, 1, 1, 8, 8)}


def test_a_jvp_is_named_by_of(tmp_path):
    np.savez(tmp_path / "dot.npz", x=np.ones((1, 1)), t=np.full((1, 1), 2.0))
    result = cli(
        *("grad", PHYSICS, "-i", POINT, "--tangent", str(tmp_path / "dot.npz"), "--format", "npz")
    )
    found = arrays(result.stdout_bytes)
    g = expected()
    assert found.keys() == {"u"}
    np.testing.assert_allclose(found["u"], g["x"] + 2 * g["t"], rtol=1e-5)


def test_a_vjp_is_named_by_wrt(tmp_path):
    np.save(tmp_path / "bar.npy", np.full((1, 1), 3.0))
    result = cli("grad", PHYSICS, "-i", POINT, "--cotangent", str(tmp_path / "bar.npy"))
    found = arrays(result.stdout_bytes)
    np.testing.assert_allclose(found["x"], 3 * expected()["x"], rtol=1e-5)


@pytest.mark.parametrize("method", ["forward", "symbolic", "finite-central", "complex-step"])
def test_every_method_gives_the_same(method):
    result = cli("grad", PHYSICS, "-i", POINT, "--method", method)
    found = arrays(result.stdout_bytes)
    for name, array in expected().items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5)


def test_float64():
    found = arrays(cli("grad", PHYSICS, "-i", POINT, "--dtype", "float64").stdout_bytes)
    assert {a.dtype.name for a in found.values()} == {"float64"}


def test_a_large_derivative_on_a_screen_says_that_it_is_cut_and_a_file_has_it_all(tmp_path):
    from gradcli.report import derivative_text

    blocks = {("", "x"): np.arange(2000.0)}
    assert "2,000 elements: -o FILE writes all of them" in derivative_text(blocks)
    whole = derivative_text(blocks, whole=True)
    assert "..." not in whole
    assert "1.234e+03" in whole


def test_text_to_a_terminal(monkeypatch):
    from gradcli.cli import screen

    monkeypatch.setattr(screen, "is_terminal", lambda: True)
    result = cli("grad", PHYSICS, "-i", POINT, NO_COLOR="1")
    assert result.stdout.startswith("derivative with respect to x [1, 1] float32\n[[")
    refused(cli("grad", PHYSICS, "-i", POINT, "--format", "npz"), "terminal", "-o FILE")


def test_random_inputs_are_told():
    result = cli("grad", DIABETES, "--format", "json")
    assert result.exit_code == 0
    assert "warning: input patient[1, 10] is random" in result.stderr
    assert "is random" in json.loads(result.stdout)["notes"][0]


def test_a_method_out_of_its_depth_exits_3(monkeypatch):
    from dataclasses import replace

    from gradcli.engines import ENGINES
    from gradcli.errors import CannotError

    def prepare(problem, options):
        raise CannotError("this network is too deep", "use reverse")

    monkeypatch.setitem(ENGINES, "symbolic", replace(ENGINES["symbolic"], prepare=prepare))
    result = cli("grad", PHYSICS, "-i", POINT, "--method", "symbolic")
    refused(result, "too deep", "use reverse", code=3)


@pytest.mark.parametrize("method", ["reverse", "finite-central"])
def test_no_derivative_of_a_primal_that_does_not_match(method, monkeypatch, tmp_path):
    from gradcli import measure

    real = measure.file_primal

    def other(problem, session=None):
        return {name: array * 1.5 for name, array in real(problem, session).items()}

    monkeypatch.setattr(measure, "file_primal", other)
    path = tmp_path / "g.npz"
    result = cli("grad", PHYSICS, "-i", POINT, "--method", method, "-o", str(path))
    refused(result, "does not match", "of u", "0.5 relative", code=3)
    assert not path.exists()


def test_straight_through_is_asked_for_by_a_flag(tmp_path):
    path, point = tmp_path / "rounds.onnx", tmp_path / "x.npy"
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Round", ["square"], ["y"]),
    ]
    save_model(path, nodes, {"x": (TensorProto.FLOAT, [1])}, {"y": (TensorProto.FLOAT, [1])})
    np.save(point, np.array([1.5], np.float32))
    asked = ("grad", str(path), "-i", str(point))
    exact = arrays(cli(*asked).stdout_bytes)
    straight = arrays(cli(*asked, "--straight-through").stdout_bytes)
    np.testing.assert_array_equal(exact["x"] if isinstance(exact, dict) else exact, [0.0])
    np.testing.assert_array_equal(straight["x"] if isinstance(straight, dict) else straight, [3.0])
    result = cli("compare", str(path), "-i", str(point), "--straight-through", "--runs", "1")
    assert result.exit_code == 0
    assert "straight-through estimator: a convention, and not the derivative" in " ".join(
        result.stdout.split()
    )
    refused(cli(*asked, "--straight-through", "--method", "finite"), "another question", code=3)


TAB, BIDI, NEWLINE = "a\tb", "x\u202ey", "o\nz"


@pytest.mark.parametrize("shown", [False, True])
def test_a_name_that_cannot_be_shown_may_be_given_as_it_is(tmp_path, shown):
    """Names with tabs, newlines or marks of writing direction: by their own, or as a report has."""
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Mul", [TAB, BIDI], [NEWLINE])],
        {TAB: (TensorProto.FLOAT, [2]), BIDI: (TensorProto.FLOAT, [2])},
        {NEWLINE: (TensorProto.FLOAT, [2])},
    )
    a, b = np.array([2, 3], np.float32), np.array([5, 7], np.float32)
    np.save(tmp_path / "a.npy", a)
    named: list[tuple[str, dict[str, Any]]] = [
        ("b.npz", {BIDI: b}),
        ("bar.npz", {NEWLINE: np.array([1, 10])}),
    ]
    for name, arrays in named:
        np.savez(tmp_path / name, **arrays)
    tab, newline = (r"a\x09b", r"o\x0az") if shown else (TAB, NEWLINE)
    point = ["--input", f"{tab}={tmp_path / 'a.npy'}", "--input", str(tmp_path / "b.npz")]
    how = ["--wrt", tab, "--format", "json"]
    bar = ["--of", newline, "--operator", "vjp", "--cotangent", str(tmp_path / "bar.npz")]
    for asked, wanted in (["--of", f"{newline}[1]"], [0, 7]), (bar, [5, 70]):
        result = cli("grad", path, *point, *how, *asked)
        assert result.exit_code == 0, result.stderr
        (block,) = json.loads(result.stdout)["derivative"]
        assert block["wrt"] == r"a\x09b"
        assert block["values"] == wanted
    assert api.gradient(path, {TAB: a, BIDI: b}, wrt=TAB, of=f"{NEWLINE}[1]")[r"a\x09b"][1] == 7


def test_an_unknown_name_is_answered_with_what_is_shown(tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Exp", [TAB], ["y"])],
        {TAB: (TensorProto.FLOAT, [2])},
        {"y": (TensorProto.FLOAT, [2])},
    )
    text = refused(cli("grad", path, "--input", "b=nowhere.npy"), r"a\x09b")
    assert "a\tb" not in text
