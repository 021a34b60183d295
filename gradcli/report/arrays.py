"""A derivative as text for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

SHOWN = 1000
"""Arrays with more elements are shown by their corners on a screen; a file has all of them."""


def derivative_text(
    blocks: Mapping[tuple[str, str], np.ndarray], *, width: int = 80, whole: bool = False
) -> str:
    """Each block under a sentence that says what it is.

    Args:
        blocks: Arrays by (of, wrt); either name is empty where the operator has no such axis.
        width: Columns of the screen.
        whole: Whether to write every element of large arrays too.
    """
    return "\n".join(_block(of, wrt, array, width, whole) for (of, wrt), array in blocks.items())


def _block(of: str, wrt: str, array: np.ndarray, width: int, whole: bool) -> str:
    names = [f"of {of}"] * bool(of) + [f"with respect to {wrt}"] * bool(wrt)
    cut = array.size > SHOWN and not whole
    note = f", {array.size:,} elements: -o FILE writes all of them" if cut else ""
    body = np.array2string(
        array,
        max_line_width=max(width, 40),
        threshold=SHOWN if cut else sys.maxsize,
        floatmode="unique",
        separator=", ",
    )
    return f"derivative {' '.join(names)} {list(array.shape)} {array.dtype}{note}\n{body}\n"
