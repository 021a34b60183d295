"""Formulas to be read: as text within 80 columns, or as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradcli.formulas.closed import Array, Signature, index, signature, write_out
from gradcli.formulas.display import equations, page
from gradcli.formulas.equations import Equation, System, system
from gradcli.formulas.layout import WIDTH, filled
from gradcli.formulas.names import remark
from gradcli.formulas.notation import Latex, Notation, escaped, latex_name
from gradcli.problem import Problem

if TYPE_CHECKING:
    from gradcli.engines.symbolic.closed import Closed, Line


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
        lines = (*found.steps, *found.outputs, *found.derivatives)
        rows = equations([(line.target, line.terms, "") for line in lines])
        return page(source, said, [("", rows)])
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
        (OUTPUT, found.primal),
        (f"jvp: the tangent of {of} (_dot) from that of {wrt}", found.forward),
        (f"vjp: the cotangent of {wrt} (_bar) from that of {of}", found.backward),
    ]


OUTPUT = "output"

NO_WAY = "zero, as there is no way between them, or only one by steps and indices"

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
    for title, block in _sections(found, problem):
        lines += ["", *filled(title.split(" "), WIDTH)]
        for e in block:
            lines += _matrix_line(e, notation)
        if not block and title != OUTPUT:
            lines.append(f"  {NO_WAY}")
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
    for title, block in _sections(found, problem):
        rows = [
            (notation.tensor(e.target), notation.term(e.term).parts, _latex_shape(e.shape))
            for e in block
        ]
        none = "" if rows or title == OUTPUT else f": {NO_WAY}"
        blocks.append((escaped(title) + none, equations(rows)))
    if found.chain:
        y, x = (latex_name(found.labels[n]) for n in (problem.of[0], problem.wrt[0]))
        target = rf"\frac{{\partial {y}}}{{\partial {x}}}"
        blocks.append(("Jacobian", equations([(target, notation.product(found.chain), "")])))
    return page(source, said, blocks)


def _latex_shape(shape: str) -> str:
    return shape.replace("×", r" \times ").replace("scalar", "1")


def _also(name: str, label: str) -> str:
    return f", in the file {remark(label)}" if label and label != name else ""
