"""Numbers in text: CSV, of which each row is a point, and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gradcli.cli.stored import Stored, here
from gradcli.errors import InputError
from gradcli.onnxfile import printable

if TYPE_CHECKING:
    from gradcli.graph import Value

_WHOLE = re.compile(r"[+-]?\d{1,18}")
_SHOWN = 40
"""Characters of a cell that a message repeats."""


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: is not UTF-8 text (byte {error.start:,})", "save it as UTF-8"
        ) from error


# ---- CSV -----------------------------------------------------------------------------------------


def read_csv(data: bytes, where: str) -> Stored:
    """A table of numbers [rows, columns]; the first line may be a header.

    Cells are parted by commas, semicolons or tabs, whichever the first line has most of.

    Raises:
        InputError: When a cell is no finite number or a row is longer or shorter than the others;
            it names the line and the column.
    """
    text = _text(data, where)
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count), strict=True)
    header: tuple[str, ...] = ()
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not rows and not header and _is_header(cells):
                header = tuple(cell.strip() for cell in cells)
                continue
            width = len(rows[0]) if rows else len(header) or len(cells)
            if len(cells) != width:
                raise InputError(
                    f"{where}: line {reader.line_num} has {len(cells)} values, and the lines before"
                    f" it have {width}",
                    "each row is a point: give each as many values",
                )
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise InputError(
            f"{where}: line {reader.line_num} is no CSV ({error})", "save it again"
        ) from error
    if not rows:
        raise InputError(f"{where}: holds no numbers", "each row is a point, of numbers")
    return _table(where, _numbers(rows, lines, header, where), header, tuple(lines))


def _is_header(cells: Sequence[str]) -> bool:
    """Whether no cell is a number: one bad number among good ones is no header."""
    return not any(_is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(
    rows: Sequence[Sequence[str]], lines: Sequence[int], header: Sequence[str], where: str
) -> np.ndarray:
    """Whole numbers where all are whole, else floats."""
    if all(_WHOLE.fullmatch(cell.strip()) for row in rows for cell in row):
        return np.array([[int(cell) for cell in row] for row in rows], np.int64)

    def number(cell: str, line: int, k: int) -> float:
        try:
            found = float(cell)
        except ValueError:
            found = math.nan
        if not math.isfinite(found) or "_" in cell:
            column = f"column {k + 1}" + (f" ({printable(header[k])})" if header else "")
            what = printable(cell.strip()[:_SHOWN])
            said = f"{what!r} is no finite number" if what else "there is no number"
            raise InputError(
                f"{where}: line {line}, {column}: {said}",
                "correct that cell, or leave out the row: a derivative there means nothing",
            )
        return found

    pairs = zip(rows, lines, strict=True)
    return np.array(
        [[number(cell, line, k) for k, cell in enumerate(row)] for row, line in pairs], np.float64
    )


def _table(
    where: str, array: np.ndarray, header: tuple[str, ...], lines: tuple[int, ...]
) -> Stored:
    return here(where, array, fit=_rows_for(where, array), columns=header, lines=lines)


def _rows_for(where: str, array: np.ndarray) -> Callable[[Value], Stored]:
    """Rows as a batch, or the only row as the whole input, whatever the input's rank."""

    def fit(value: Value) -> Stored:
        shape = value.shape
        if shape is None or len(shape) == 0:
            return here(where, array.reshape(()) if shape == () and array.size == 1 else array)
        rows = len(array)
        tail = [1 if isinstance(d, str) else d for d in shape[1:]]
        if shape[0] in (rows, *([shape[0]] if isinstance(shape[0], str) else [])):
            inner = array.size // rows
            if math.prod(tail) == inner and len(shape) != array.ndim:
                return here(where, array.reshape((rows, *tail)))
        whole = [1 if isinstance(d, str) else d for d in shape]
        if rows == 1 and math.prod(whole) == array.size and len(shape) != array.ndim:
            return here(where, array.reshape(whole))
        return here(where, array)

    return fit


def by_column(table: Stored, inputs: Sequence[str]) -> dict[str, Stored]:
    """A table whose columns are called as the inputs: each column by itself, [rows, 1]."""
    array = table.read()
    made = {}
    for name in inputs:
        column = array[:, [table.columns.index(name)]]
        where = f"{table.where}: column {printable(name)!r}"
        made[name] = _table(where, column, (), table.lines)
    return made


# ---- JSON ----------------------------------------------------------------------------------------


def read_json(data: bytes, where: str) -> dict[str, Stored]:
    """Nested lists of numbers, or an object of those by input name.

    Raises:
        InputError: When it is no JSON, or its lists are of several lengths or hold what is no
            finite number; it names the place.
    """
    try:
        found = json.loads(_text(data, where), parse_constant=_refuse_constant)
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{where}: is nested too deeply", "give lists of numbers") from error
    except ValueError as error:
        raise InputError(
            f"{where}: is no JSON that can be taken ({error})", "correct it"
        ) from error
    if not isinstance(found, Mapping):
        return {"": _nested(found, where)}
    if not found:
        raise InputError(f"{where}: holds no arrays", "give lists by input name")
    return {name: _nested(x, f"{where}: {printable(name)!r}") for name, x in found.items()}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no finite number")


def _nested(found: Any, where: str) -> Stored:
    shape: list[int] = []
    inner = found
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    flat: list[Any] = []
    _flatten(found, tuple(shape), (), flat, where)
    try:
        array = np.array(flat or [], np.float64 if not flat else None).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise InputError(f"{where}: holds what is no array of numbers", "correct it") from error
    if array.dtype.kind not in "bif":
        raise InputError(f"{where}: holds {array.dtype}, not numbers", "give lists of numbers")
    return here(where, array)


def _flatten(
    x: Any, shape: tuple[int, ...], place: tuple[int, ...], flat: list[Any], where: str
) -> None:
    at = f" at [{', '.join(map(str, place))}]" if place else ""
    if not shape:
        if not isinstance(x, int | float):
            kinds = {str: "text", list: "a list", dict: "an object", type(None): "null"}
            what = kinds.get(type(x), "something")
            raise InputError(f"{where}: there is {what}{at}, not a number", "give lists of numbers")
        if isinstance(x, float) and not math.isfinite(x):
            raise InputError(f"{where}: the number{at} is not finite", "correct it")
        flat.append(x)
        return
    if not isinstance(x, list) or len(x) != shape[0]:
        many = f"{len(x)} entries" if isinstance(x, list) else "no list"
        raise InputError(
            f"{where}: is ragged: {many}{at or ' at its top'}, where the first have {shape[0]}",
            "make all lists of one depth equally long",
        )
    for k, inner in enumerate(x):
        _flatten(inner, shape[1:], (*place, k), flat, where)
