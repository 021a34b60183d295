"""An array of which only so much was read as tells what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gradcli.graph import Value

MAX_TEXT = 1 << 25
"""Bytes of a file that is read as text: 32 MiB, a few seconds of reading."""


@dataclass(frozen=True)
class Stored:
    """An array that is not read yet, or is cheap to have.

    Attributes:
        where: The option, the file and the name within it, printable.
        shape: What the header says.
        dtype: Likewise.
        read: Reads the data.
        fit: Makes it fit an input of the model, where its file does not say how it is shaped (rows
            of a table, pixels of an image); None where it does.
        name: The name that the file itself gives it.
        columns: Of a table with a header: their names.
        lines: Of a table: the line of the file that each row stands in.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    fit: Callable[[Value], Stored] | None = None
    name: str = ""
    columns: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()

    def fitted(self, value: Value) -> Stored:
        """As an input of the model takes it, as far as that can be."""
        return self if self.fit is None else self.fit(value)


def here(where: str, array: np.ndarray, **more: object) -> Stored:
    """An array that is in memory already."""
    return Stored(where, array.shape, array.dtype, lambda: array, **more)  # type: ignore[arg-type] # of Stored
