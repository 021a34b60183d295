"""Formulas to be read: as text within 80 columns, or as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gradcli.formulas.closed import Array, Signature, index, signature, write_out
from gradcli.formulas.equations import Equation, System, system
from gradcli.formulas.layout import WIDTH, filled
from gradcli.formulas.names import remark
from gradcli.formulas.notation import Latex, Notation, latex_name
from gradcli.problem import Problem

if TYPE_CHECKING:
    from gradcli.engines.symbolic.closed import Closed, Line

MOST_TERMS = 4
"""Terms of a sum in LaTeX between two breaks of the line."""


# ---- number by number ----------------------------------------------------------------------------


def expanded(problem: Problem, language: str, source: str) -> str:
    """The closed form of the outputs and of their derivatives.

    Args:
        problem: What is differentiated.
        language: `text` or `latex`.
        source: What it is made from.

    Raises:
        CannotError: When the network is too large, or has no closed form.
    """
    sign = signature(problem)
    name = latex_name if language == "latex" else str

    def place(array: Array, k: int) -> str:
        at = ",".join(map(str, index(k, array.shape)))
        if array.size == 1:
            return ""
        return f"_{{{at}}}" if language == "latex" else f"[{at}]"

    def element(array: Array, k: int) -> str:
        # A name with a number below it takes no second subscript.
        inner = f"{{{name(array.name)}}}" if language == "latex" else array.name
        return f"{inner}{place(array, k)}" if array.size > 1 else name(array.name)

    def slope(_block: Array, y: Array, x: Array, i: int, j: int) -> str:
        if language == "latex":
            return rf"\frac{{\partial {element(y, i)}}}{{\partial {element(x, j)}}}"
        return f"d{element(y, i)}/d{element(x, j)}"

    found = write_out(problem, language, sign, element, slope, stem=sign.stem, inline=True)
    said = [*_called(sign)]
    if language == "latex":
        return _latex_page(source, said, [_latex_lines(found)])
    return _text_page(source, said, found)


def _called(sign: Signature) -> list[str]:
    """Where a tensor has another name here than in the file."""
    return [
        f"{a.name} is {remark(a.label)}" for a in (*sign.inputs, *sign.outputs) if a.name != a.label
    ]


def _text_page(source: str, said: Sequence[str], found: Closed) -> str:
    lines = [*filled(source.split(" "), WIDTH), *said]
    for block in (found.steps, found.outputs, found.derivatives):
        if block:
            lines.append("")
            lines += [part for line in block for part in _text_line(line)]
    return "\n".join(lines) + "\n"


def _text_line(line: Line) -> list[str]:
    first, *rest = line.terms
    indent = " " * min(len(line.target) + 1, 12)
    return filled([f"{line.target} = {first}", *rest], WIDTH, indent)


def _latex_lines(found: Closed) -> list[str]:
    lines = []
    for line in (*found.steps, *found.outputs, *found.derivatives):
        rows = [line.terms[k : k + MOST_TERMS] for k in range(0, len(line.terms), MOST_TERMS)]
        lines.append(_aligned(line.target, rows))
    return lines


# ---- matrices ------------------------------------------------------------------------------------


def matrices(problem: Problem, language: str, source: str) -> str:
    """Every layer by name, with its tangent and its cotangent.

    Args:
        problem: What is differentiated.
        language: `text` or `latex`.
        source: What it is made from.

    Raises:
        CannotError: When there are too many operators.
    """
    found = system(problem)
    if language == "latex":
        return _matrix_latex(found, problem, source)
    return _matrix_text(found, problem, source)


def _sections(found: System, problem: Problem) -> list[tuple[str, tuple[Equation, ...]]]:
    of = ", ".join(found.labels[name] for name in problem.of)
    wrt = ", ".join(found.labels[name] for name in problem.wrt)
    return [
        ("output", found.primal),
        (f"jvp: the tangent of {of} (_dot) from that of {wrt}", found.forward),
        (f"vjp: the cotangent of {wrt} (_bar) from that of {of}", found.backward),
    ]


LEGEND = (
    "@ is the product of matrices, .T a transpose, * and / are elementwise; _dot marks a tangent,"
    " _bar a cotangent."
)


def _matrix_text(found: System, problem: Problem, source: str) -> str:
    notation = Notation(problem.table)
    lines = [*filled(source.split(" "), WIDTH), *filled(LEGEND.split(" "), WIDTH), ""]
    lines += ["given"]
    for name, shape, label in found.given:
        also = f"  {remark(label)}" if label and label != name else ""
        lines.append(f"  {name}  {shape}{also}")
    for title, equations in _sections(found, problem):
        lines += ["", *filled(title.split(" "), WIDTH)]
        for e in equations:
            lines += _matrix_line(e, notation)
    if found.chain:
        lines += ["", "Jacobian"]
        y, x = found.labels[problem.of[0]], found.labels[problem.wrt[0]]
        first, *rest = notation.product(found.chain)
        lines += filled([f"  d{y}/d{x} = {first}", *rest], WIDTH, " " * 6)
    return "\n".join(lines) + "\n"


def _matrix_line(e: Equation, notation: Notation) -> list[str]:
    piece = notation.term(e.term)
    words = " ".join(piece.parts).split(" ")
    made = filled([f"  {notation.tensor(e.target)} =", *words], WIDTH, " " * 6)
    shape = f"[{e.shape}]"
    if len(made[-1]) + 2 + len(shape) <= WIDTH:
        made[-1] = made[-1].ljust(WIDTH - len(shape)) + shape
    else:
        made.append(shape.rjust(WIDTH))
    return made


def _matrix_latex(found: System, problem: Problem, source: str) -> str:
    notation = Latex(problem.table)
    said = [
        f"{name}: {shape.replace('×', ' x ')}{_also(name, label)}"
        for name, shape, label in found.given
    ]
    blocks = []
    for _, equations in _sections(found, problem):
        rows = []
        for e in equations:
            parts = notation.term(e.term).parts
            shape = e.shape.replace("×", r" \times ").replace("scalar", "1")
            rows.append(_aligned(notation.tensor(e.target), [parts], rf"&& {shape}"))
        if rows:
            blocks.append(rows)
    if found.chain:
        y, x = (latex_name(found.labels[n]) for n in (problem.of[0], problem.wrt[0]))
        target = rf"\frac{{\partial {y}}}{{\partial {x}}}"
        blocks.append([_aligned(target, [notation.product(found.chain)])])
    return _latex_page(source, said, blocks)


def _also(name: str, label: str) -> str:
    return f", in the file {remark(label)}" if label and label != name else ""


# ---- LaTeX ---------------------------------------------------------------------------------------


def _aligned(target: str, rows: Iterable[Sequence[str]], after: str = "") -> str:
    """One row of an align, its source within 80 columns, its display broken between rows."""
    lines = []
    for k, row in enumerate(rows):
        head = f"{target} &=" if k == 0 else r"&\quad"
        words = [word for part in row for word in part.split(" ")]
        lines.append("\n".join(filled([head, *words], WIDTH, "  ")))
    return " \\\\\n".join(lines) + (f" {after}" if after else "")


def _latex_page(source: str, said: Sequence[str], blocks: Sequence[Sequence[str]]) -> str:
    lines = ["% " + part for part in filled(remark(source).split(" "), WIDTH - 2)]
    lines += [f"% {remark(one)}" for one in said] + ["% Needs the package amsmath."]
    for block in blocks:
        rows = " \\\\\n".join(block)
        lines += [r"\begin{align*}", rows, r"\end{align*}"]
    return "\n".join(lines) + "\n"
