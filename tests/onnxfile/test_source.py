"""The file itself: what is no model is named for what it is, and opening it never surprises."""

import contextlib
import io
import os
import pickle
import sys
import threading
import zipfile

import numpy as np
import pytest

from gradcli import onnxfile
from gradcli.errors import ModelError, UnsupportedError
from gradcli.ops import OPS
from tests.onnxfile.models import simple

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")


def refusal(source, **options) -> ModelError:
    with pytest.raises(ModelError) as caught:
        onnxfile.read(source, OPS, **options)
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message
    return caught.value


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


KINDS = {
    "empty": (b"", "is empty"),
    "text": (b"hello, this is no model\n" * 9, "is a text file"),
    "utf8": ("αβγ, kein Modell\n".encode() * 400, "is a text file"),
    "onnx text format": (b'<ir_version: 8, opset_import: ["" : 18]>\nagraph (...)', "text file"),
    "json": (b'{"graph": {"node": []}}', "is a text file (JSON)"),
    "html": (b"<!DOCTYPE html><html>404</html>", "an HTML page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
    "torch": (zipped(m__data_DOT_pkl=b"x"), "is a PyTorch zip"),
    "npz": (zipped(a_DOT_npy=npy()), "is a NumPy archive"),
    "zip": (zipped(readme=b"x"), "is a zip archive"),
    "npy": (npy(), "is a NumPy array"),
    "pickle": (pickle.dumps({"a": 1}), "is a Python pickle"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(32), "gzip"),
    "ort": (b"\x10\0\0\0ORTM" + bytes(64), "onnxruntime's own .ort format"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite"),
    "zeros": (bytes(100), "is not a valid ONNX model"),
    "a message without a graph": (b"\x08\x07", "is not a valid ONNX model"),
}


@pytest.mark.parametrize(("data", "said"), KINDS.values(), ids=KINDS)
def test_what_is_no_model_is_named(data, said, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    error = refusal(path)
    assert said in error.message
    assert str(path) in error.message
    assert error.hint


def test_every_truncation_is_refused_and_most_are_named():
    data = simple()
    cuts = [refusal(data[:k]) for k in range(len(data))]
    assert sum("truncated" in error.message for error in cuts) > len(data) * 0.8


def test_flipped_bytes_never_raise_anything_else():
    data, random = simple(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(data)
        for at in random.integers(0, len(data), random.integers(1, 4)):
            damaged[at] = random.integers(0, 256)
        with contextlib.suppress(ModelError, UnsupportedError):
            onnxfile.read(bytes(damaged), OPS)


def test_a_model_is_read_from_path_and_bytes(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(simple())
    from_path, from_bytes = onnxfile.read(path, OPS), onnxfile.read(simple(), OPS, name="<stdin>")
    assert from_path.sha256 == from_bytes.sha256
    assert from_path.data == simple()
    assert (from_path.path, from_bytes.path) == (str(path), "<stdin>")
    assert (from_path.folder, from_bytes.folder) == (tmp_path, None)


def test_a_bare_name_is_read_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_bytes(simple())
    monkeypatch.chdir(tmp_path)
    assert onnxfile.read("m.onnx", OPS).folder == tmp_path


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "net.onnx").write_bytes(simple())
    error = refusal(tmp_path / "nte.onnx")
    assert "there is no such file" in error.message
    assert "net.onnx" in error.hint


def test_a_directory_is_refused(tmp_path):
    assert "is a directory" in refusal(tmp_path).message


@posix
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path):
    path = tmp_path / "m.onnx"
    os.mkfifo(path)
    errors: list[ModelError] = []
    thread = threading.Thread(target=lambda: errors.append(refusal(path)), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert "is a named pipe" in errors[0].message


@posix
def test_a_device_is_refused():
    assert "is a device" in refusal("/dev/zero").message


@posix
def test_a_link_to_a_model_is_followed_and_one_to_nothing_is_missing(tmp_path):
    (tmp_path / "m.onnx").write_bytes(simple())
    (tmp_path / "link.onnx").symlink_to("m.onnx")
    (tmp_path / "dangling.onnx").symlink_to("nowhere")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    assert onnxfile.read(tmp_path / "link.onnx", OPS).graph.nodes
    assert "no such file" in refusal(tmp_path / "dangling.onnx").message
    assert "cannot be read" in refusal(tmp_path / "loop.onnx").message


@posix
def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(simple())

    def deny(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    # Root may read anything, so the refusal is played.
    monkeypatch.setattr(os, "open", deny)
    assert "may not read" in refusal(path).message


def test_nul_and_escapes_in_the_path_are_shown_harmless():
    assert "NUL" in refusal("m\0.onnx").message
    assert "\x1b" not in refusal("\x1b[31mred.onnx").message


def test_the_size_cap_holds_for_paths_and_bytes(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(simple())
    small = onnxfile.Budget(file_bytes=10)
    assert "above the limit" in refusal(path, budget=small).message
    assert "above the limit" in refusal(simple(), budget=small).message


def test_a_file_format_from_the_future_is_refused():
    data = simple().replace(b"\x08\x0a", b"\x08\x63", 1)
    assert "file format 99" in refusal(data).message
