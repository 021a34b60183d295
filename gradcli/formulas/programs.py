"""The closed form as a function in Python, C or Julia, which needs nothing of gradcli."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gradcli.formulas.closed import Array, Signature, signature, write_out
from gradcli.formulas.layout import WIDTH, filled
from gradcli.formulas.names import remark
from gradcli.problem import Problem

if TYPE_CHECKING:
    from gradcli.engines.symbolic.closed import Closed, Line

ABOUT = (
    "The numbers are the file's own, the arithmetic is double. Arrays are row-major; a derivative"
    " has the shape of the output, then that of the input. At a kink it is what gradcli's reverse"
    " mode takes there: of Relu at 0 it is 0."
)


def program(problem: Problem, language: str, source: str) -> str:
    """A function that gives the outputs and all their derivatives.

    Args:
        problem: What is differentiated.
        language: `python`, `c` or `julia`.
        source: What it is made from, for its first comment.

    Raises:
        CannotError: When the network is too large, or has no closed form.
    """
    sign = signature(problem)
    base = 1 if language == "julia" else 0

    def element(array: Array, k: int) -> str:
        return f"{array.name}[{k + base}]"

    def slope(block: Array, _y: Array, x: Array, i: int, j: int) -> str:
        return element(block, i * x.size + j)

    found = write_out(problem, language, sign, element, slope, stem=sign.stem, inline=False)
    return _WRITERS[language](sign, found, _about(problem, sign, source))


def _about(problem: Problem, sign: Signature, source: str) -> list[str]:
    """Lines for the comment above the function."""
    said = [*filled(remark(source).split(), WIDTH - 4), ""] if source else []
    for what, arrays in (("takes", sign.inputs), ("gives", _results(sign))):
        for array in arrays:
            name = "" if array.name == array.label else f"  {remark(array.label)}"
            said.append(f"{what} {array.name} {list(array.shape)}{name}")
    graph = problem.exact if problem.model is None else problem.model.graph
    fixed = [v.name for v in graph.inputs if not v.dtype.is_float]
    about = ABOUT
    if fixed:
        about += f" Made for one value of {remark(', '.join(fixed))}, which is no float."
    said += ["", *filled(about.split(), WIDTH - 4)]
    return said


def _results(sign: Signature) -> tuple[Array, ...]:
    return (*sign.outputs, *(block for row in sign.derivatives for block in row))


def _assigned(line: Line, before: str, after: str, indent: str) -> list[str]:
    """An assignment; its right-hand side in brackets where it needs several lines."""
    start = f"{indent}{before}{line.target} = "
    whole = f"{start}{' '.join(line.terms)}{after}"
    if len(whole) <= WIDTH or len(line.terms) == 1:
        return [whole]
    lines = filled(line.terms, WIDTH - len(indent) - 5, end=True)
    return [f"{start}(", *(f"{indent}    {part}" for part in lines), f"{indent}){after}"]


def _body(found: Closed, before: str, after: str) -> list[str]:
    steps = [part for line in found.steps for part in _assigned(line, before, after, "    ")]
    ends = (*found.outputs, *found.derivatives)
    return steps + [part for line in ends for part in _assigned(line, "", after, "    ")]


def _needs(body: Sequence[str], helpers: dict[str, list[str]]) -> list[str]:
    """The helpers that are called."""
    text = "\n".join(body)
    return [
        line for name, lines in helpers.items() if re.search(rf"\b{name}\(", text) for line in lines
    ]


# ---- Python --------------------------------------------------------------------------------------

_PYTHON_HELPERS = {
    "sech": [
        "",
        "",
        "def sech(v):",
        "    e = np.exp(-np.abs(v))",
        "    return 2.0*e/(1.0 + e*e)",
    ],
    "sigmoid": [
        "",
        "",
        "def sigmoid(v):",
        "    e = np.exp(-np.abs(v))",
        "    return (1.0 if v > 0.0 else e)/(1.0 + e)",
    ],
}


def _python(sign: Signature, found: Closed, about: Sequence[str]) -> str:
    body = _body(found, "", "")
    results = _results(sign)
    head = [f'    """{about[0]}', *(f"    {line}".rstrip() for line in about[1:]), '    """']
    head += [
        f"    {x.name} = np.asarray({x.name}, np.float64).reshape({x.size})" for x in sign.inputs
    ]
    head += [f"    {y.name} = np.empty({y.size})" for y in results]
    tail = [f'        "{y.name}": {y.name}.reshape({y.shape}),' for y in results]
    needs_math = any("math." in line for line in body)
    return _text(
        [
            *(["import math", ""] if needs_math else []),
            "import numpy as np",
            *_needs(body, _PYTHON_HELPERS),
            "",
            "",
            '@np.errstate(all="ignore")',
            f"def formula({', '.join(x.name for x in sign.inputs)}):",
            *head,
            *body,
            "    return {",
            *tail,
            "    }",
        ]
    )


# ---- C -------------------------------------------------------------------------------------------

_C_HELPERS = {
    "sech": [
        "",
        "static double sech(double v)",
        "{",
        "    double e = exp(-fabs(v));",
        "    return 2.0*e/(1.0 + e*e);",
        "}",
    ],
    "sigmoid": [
        "",
        "static double sigmoid(double v)",
        "{",
        "    double e = exp(-fabs(v));",
        "    return (v > 0.0 ? 1.0 : e)/(1.0 + e);",
        "}",
    ],
    "sign": [
        "",
        "static double sign(double v)",
        "{",
        "    return (double)((v > 0.0) - (v < 0.0));",
        "}",
    ],
}


def _c(sign: Signature, found: Closed, about: Sequence[str]) -> str:
    body = _body(found, "const double ", ";")
    arguments = [f"const double *restrict {x.name}" for x in sign.inputs]
    arguments += [f"double *restrict {y.name}" for y in _results(sign)]
    head = [f"    {one}," for one in arguments]
    head[-1] = head[-1][:-1] + ")"
    text = "\n".join(body)
    unread = [
        x.name for x in (*sign.inputs, *_results(sign)) if not re.search(rf"\b{x.name}\[", text)
    ]
    return _text(
        [
            *(f"// {line}".rstrip() for line in about),
            "",
            "#include <math.h>",
            *_needs(body, _C_HELPERS),
            "",
            "void formula(",
            *head,
            "{",
            *(f"    (void){name};" for name in unread),
            *body,
            "}",
        ]
    )


# ---- Julia ---------------------------------------------------------------------------------------

_JULIA_HELPERS = {
    "sigmoid": [
        "",
        "sigmoid(v) = (v > 0.0 ? 1.0 : exp(-abs(v)))/(1.0 + exp(-abs(v)))",
    ],
    "domain": [
        "",
        "function domain(f, v...)",
        "    try",
        "        return f(v...)",
        "    catch error",
        "        return error isa DomainError ? NaN : rethrow()",
        "    end",
        "end",
    ],
}


def _julia(sign: Signature, found: Closed, about: Sequence[str]) -> str:
    body = _body(found, "", "")
    results = _results(sign)
    head = [f"    {y.name} = Vector{{Float64}}(undef, {y.size})" for y in results]
    special = [name for name in ("erf", "erfc") if re.search(rf"\b{name}\(", "\n".join(body))]
    tail = [f"        {y.name} = {_julia_shaped(y)}," for y in results]
    return _text(
        [
            *(f"# {line}".rstrip() for line in about),
            "# Vectors in, in row-major order: Julia's own order of elements is another.",
            "",
            *([f"using SpecialFunctions: {', '.join(special)}", ""] if special else []),
            *_needs(body, _JULIA_HELPERS),
            f"function formula({', '.join(x.name for x in sign.inputs)})",
            *head,
            *body,
            "    return (",
            *tail,
            "    )",
            "end",
        ]
    )


def _julia_shaped(y: Array) -> str:
    """A vector of row-major elements in its shape."""
    if len(y.shape) < 2:
        return y.name
    back = ", ".join(map(str, reversed(y.shape)))
    perm = ", ".join(str(a) for a in range(len(y.shape), 0, -1))
    return f"permutedims(reshape({y.name}, {back}), ({perm}))"


_WRITERS: dict[str, Callable[[Signature, Closed, Sequence[str]], str]] = {
    "python": _python,
    "c": _c,
    "julia": _julia,
}


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
