"""The file itself: opened without surprises, and recognised when it is no ONNX model."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from gradcli.errors import ModelError
from gradcli.onnxfile.names import printable

if TYPE_CHECKING:
    import onnx

EXPECTED = "Give a model in ONNX's binary protobuf format, as exporters write it."

_SIGNATURES = (
    (b"\x93NUMPY", "is a NumPy array (.npy)", "Pass it with --input, and a model as MODEL."),
    (b"\x89HDF", "is an HDF5 file, as Keras saves it", "Export the model to ONNX with tf2onnx."),
    (b"GGUF", "is a GGUF file", EXPECTED),
    (b"\x1f\x8b", "is gzip-compressed", "Decompress it first."),
    (b"BZh", "is bzip2-compressed", "Decompress it first."),
    (b"\xfd7zXZ", "is xz-compressed", "Decompress it first."),
    (b"\x28\xb5\x2f\xfd", "is zstandard-compressed", "Decompress it first."),
    (b"%PDF", "is a PDF document", EXPECTED),
    (b"\x89PNG", "is a PNG image", EXPECTED),
)


def read_bytes(path: str, limit: int) -> bytes:
    """The content of a regular file.

    Args:
        path: Where it is; a symbolic link to a regular file is followed.
        limit: The most bytes that are read.

    Raises:
        ModelError: When it is missing, unreadable, too large, or no regular file. Opening never
            blocks: a pipe is refused, not waited for.
    """
    shown = printable(path)
    if "\0" in path:
        raise ModelError(f"{shown}: no file name can hold a NUL character")
    # Without O_NONBLOCK, opening a FIFO waits for a writer that may never come.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        # Before opening, since opening a device can act on it, and Windows opens no directory.
        regular(Path(path).stat(), shown)
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            regular(status, shown)
            _check_size(status.st_size, limit, shown)
            # One byte more tells whether it grew; asking for `limit` would reserve that much.
            data = file.read(status.st_size + 1)
    except FileNotFoundError as error:
        raise ModelError(
            f"{shown}: there is no such file", f"Check the path. {_near(path)}".rstrip()
        ) from error
    except PermissionError as error:
        raise ModelError(
            f"{shown}: this user may not read the file", "Change its permissions."
        ) from error
    except OSError as error:
        raise ModelError(f"{shown}: cannot be read ({error.strerror or error})") from error
    _check_size(len(data), limit, shown)
    return data


def _check_size(size: int, limit: int, shown: str) -> None:
    if size > limit:
        raise ModelError(
            f"{shown}: is {size:,} bytes long, above the limit of {limit:,}",
            "Save the weights as external data beside the model (onnx.save_model with"
            " save_as_external_data=True).",
        )


def _near(path: str) -> str:
    try:
        folder = Path(path).parent
        near = sorted(p.name for p in folder.iterdir() if p.suffix == ".onnx")[:3]
    except OSError:
        return ""
    return f"That folder has {', '.join(map(printable, near))}." if near else ""


def regular(status: os.stat_result, shown: str) -> None:
    """Refuse what is no regular file.

    Raises:
        ModelError: Naming what it is instead.
    """
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return
    kinds = (
        (stat.S_ISDIR, "is a directory", "Name the .onnx file inside it."),
        (stat.S_ISFIFO, "is a named pipe", "Save the model to a regular file first."),
        (stat.S_ISSOCK, "is a socket", "Save the model to a regular file first."),
        (stat.S_ISLNK, "is a symbolic link", "Replace the link by the file itself."),
        (stat.S_ISCHR, "is a device", "Name a regular file."),
        (stat.S_ISBLK, "is a device", "Name a regular file."),
    )
    what, hint = next(
        ((what, hint) for test, what, hint in kinds if test(mode)),
        ("is not a regular file", "Name a regular file."),
    )
    raise ModelError(f"{shown}: {what}", hint)


def parse(data: bytes, shown: str) -> onnx.ModelProto:
    """The protobuf message in these bytes; nothing beside them is read.

    Raises:
        ModelError: When they are no ONNX model, saying what they look like instead.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships none

    if not data:
        raise ModelError(f"{shown}: is empty", "Save or download the model again.")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        what, hint = _recognise(data)
        raise ModelError(f"{shown}: {what}", hint) from error
    # Many byte strings happen to parse, as a message of nothing but unknown fields.
    if not model.HasField("graph") or not model.ir_version:
        what, hint = _recognise(data)
        raise ModelError(f"{shown}: {what}", hint)
    return model


def _recognise(data: bytes) -> tuple[str, str]:
    for signature, what, hint in _SIGNATURES:
        if data.startswith(signature):
            return what, hint
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _recognise_zip(data)
    if data[4:8] == b"ORTM":
        return "is in onnxruntime's own .ort format", "Use the .onnx file it was made from."
    if data[4:8] == b"TFL3":
        return "is a TensorFlow Lite model", "Convert it to ONNX with tf2onnx."
    if data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05":
        return "is a Python pickle", "Load it in Python and export the model to ONNX."
    if _is_text(data[:4096]):
        return _recognise_text(data[:4096])
    if (missing := _bytes_missing(data)) > 0:
        return (
            f"is truncated: at least {missing:,} bytes are missing at its end",
            "Download or copy it again.",
        )
    return "is not a valid ONNX model", EXPECTED


def _recognise_zip(data: bytes) -> tuple[str, str]:
    names = data[:4096] + data[-65536:]
    if b"data.pkl" in names or b"constants.pkl" in names:
        return "is a PyTorch zip", "Load it in PyTorch and export with torch.onnx.export."
    if b".npy" in names:
        return "is a NumPy archive (.npz)", "Pass it with --input, and a model as MODEL."
    if b"config.json" in names and b"weights.h5" in names:
        return "is a Keras archive", "Export the model to ONNX first."
    return "is a zip archive", "Unpack it, and name the .onnx file inside."


def _recognise_text(head: bytes) -> tuple[str, str]:
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model itself", "Run `git lfs pull`."
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] in (b"{", b"["):
        return "is a text file (JSON)", EXPECTED
    if start[:9].lower() in (b"<!doctype", b"<html>") or start[:5].lower() == b"<html":
        return "is a text file (an HTML page)", "Download the model itself."
    return "is a text file", EXPECTED


def _is_text(head: bytes) -> bool:
    try:
        # A character may be cut at the end of what was looked at.
        decoded = head.decode("utf-8", "strict" if len(head) < 4096 else "ignore")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\n\r\f\ufeff" for c in decoded)


def _bytes_missing(data: bytes) -> int:
    """How many bytes the outermost message lacks at least; 0 when that is not what is wrong."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        if tag is None:
            return 1
        kind = tag & 7
        if tag >> 3 == 0 or kind in (3, 4, 6, 7):
            return 0
        length: int | None = {1: 8, 5: 4}.get(kind, 0)
        if kind == 0:
            skipped, at = _varint(data, at)
            length = 0 if skipped is not None else None
        elif kind == 2:
            length, at = _varint(data, at)
        if length is None:
            return 1
        at += length
    return at - end


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return None, at
