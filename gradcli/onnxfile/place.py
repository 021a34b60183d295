"""Constants that do not fit into a model's own file: in one beside it, which appears with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from gradcli.errors import OutputError
from gradcli.graph import Graph, Value
from gradcli.onnxfile.names import printable

SUFFIX = ".data"
"""Of the file beside a model, after the model's whole name."""

MOST = 2**31 - 2**20
"""Bytes of constants in one file: protobuf's 2 GiB, less what else there is."""

_LEAST = 1024
_PAGE = 4096
"""Where each constant begins: at a multiple of what memory is mapped in."""


class Place:
    """Where a model will be written, and with it the file of its constants if one is needed.

    That file is filled in a folder of its own, next to the model, under the name that it will
    have. The model can be read and run there, and nothing is seen of either before `appear`.

    Args:
        path: Where the model will be.

    Attributes:
        folder: What the model refers to lies there, or below.
        size: Bytes of constants in the file beside it; 0 where none is needed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.folder = self.path.parent
        self.size = 0
        self._hidden: Path | None = None
        self._new = False

    @property
    def beside(self) -> Path:
        """The file of constants."""
        return beside(self.path)

    @property
    def filled(self) -> Path:
        """The folder in which the constants lie until they appear."""
        return self._hidden or self.folder

    def fill(self, graph: Graph, away: Collection[Value]) -> dict[Value, dict[str, str]]:
        """Write a graph's constants beside it, where they are too many for one file.

        Args:
            graph: What the model is written of.
            away: Those of its constants that lie elsewhere as it is.

        Returns:
            For each constant that lies beside, ONNX's words for where; empty where all fit.

        Raises:
            OutputError: When they cannot be written; nothing is left behind then.
        """
        self.size = 0
        if sum(a.nbytes for v, a in graph.constants.items() if v not in away) < MOST:
            return {}
        try:
            if self._hidden is None:
                self._hidden = Path(
                    tempfile.mkdtemp(prefix=f".{self.path.name[:100]}.", dir=self.folder)
                )
            with (self._hidden / self.beside.name).open("wb") as file:
                large = {
                    v: a
                    for v, a in graph.constants.items()
                    if v.dtype.is_float and a.nbytes > _LEAST
                }
                entries = {v: self._append(file, a) for v, a in large.items()}
                self.size = file.tell()
        except OSError as error:
            raise self._unwritable(error) from error
        return entries

    def _append(self, file: IO[bytes], array: np.ndarray) -> dict[str, str]:
        file.write(bytes(-file.tell() % _PAGE))
        start = file.tell()
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        where = {"location": self.beside.name, "offset": start, "length": array.nbytes}
        return {key: str(said) for key, said in where.items()}

    def appear(self) -> None:
        """Put the file of constants in its place, if there is one.

        Raises:
            OutputError: When that cannot be done.
        """
        if self._hidden is None or not self.size:
            return
        try:
            self._new = not self.beside.exists()
            (self._hidden / self.beside.name).replace(self.beside)
        except OSError as error:
            self._new = False
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"{printable(str(self.beside))}: cannot be written ({error.strerror or error})",
            "the constants are too large for one file, and lie in that one beside it: choose"
            " another place, with room for them",
        )

    def __enter__(self) -> Self:
        """Nothing is done yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave nothing behind; of constants whose model did not follow them, nothing either."""
        if self._hidden is not None:
            shutil.rmtree(self._hidden, ignore_errors=True)
        if kind is not None and self._new:
            self.beside.unlink(missing_ok=True)


def beside(path: str | os.PathLike[str]) -> Path:
    """The file of constants that may lie beside a model."""
    return Path(f"{os.fspath(path)}{SUFFIX}")
