"""Arrays in, results out: nothing is executed, over-read or left half-written.

Files come from strangers. A .npy header can claim 2**40 elements and a .npz of a megabyte can
inflate to gigabytes, so headers are read first, and what they claim is held against what the model
takes before any data are.
"""

from __future__ import annotations

import io
import math
import os
import re
import secrets
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import click
import numpy as np
from numpy.lib import format as npy

from gradcli.cli.images import KINDS, Recipe, open_image
from gradcli.cli.stored import MAX_TEXT, Stored, here
from gradcli.cli.texts import read_csv, read_json
from gradcli.errors import InputError, OutputError, UsageError
from gradcli.onnxfile import printable, read_tensor

MAX_BYTES = 1 << 32
"""Of one compressed or piped array; a plain .npy file is mapped, not read, and may be larger."""

MAX_MEMBERS = 10_000
MAX_HEADER = 10_000

_NPY = b"\x93NUMPY"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")

WANTED = (
    "give a .npy file, or a .npz file with an array for each name (numpy.save, numpy.savez); or a"
    " .csv, .json, .pb, .png or .jpg"
)


# ---- stdin ---------------------------------------------------------------------------------------


class Stdin:
    """Standard input, binary, which only one option may read."""

    def __init__(self) -> None:
        self._reader = ""

    def read(self, who: str) -> bytes:
        """All of it.

        Args:
            who: The option that asks, for messages.

        Raises:
            UsageError: When another option has read it.
            InputError: When there is too much of it.
        """
        if self._reader:
            raise UsageError(f"both {self._reader} and {who} are '-', and there is one stdin")
        self._reader = who
        if sys.stdin is None:
            raise InputError(f"{who}: there is no stdin", "give a file")
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(
                f"{who}: more than {MAX_BYTES:,} bytes on stdin", "write them to a file"
            )
        return data


# ---- arrays --------------------------------------------------------------------------------------


def open_arrays(
    path: str, option: str, stdin: Stdin, image: Recipe | None = None
) -> dict[str, Stored]:
    """What a file of arrays holds, by name; the empty name where it gives none.

    Args:
        path: The file; `-` for standard input. What it is, is seen from its content; text and
            protobuf, which begin with anything, from its suffix.
        option: The option it was given to, for messages.
        stdin: Standard input.
        image: How pixels become numbers.

    Raises:
        InputError: When it cannot be read or holds no plain arrays.
    """
    where = f"{option} {printable(path)}"
    source: Path | bytes
    if path == "-":
        source = stdin.read(option)
        head = source[:8]
    else:
        source = Path(path)
        head = _head(source, where)
    if head.startswith(_NPY):
        return {"": _stored_npy(source, where)}
    if head.startswith(_ZIP):
        return _stored_npz(source, where)
    if kind := next((kind for magic, kind in KINDS.items() if head.startswith(magic)), ""):
        return {"": open_image(source, where, kind, image)}
    suffix = source.suffix.lower() if isinstance(source, Path) else _suffix_of(head)
    if head and suffix in (".csv", ".tsv", ".json", ".pb"):
        return _stored_text(_whole(source, where), suffix, where)
    raise InputError(f"{where}: is not a .npy or .npz file", _hint(source, head))


def _suffix_of(head: bytes) -> str:
    """What bytes without a name look like: JSON, numbers in text, or neither."""
    start = head.lstrip()[:1]
    if start in (b"[", b"{"):
        return ".json"
    return ".csv" if head.isascii() and re.match(rb"[\w.,;+\-\s]+$", head) else ""


def _whole(source: Path | bytes, where: str) -> bytes:
    """All of a file that is parsed as a whole."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > MAX_TEXT:
        raise InputError(
            f"{where}: {size:,} bytes are too many for this kind of file, which may have"
            f" {MAX_TEXT:,}",
            "save it as a .npy file, which may be of any size (numpy.save)",
        )
    return source if isinstance(source, bytes) else source.read_bytes()


def _stored_text(data: bytes, suffix: str, where: str) -> dict[str, Stored]:
    if suffix == ".json":
        return read_json(data, where)
    if suffix == ".pb":
        name, array = read_tensor(data, where)
        return {"": here(where, array, name=name)}
    return {"": read_csv(data, where)}


def _hint(source: Path | bytes, head: bytes) -> str:
    if not head:
        return "it is empty; save it again"
    if isinstance(source, Path) and source.suffix == ".onnx":
        return f"this looks like a model, which goes first: gradcli ... MODEL; {WANTED}"
    return WANTED


def _head(path: Path, where: str) -> bytes:
    try:
        # Before opening: a pipe would be waited for, and opening a device can act on it.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{where}: is a directory", "name the .npy or .npz file inside it")
        if not stat.S_ISREG(mode):
            raise InputError(
                f"{where}: is not a regular file", "save it to one, or use '-' for stdin"
            )
        with path.open("rb") as file:
            return file.read(8)
    except FileNotFoundError as error:
        raise InputError(f"{where}: there is no such file", "check the path") from error
    except PermissionError as error:
        raise InputError(
            f"{where}: this user may not read the file", "change its permissions"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read ({error})") from error


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    start: int

    @property
    def nbytes(self) -> int:
        """In Python's integers: the header may claim any size."""
        return math.prod(self.shape) * self.dtype.itemsize


def _header(file: IO[bytes], where: str) -> _Header:
    try:
        version = npy.read_magic(file)
        # Version 3 differs from 2 in the encoding of field names, which no plain array has.
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        if version not in ((1, 0), (2, 0)):
            raise ValueError(version)
        shape, fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except (ValueError, EOFError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputError(f"{where}: the array's header is malformed", "save it again") from error
    if dtype.hasobject:
        raise InputError(
            f"{where}: holds pickled Python objects, which could run any code when read",
            "save an array of numbers: numpy.save(file, array, allow_pickle=False)",
        )
    if dtype.kind not in "biufcVSU" or dtype.fields or dtype.subdtype:
        raise InputError(f"{where}: holds {dtype}, not numbers", WANTED)
    if any(d < 0 for d in shape):
        raise InputError(f"{where}: the array's header is malformed", "save it again")
    return _Header(shape, fortran, dtype, file.tell())


def _stored_npy(source: Path | bytes, where: str) -> Stored:
    if isinstance(source, bytes):
        header = _header(io.BytesIO(source), where)
        size = len(source)
    else:
        with source.open("rb") as file:
            header = _header(file, where)
            size = os.fstat(file.fileno()).st_size
    if header.nbytes > size - header.start:
        raise InputError(
            f"{where}: is truncated: its header promises {header.nbytes:,} bytes of numbers, and"
            f" {size - header.start:,} follow",
            "copy or save it again",
        )

    def read() -> np.ndarray:
        order: Literal["F", "C"] = "F" if header.fortran else "C"
        if not header.nbytes:
            return np.empty(header.shape, header.dtype)
        if isinstance(source, bytes):
            flat = np.frombuffer(source, header.dtype, math.prod(header.shape), header.start)
            return flat.reshape(header.shape, order=order)
        return np.memmap(source, header.dtype, "r", header.start, header.shape, order)

    return Stored(where, header.shape, header.dtype, read)


def _stored_npz(source: Path | bytes, where: str) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    with _archive(source, where) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise InputError(f"{where}: holds {len(members):,} files", WANTED)
        for member in members:
            name = member.filename.removesuffix(".npy")
            inside = f"{where}: {printable(name)!r}"
            if name in found:
                raise InputError(f"{inside} is there twice", "save the archive again")
            with archive.open(member) as file:
                if file.read(len(_NPY)) != _NPY:
                    raise InputError(f"{inside} is not an array", WANTED)
            with archive.open(member) as file:
                header = _header(file, inside)
            if header.nbytes + header.start != member.file_size:
                raise InputError(
                    f"{inside}: its header promises {header.nbytes:,} bytes of numbers, and the"
                    f" archive says {max(member.file_size - header.start, 0):,}",
                    "save the archive again",
                )
            if header.nbytes > MAX_BYTES:
                raise InputError(
                    f"{inside}: {header.nbytes:,} bytes of numbers are too many for an archive",
                    "save it as a .npy file, which is not read into memory as a whole",
                )
            found[name] = Stored(
                inside, header.shape, header.dtype, _member_reader(source, where, member, header)
            )
    if not found:
        raise InputError(f"{where}: holds no arrays", WANTED)
    return found


def _member_reader(
    source: Path | bytes, where: str, member: zipfile.ZipInfo, header: _Header
) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        with _archive(source, where) as archive, archive.open(member) as file:
            file.read(header.start)
            data = file.read(header.nbytes)
        if len(data) != header.nbytes:
            raise InputError(f"{where}: is truncated", "copy or save it again")
        flat = np.frombuffer(data, header.dtype) if header.nbytes else np.empty(0, header.dtype)
        return flat.reshape(header.shape, order="F" if header.fortran else "C")

    return read


@contextmanager
def _archive(source: Path | bytes, where: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(
            io.BytesIO(source) if isinstance(source, bytes) else source
        ) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        raise InputError(
            f"{where}: the archive is damaged or of an unknown kind", "save it again"
        ) from error


# ---- results -------------------------------------------------------------------------------------


def npy_bytes(array: np.ndarray) -> bytes:
    """One array as a .npy file."""
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as a .npz file: the same bytes for the same arrays, under any names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # numpy.savez takes names as keyword arguments, so that some of them clash with its own.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy_bytes(array))
    return file.getvalue()


class Output:
    """A file that appears whole or not at all, found writable before the work begins."""

    def __init__(self, target: Path | int, temporary: Path | None, option: str = "-o") -> None:
        self._target = target
        self._temporary = temporary
        self._option = option

    @property
    def is_replaced(self) -> bool:
        """Whether a second `write` puts something else in its place; a device gets it besides."""
        return self._temporary is not None

    def write(self, data: bytes) -> None:
        """Write it all, and put it in place.

        Raises:
            OutputError: When the disk is full, or the like.
        """
        try:
            if self._temporary is None:
                # A descriptor is not ours to close; what it has got already stays.
                with open(self._target, "wb", closefd=isinstance(self._target, Path)) as file:
                    file.write(data)
            else:
                self._temporary.write_bytes(data)
                self._temporary.replace(str(self._target))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _unwritable(Path(str(self._target)), error, self._option) from error


@contextmanager
def output(path: str, option: str = "-o") -> Iterator[Output]:
    """Open a result's place; without a `write`, nothing changes there.

    Args:
        path: Where it is.
        option: What named it, for messages.

    Raises:
        OutputError: When nothing can be written there.
    """
    given = Path(path)
    if descriptor := _DESCRIPTORS.fullmatch(path):
        number = descriptor["number"]
        # Opened by its name, a file that stdout was redirected to would be begun anew.
        yield Output(int(number) if number else 1 + (path == "/dev/stderr"), None, option)
        return
    if given.is_dir():
        raise OutputError(f"{option} {printable(path)}: is a directory", "name a file")
    if given.exists() and not given.is_file():
        # A device or a pipe: there is nothing to put in its place, and /dev/stdout links to a name
        # that no file has.
        yield Output(given, None, option)
        return
    if given.exists() and any(_same(given, read) for read in _read()):
        raise OutputError(
            f"{option} {printable(path)}: is what this command reads", "choose another name"
        )
    # A link stays a link, to the new content.
    target = Path(os.path.realpath(path)) if given.is_symlink() else given
    if target.exists() and not os.access(target, os.W_OK):
        raise OutputError(f"{option} {printable(path)}: this user may not write the file")
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.open("xb").close()
    except (OSError, ValueError) as error:
        raise _unwritable(given, error, option) from error
    try:
        yield Output(target, temporary, option)
    finally:
        temporary.unlink(missing_ok=True)


_DESCRIPTORS = re.compile(r"/dev/(?:stdout|stderr|fd/(?P<number>\d{1,9}))")
"""Names of what is open already."""

_READ = ("model", "other", "inputs", "points", "tangent", "cotangent")
"""Parameters of commands that name files to read, some of them behind NAME=."""


def _read() -> Iterator[str]:
    """What the command that runs was given to read."""
    context = click.get_current_context(silent=True)
    params = context.params if context else {}
    for parameter in _READ:
        given = params.get(parameter) or ()
        for text in (given,) if isinstance(given, str) else given:
            yield text
            yield text.partition("=")[2]


def _same(file: Path, other: str) -> bool:
    try:
        return bool(other) and file.samefile(other)
    except (OSError, ValueError):
        return False


def _unwritable(path: Path, error: Exception, option: str) -> OutputError:
    shown = f"{option} {printable(str(path))}"
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
        folder = printable(str(path.parent))
        return OutputError(f"{shown}: there is no directory {folder}", "make it first")
    return OutputError(f"{shown}: cannot be written ({reason})", "choose another place")
