"""Tensors whose data lies in a file beside the model: read by us, never by a library.

A model names such a file freely, so the name is an attack: it may point anywhere, through links,
at pipes and devices, or at bytes that are not there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from gradcli.errors import ModelError
from gradcli.onnxfile.names import printable
from gradcli.onnxfile.source import regular

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_FORBIDDEN = ("\\", ":", "\0")
"""Separators, drives and streams of Windows, and the end of a C string."""


class Folder:
    """The folder that a model's external data must lie in; each file in it is mapped once.

    Args:
        base: That folder; None when the model came as bytes and has none.
        model: The model's display name, for refusals.
    """

    def __init__(self, base: Path | None, model: str) -> None:
        self.base = base
        self.model = model
        self._maps: dict[str, np.ndarray] = {}

    def map(self, entries: Mapping[str, str], expected: int, tensor: str) -> np.ndarray:
        """The bytes of one tensor, uint8[expected], read-only and not loaded.

        Args:
            entries: The tensor's external_data, by key.
            expected: Number of bytes that its dtype and dims need.
            tensor: Its name, for refusals.

        Raises:
            ModelError: When the location leaves the folder or is no plain file of its own, or the
                offset and length do not fit the file and the tensor.
        """
        where = f"{self.model}: external data of tensor {tensor!r}"
        if unknown := sorted(entries.keys() - _KEYS):
            raise ModelError(
                f"{where} has unknown keys {', '.join(map(printable, unknown[:3]))}",
                "Save the model again with onnx.save_model.",
            )
        if self.base is None:
            raise ModelError(
                f"{where} lies in another file, but the model was given as bytes",
                "Give the model's path instead.",
            )
        location = entries.get("location", "")
        content = self._maps.get(location)
        if content is None:
            content = self._maps[location] = _open(self.base, location, where)
        offset = _number(entries, "offset", 0, where)
        length = _number(entries, "length", expected, where)
        if length != expected:
            raise ModelError(
                f"{where} claims {length:,} bytes, but its shape needs {expected:,}",
                "Save or download the model again.",
            )
        if offset + length > content.size:
            raise ModelError(
                f"{where} ends at byte {offset + length:,} of {printable(location)!r}, which has"
                f" only {content.size:,}",
                "The data file is truncated, or belongs to another model; download it again.",
            )
        return content[offset : offset + length]


def _number(entries: Mapping[str, str], key: str, default: int, where: str) -> int:
    text = entries.get(key)
    if text is None:
        return default
    # int() would take signs, underscores, blanks and other scripts' digits; 2^63 has 19 digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ModelError(
            f"{where} has {key} {printable(text)!r}, which is no byte count",
            "Save the model again with onnx.save_model.",
        )
    return int(text)


def _open(base: Path, location: str, where: str) -> np.ndarray:
    shown = printable(location)
    # Without what changes nothing, such as the "./" that some exporters write; ".." stays in it.
    parts = PurePosixPath(location).parts
    leaves = location.startswith("/") or location.endswith("/") or not parts or ".." in parts
    if leaves or any(c in location for c in _FORBIDDEN):
        raise ModelError(
            f"{where} is said to lie at {shown!r}, which is not a plain path below the model's"
            " folder",
            "Do not trust this file; external data must lie beside its model.",
        )
    root = os.path.realpath(base)
    path = os.path.join(root, *parts)  # noqa: PTH118 # pathlib would normalise what is checked
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        before = os.lstat(path)
        _check(before, where, shown)
        if os.path.realpath(path) != path:
            raise ModelError(
                f"{where} lies at {shown!r}, behind a symbolic link",
                "Replace the link by the file or folder itself.",
            )
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            _check(status, where, shown)
            if (status.st_dev, status.st_ino) != (before.st_dev, before.st_ino):
                raise ModelError(f"{where}: {shown!r} was exchanged while it was opened")
            if status.st_size == 0:
                return np.empty(0, np.uint8)
            # A plain array over the map: the mapping lives as long as any tensor in it.
            return np.asarray(np.memmap(file, np.uint8, "r"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{where} should lie in {shown!r} beside the model, and does not",
            "Put the data file into the model's folder.",
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{where}: {shown!r} cannot be read ({reason})") from error


def _check(status: os.stat_result, where: str, shown: str) -> None:
    regular(status, f"{where}: {shown!r}")
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise ModelError(
            f"{where}: {shown!r} is a hard link, which may lead to a file elsewhere",
            "Replace it by a copy of its own.",
        )
