"""What a user can get wrong: each one ends in one screen that says what, where and what to do."""

import io
import os
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy
from onnx import TensorProto, helper

from tests.cli.support import (
    DIABETES,
    PHYSICS,
    POINT,
    QUICK,
    SAMPLES,
    cli,
    process,
    refused,
    save_model,
    two_inputs,
)

COMMANDS = ["compare", "grad"]


def saved(tmp_path, array, name="x.npy", **how):
    np.save(tmp_path / name, array, **how)
    return str(tmp_path / name)


def claiming(shape, descr="<f4"):
    """A .npy file that is all header."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.fixture(params=COMMANDS)
def command(request):
    return request.param


# ---- arrays --------------------------------------------------------------------------------------


def test_wrong_shape(command, tmp_path):
    path = saved(tmp_path, np.zeros((1, 3)))
    refused(cli(command, DIABETES, "--input", path), "'patient'", "[1, 3]", "[N, 10]")


def test_wrong_dtype(command, tmp_path):
    path = saved(tmp_path, np.array([["a"] * 10]))
    refused(cli(command, DIABETES, "--input", path), "'patient'", "float32", "<U1")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(command, tmp_path, bad):
    x = np.ones((1, 10), np.float32)
    x[0, 3] = bad
    refused(cli(command, DIABETES, "--input", saved(tmp_path, x)), "'patient'", "NaN", "[0, 3]")


def test_overflow_on_the_way_to_the_model_s_width(command, tmp_path):
    path = saved(tmp_path, np.full((1, 10), 1e300))
    refused(cli(command, DIABETES, "--input", path), "'patient'", "infinity")


def test_a_missing_integer_input(command, tmp_path):
    model = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Gather", ["x", "i"], ["y"], name="pick")],
        {"x": (TensorProto.FLOAT, [3]), "i": (TensorProto.INT64, [1])},
        {"y": (TensorProto.FLOAT, [1])},
    )
    refused(cli(command, model), "'i'", "int64", "--input i=FILE.npy")


def test_a_model_without_float_input_lists_what_may_be_differentiated(command, tmp_path):
    model = save_model(
        tmp_path / "m.onnx",
        [
            helper.make_node("Cast", ["i"], ["hidden"], name="widen", to=TensorProto.FLOAT),
            helper.make_node("Exp", ["hidden"], ["y"], name="grow"),
        ],
        {"i": (TensorProto.INT64, [2])},
        {"y": (TensorProto.FLOAT, [2])},
    )
    path = saved(tmp_path, np.array([1, 2]))
    refused(cli(command, model, "--input", path), "no float input", "--wrt", "hidden")


def test_pickled_npy_is_not_unpickled(command, tmp_path):
    path = saved(tmp_path, np.array([[{}] * 10]), allow_pickle=True)
    refused(cli(command, DIABETES, "--input", path), "x.npy", "pickled", "allow_pickle=False")


def test_pickled_member_of_a_npz(command, tmp_path):
    np.savez(tmp_path / "x.npz", patient=np.array([[{}] * 10]), allow_pickle=True)
    result = cli(command, DIABETES, "--input", str(tmp_path / "x.npz"))
    refused(result, "'patient'", "pickled")


@pytest.mark.parametrize("shape", [(1, 2**40), (2**62, 2**62)])
def test_a_header_that_claims_more_than_the_file_holds(command, tmp_path, shape):
    (tmp_path / "x.npy").write_bytes(claiming(shape))
    refused(cli(command, DIABETES, "--input", str(tmp_path / "x.npy")), "x.npy", "truncated")


def bomb(path, shape, inflated, name="patient"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", claiming(shape) + bytes(inflated))
    return str(path)


def test_a_zip_bomb_is_refused_by_its_header(command, tmp_path):
    path = bomb(tmp_path / "x.npz", (1, 2**24), 2**26)
    assert (tmp_path / "x.npz").stat().st_size < 2**17
    refused(cli(command, DIABETES, "--input", path), "'patient'", "[1, 16777216]", "[N, 10]")


def test_a_zip_bomb_under_another_name_is_not_inflated(command, tmp_path, monkeypatch):
    path = bomb(tmp_path / "x.npz", (1, 2**24), 2**26, "other")
    inflated = []
    read = zipfile.ZipExtFile.read

    def counted(self, n=-1):
        inflated.append(n)
        return read(self, n)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    refused(cli(command, DIABETES, "--input", path), "'other'")
    assert sum(inflated) < 1000


def test_an_archive_whose_header_lies_about_its_size(command, tmp_path):
    path = bomb(tmp_path / "x.npz", (1, 10), 2**20)
    refused(cli(command, DIABETES, "--input", path), "'patient'", "promises 40 bytes")


def test_an_archive_that_is_too_large_whatever_the_model_takes(command, tmp_path, monkeypatch):
    from gradcli.cli import files

    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    path = bomb(tmp_path / "x.npz", (100, 10), 4000)
    refused(cli(command, DIABETES, "--input", path), "too many", ".npy")


def test_a_damaged_archive(command, tmp_path):
    np.savez(tmp_path / "x.npz", patient=np.zeros((1, 10)))
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    refused(cli(command, DIABETES, "--input", str(tmp_path / "x.npz")), "x.npz", "damaged")


def test_an_archive_with_a_wrong_checksum(command, tmp_path):
    np.savez(tmp_path / "x.npz", patient=np.zeros((1, 10), np.float32))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    at = data.index(bytes(40))
    data[at] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    refused(cli(command, DIABETES, "--input", str(tmp_path / "x.npz")), "x.npz", "damaged")


def test_a_truncated_npy(command, tmp_path):
    path = saved(tmp_path, np.zeros((1, 10)))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-8])
    refused(cli(command, DIABETES, "--input", path), "x.npy", "80 bytes", "72 follow")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("x.npy", b"hello", "is not a .npy or .npz file"),
        ("x.csv", b"1,2,3\n", "[1, 3]"),
        ("x.npy", b"", "it is empty"),
        ("x.npz", b"PK\x05\x06" + bytes(18), "holds no arrays"),
        ("x.npy", b"\x93NUMPY\x01\x00\x06\x00{bad}\n", "malformed"),
        ("x.npy", b"\x93NUMPY\x01\x00", "malformed"),
        ("x.npy", b"\x93NUMPY\x09\x00", "malformed"),
    ],
)
def test_a_file_that_is_no_array(command, tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    refused(cli(command, DIABETES, "--input", str(tmp_path / name)), name, word)


def test_a_wrong_extension_does_not_matter_where_the_content_is_right(tmp_path):
    (tmp_path / "x.dat").write_bytes((SAMPLES / "physics.npz").read_bytes())
    assert cli("compare", PHYSICS, "--input", str(tmp_path / "x.dat"), *QUICK).exit_code == 0


def test_a_model_given_as_input(command):
    refused(cli(command, DIABETES, "--input", PHYSICS), "physics.onnx", "looks like a model")


def test_an_input_for_another_model(command):
    refused(cli(command, DIABETES, "--input", POINT), "no input called", "patient")


def test_an_array_that_is_called_otherwise_says_how_to_give_it_all_the_same(command, tmp_path):
    made = str(tmp_path / "made.npz")
    np.savez(made, arr_0=np.zeros((1, 10), np.float32))
    said = refused(cli(command, DIABETES, "-i", made), "made.npz", "'arr_0'", "patient")
    assert f"--input patient={made}" in said
    assert cli(command, DIABETES, "-i", f"patient={made}", "--method", "reverse").exit_code == 0


def test_an_input_that_is_not_there(command):
    refused(cli(command, DIABETES, "--input", "nowhere.npy"), "nowhere.npy", "no such file")


def test_an_unknown_input_name(command, tmp_path):
    path = saved(tmp_path, np.zeros((1, 10)))
    refused(
        cli(command, DIABETES, "--input", f"patent={path}"), "'patent'", "did you mean patient?"
    )


def test_the_same_input_twice(command):
    refused(cli(command, PHYSICS, "-i", POINT, "-i", POINT), "twice")


def test_one_array_for_a_model_of_two_inputs(command, tmp_path):
    model = two_inputs(tmp_path / "m.onnx")
    path = saved(tmp_path, np.zeros(2))
    refused(cli(command, model, "--input", path), "2 inputs", "NAME=FILE", "a=b")


def test_a_directory_as_input(command, tmp_path):
    refused(cli(command, DIABETES, "--input", str(tmp_path)), "is a directory")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on this system")
def test_a_named_pipe_as_input_is_not_waited_for(command, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(cli(command, DIABETES, "--input", str(tmp_path / "pipe")), "not a regular file")


def unreadable(path):
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user (root?) may read everything")
    return str(path)


def test_an_unreadable_input(command, tmp_path):
    path = unreadable(tmp_path / "x.npy")
    refused(cli(command, DIABETES, "--input", path), "may not read", "permissions")


# ---- models --------------------------------------------------------------------------------------


def test_an_unreadable_model(command, tmp_path):
    refused(cli(command, unreadable(tmp_path / "m.onnx")), "may not read", "permissions")


def test_a_truncated_model(command, tmp_path):
    (tmp_path / "m.onnx").write_bytes((SAMPLES / "diabetes.onnx").read_bytes()[:1000])
    refused(cli(command, str(tmp_path / "m.onnx")), "m.onnx", "truncated")


def test_a_text_file_as_model(command, tmp_path):
    (tmp_path / "m.onnx").write_text("hello")
    refused(cli(command, str(tmp_path / "m.onnx")), "m.onnx", "text file")


def test_a_directory_as_model(command, tmp_path):
    refused(cli(command, str(tmp_path)), "is a directory")


def test_a_model_that_is_not_there(command):
    refused(cli(command, "nowhere.onnx"), "nowhere.onnx", "no such file")


def test_an_empty_stdin_as_model(command):
    refused(cli(command, "-", stdin=b""), "<stdin>", "empty")


def test_stdin_twice(command):
    data = (SAMPLES / "physics.onnx").read_bytes()
    refused(cli(command, "-", "--input", "-", stdin=data), "MODEL", "--input", "one stdin")


def test_operators_without_a_card_are_named_all_at_once(command, tmp_path):
    names = ["first", "second"]
    model = save_model(
        tmp_path / "m.onnx",
        [
            helper.make_node("Frob", ["x"], ["h"], name="first", domain="org.example"),
            helper.make_node("Nicate", ["h"], ["y"], name="second", domain="org.example"),
        ],
        {"x": (TensorProto.FLOAT, [2])},
        {"y": (TensorProto.FLOAT, [2])},
    )
    text = refused(cli(command, model), "Frob")
    assert [name for name in names if name not in text] in ([], ["second"]), text


@pytest.mark.parametrize(
    ("op", "size"),
    [("ConstantOfShape", [2**40]), ("Resize", [2**20, 2**40]), ("Expand", [2**40, 3])],
)
def test_a_result_that_no_memory_holds_names_its_node(command, tmp_path, op, size):
    names = {"ConstantOfShape": ["k"], "Resize": ["x", "", "", "k"], "Expand": ["x", "k"]}
    model = save_model(
        tmp_path / "m.onnx",
        [
            helper.make_node(op, names[op], ["vast"], name="makes_it"),
            helper.make_node("Mul", ["x", "vast"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, ["M", "N"]), "k": (TensorProto.INT64, [len(size)])},
        {"y": (TensorProto.FLOAT, ["a", "b"])},
    )
    np.savez(tmp_path / "x.npz", x=np.ones((1, 1), np.float32), k=np.array(size))
    result = cli(command, model, "--input", str(tmp_path / "x.npz"))
    assert len(refused(result, "makes_it", op, "memory")) < 300


@pytest.mark.parametrize("count", [7, 2**40, 2**62])
def test_more_of_the_greatest_than_there_are(command, tmp_path, count):
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], name="best")
    model = save_model(
        tmp_path / "m.onnx",
        [node],
        {"x": (TensorProto.FLOAT, ["N"]), "k": (TensorProto.INT64, [1])},
        {"y": (TensorProto.FLOAT, ["a"])},
    )
    np.savez(tmp_path / "x.npz", x=np.ones(3, np.float32), k=np.array([count]))
    refused(
        cli(command, model, "--input", str(tmp_path / "x.npz")), "best", f"{count} greatest of 3"
    )


# ---- the question --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "name", "near"),
    [("--wrt", "patent", "patient"), ("--of", "progresion", "progression")],
)
def test_an_unknown_tensor(command, option, name, near):
    refused(cli(command, DIABETES, option, name), option, name, f"did you mean {near}")


@pytest.mark.parametrize("index", ["0,5", "0,-2", "0,0,0", "7:9"])
def test_an_element_that_does_not_exist(command, index):
    result = cli(command, DIABETES, "--of", f"progression[{index}]")
    refused(result, f"progression[{index}]", "[1, 1]")


def test_an_index_that_is_none(command):
    refused(cli(command, DIABETES, "--of", "progression[0,,]"), "list of integers")


def test_a_gradient_of_more_than_one_number(command):
    refused(cli(command, str(SAMPLES / "digits.onnx"), "--operator", "gradient"), "logits", "--of")


def test_an_unknown_method(command):
    refused(cli(command, PHYSICS, "--method", "revers"), "'revers'", "did you mean reverse?")


def test_an_unknown_provider(command):
    refused(cli(command, PHYSICS, "--provider", "cud"), "'cud'", "CPUExecutionProvider")


@pytest.mark.parametrize(
    "args",
    [
        ["--shape", "x=1,-3"],
        ["--shape", "x"],
        ["--step", "0"],
        ["--step", "nan"],
        ["--threads", "0"],
        ["--dtype", "int8"],
        ["--operator", "hessian"],
        ["--frm", "json"],
    ],
)
def test_an_option_s_value(command, args):
    refused(cli(command, PHYSICS, *args), "Usage: gradcli", args[0])


@pytest.mark.parametrize(
    "args", [["--rtol", "nan"], ["--atol", "-1"], ["--budget", "0"], ["--runs", "0"]]
)
def test_an_option_s_value_of_compare(args):
    refused(cli("compare", PHYSICS, *args), "Usage: gradcli compare", args[0])


def test_a_shape_that_does_not_fit(command):
    refused(cli(command, DIABETES, "--shape", "patient=2,3"), "--shape", "[2, 3]", "[N, 10]")


def test_a_shape_that_contradicts_an_array(command):
    point = str(SAMPLES / "diabetes.npz")
    result = cli(command, DIABETES, "-i", point, "--shape", "patient=3,10")
    refused(result, "diabetes.npz", "'patient'", "[1, 10]", "--shape [3, 10]", "leave --shape out")


def test_a_direction_for_another_operator(command, tmp_path):
    path = saved(tmp_path, np.ones((1, 1)))
    result = cli(command, PHYSICS, "--operator", "jvp", "--cotangent", path)
    refused(result, "--cotangent", "--operator vjp")


def test_a_direction_that_does_not_fit(command, tmp_path):
    path = saved(tmp_path, np.ones(3))
    refused(cli(command, DIABETES, "--tangent", path), "--tangent", "'patient'", "[3]", "[1, 10]")


def test_no_model(command):
    refused(cli(command), "Missing argument 'MODEL'")


def test_an_unknown_command():
    refused(cli("compar", PHYSICS), "No such command 'compar'")


# ---- outputs -------------------------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch):
    """Nothing may be computed when the result cannot be kept."""
    from gradcli import api

    def ask(*args, **kwargs):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(api, "ask", ask)
    monkeypatch.setattr(api, "load", ask)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("path", "word"), [("no/where.json", "no directory"), (".", "directory")])
def test_an_output_that_cannot_be_written(command, tmp_path, monkeypatch, path, word):
    monkeypatch.chdir(tmp_path)
    args = ["--format", "json"]
    refused(cli(command, PHYSICS, *args, "-o", path), "-o", word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_work")
def test_a_read_only_output(command, tmp_path):
    path = tmp_path / "x.json"
    path.write_text("mine")
    path.chmod(0o444)
    if os.access(path, os.W_OK):
        pytest.skip("this user (root?) may write everything")
    refused(cli(command, PHYSICS, "-o", str(path)), "may not write")
    assert path.read_text() == "mine"


def test_a_failure_leaves_an_old_output_and_no_temporary_file(command, tmp_path):
    path = tmp_path / "x.json"
    path.write_text("mine")
    refused(cli(command, PHYSICS, "--of", "nothing", "-o", str(path)), "nothing")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_suffix_that_says_nothing(tmp_path):
    refused(cli("grad", PHYSICS, "-o", str(tmp_path / "x.out")), "suffix", ".npz", "--format")


def test_one_npy_for_two_arrays(tmp_path):
    refused(cli("grad", PHYSICS, "-i", POINT, "-o", str(tmp_path / "x.npy")), "one array", "npz")
    assert list(tmp_path.iterdir()) == []


# ---- as a real process ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["compare", "nowhere.onnx"],
        ["compare", DIABETES, "--wrt", "patent"],
        ["grad", DIABETES, "--input", POINT],
        ["grad", PHYSICS, "-o", "no/where.npz"],
    ],
)
def test_errors_of_a_real_process(args, tmp_path):
    result = process(*args, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == b""
    assert b"Traceback" not in result.stderr
    assert b"hint: " in result.stderr
    assert list(tmp_path.iterdir()) == []
