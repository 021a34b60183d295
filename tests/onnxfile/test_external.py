"""External data: every way in which a model's author could reach another file is closed."""

import os
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gradcli import onnxfile, runtime
from gradcli.errors import ModelError
from gradcli.ops import OPS
from tests.onnxfile.models import info, model

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
W = np.arange(12, dtype=np.float32).reshape(3, 4)


def external(dims=(3, 4), dtype=TensorProto.FLOAT, name="W", **entries: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=dtype, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def write(folder: Path, tensor: onnx.TensorProto) -> Path:
    proto = model([helper.make_node("MatMul", ["x", "W"], ["y"])], [info("x", [2, 3])])
    proto.graph.initializer.append(tensor)
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "w.bin").write_bytes(W.tobytes())
    return inside


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        onnxfile.read(path, OPS)
    return caught.value.message


@pytest.mark.parametrize("entries", [{}, {"offset": "0"}, {"length": "48"}, {"checksum": "x"}])
def test_weights_beside_the_model_are_mapped_read_only_and_run(folder, entries):
    read = onnxfile.read(write(folder, external(**entries)), OPS)
    (array,) = read.mapped.values()
    assert read.external
    assert not array.flags.writeable
    assert isinstance(array.base, np.memmap | np.ndarray)
    np.testing.assert_array_equal(array, W)
    x = np.ones((2, 3), np.float32)
    for source in (read, read.graph):
        np.testing.assert_allclose(runtime.prepare(source).run({"x": x})["y"], x @ W)


def test_weights_in_a_folder_below_and_at_an_odd_offset(folder):
    (folder / "weights").mkdir()
    (folder / "weights" / "w").write_bytes(b"abc" + W.tobytes())
    entries = {"location": "weights/w", "offset": "3", "length": "48"}
    read = onnxfile.read(write(folder, external(**entries)), OPS)
    x = np.ones((2, 3), np.float32)
    for source in (read, read.graph):
        np.testing.assert_allclose(runtime.prepare(source).run({"x": x})["y"], x @ W)


@pytest.mark.parametrize("location", ["./w.bin", "././w.bin", "./sub/w.bin", "sub//./w.bin"])
def test_a_location_may_be_written_with_what_changes_nothing(folder, location):
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(W.tobytes())
    read = onnxfile.read(write(folder, external(location=location)), OPS)
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(runtime.prepare(read).run({"x": x})["y"], x @ W)


@posix
def test_links_behind_such_a_location_are_refused(folder):
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    assert "is a symbolic link" in refusal(write(folder, external(location="./link.bin")))
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    assert "is a hard link" in refusal(write(folder, external(location="./hard.bin")))


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "sub/../../secret.bin",
        "..",
        ".",
        "",
        "./",
        "./../secret.bin",
        "./sub/.././../secret.bin",
        "sub/../w.bin",
        "w.bin/",
        "/etc/passwd",
        "//etc/passwd",
        "/./w.bin",
        "..\\secret.bin",
        "C:secret.bin",
        "C:\\secret.bin",
        "file://w.bin",
        "w.bin\0.png",
        "w.bin:stream",
    ],
)
def test_a_location_that_leaves_the_folder_is_refused(folder, location):
    message = refusal(write(folder, external(location=location)))
    assert "not a plain path below the model's folder" in message
    assert "\0" not in message


def test_an_absolute_location_is_refused(folder):
    message = refusal(write(folder, external(location=str(folder.parent / "secret.bin"))))
    assert "not a plain path" in message


def test_memory_addresses_are_no_locations(folder):
    location = "*/_ORT_MEM_ADDR_/*"
    assert "should lie in" in refusal(write(folder, external(location=location, offset="4096")))


@posix
def test_symbolic_links_are_refused(folder):
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    assert "is a symbolic link" in refusal(write(folder, external(location="link.bin")))
    (folder / "sub").symlink_to(folder.parent)
    message = refusal(write(folder, external(location="sub/secret.bin")))
    assert "behind a symbolic link" in message


@posix
def test_hard_links_are_refused(folder):
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    assert "is a hard link" in refusal(write(folder, external(location="hard.bin")))


@posix
def test_a_pipe_is_refused_without_waiting(folder):
    os.mkfifo(folder / "pipe.bin")
    path = write(folder, external(location="pipe.bin"))
    messages: list[str] = []
    thread = threading.Thread(target=lambda: messages.append(refusal(path)), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert "is a named pipe" in messages[0]


def test_a_directory_and_a_missing_file_are_named(folder):
    (folder / "d.bin").mkdir()
    assert "is a directory" in refusal(write(folder, external(location="d.bin")))
    assert "should lie in" in refusal(write(folder, external(location="no.bin")))
    (folder / "e.bin").touch()
    assert "which has only 0" in refusal(write(folder, external(location="e.bin")))


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["-1", "+48", "4_8", " 48", "0x30", "1e2", "٤٨", "", "9" * 20])
def test_numbers_that_are_none_are_refused(folder, key, value):
    assert "no byte count" in refusal(write(folder, external(**{key: value})))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"offset": "1"}, "ends at byte 49"),
        ({"offset": str(2**63 - 1)}, "ends at byte"),
        ({"length": "47"}, "claims 47 bytes, but its shape needs 48"),
        ({"length": str(2**62)}, "its shape needs 48"),
        ({"executable": "1"}, "unknown keys executable"),
    ],
)
def test_offset_length_and_keys_must_fit(folder, entries, said):
    assert said in refusal(write(folder, external(**entries)))


def test_a_key_given_twice_is_refused(folder):
    tensor = external()
    tensor.external_data.add(key="location", value="other.bin")
    assert "gives a key twice" in refusal(write(folder, tensor))


def test_dims_whose_product_overflows_are_refused(folder):
    assert "above the limit" in refusal(write(folder, external(dims=(2**28, 2**28))))
    assert "impossible shape" in refusal(write(folder, external(dims=(2**32, 2**32))))
    assert "negative dimension" in refusal(write(folder, external(dims=(-3, -4))))


def test_strings_cannot_be_external(folder):
    assert "strings cannot be external" in refusal(write(folder, external(dtype=8)))


def test_a_model_given_as_bytes_has_no_folder(folder):
    data = write(folder, external()).read_bytes()
    with pytest.raises(ModelError, match="given as bytes"):
        onnxfile.read(data, OPS)


def test_external_data_inside_attributes_and_bodies_is_moved_into_what_runs(folder):
    constant = helper.make_node("Constant", [], ["c"], value=external(name=""))
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "V"], ["t"])], "b", [], [info("t", None)]
    )
    body.initializer.append(external(name="V"))
    nodes = [
        constant,
        helper.make_node("If", ["p"], ["u"], then_branch=body, else_branch=body),
        helper.make_node("MatMul", ["x", "c"], ["v"]),
        helper.make_node("Add", ["u", "v"], ["y"]),
    ]
    inputs = [info("x", [2, 3]), info("p", [], TensorProto.BOOL)]
    path = folder / "m.onnx"
    path.write_bytes(model(nodes, inputs).SerializeToString())
    read = onnxfile.read(path, OPS)
    x = np.ones((2, 3), np.float32)
    given = {"x": x, "p": np.array(True)}
    for source in (read, read.graph):
        np.testing.assert_allclose(runtime.prepare(source).run(given)["y"], 2 * (x @ W))


def test_what_runs_is_what_was_checked_even_if_the_file_is_exchanged(folder):
    read = onnxfile.read(write(folder, external()), OPS)
    (folder / "new.bin").write_bytes((W + 100).tobytes())
    (folder / "new.bin").replace(folder / "w.bin")
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(runtime.prepare(read).run({"x": x})["y"], x @ W)
