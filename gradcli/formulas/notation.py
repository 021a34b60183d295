"""Terms of equations as text or as LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.formulas.equations import Apply, Factor, Literal, Tensor, Term
from gradcli.graph import Graph, Node
from gradcli.ops import Table

SUM, PRODUCT, POWER, ATOM = range(4)
"""How strongly the parts of a text hold together."""


MOST_LISTED = 16
"""Numbers of an attribute that are written out."""


@dataclass(frozen=True)
class Piece:
    """Text, where it may be cut, and how strongly it holds together."""

    parts: tuple[str, ...]
    strength: int = ATOM

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(self.parts)


_INFIX = {"Add": SUM, "Sub": SUM, "Mul": PRODUCT, "Div": PRODUCT, "MatMul": PRODUCT}

_CALLED = {
    "Erf": "erf",
    "Neg": "-",
    "Pow": "pow",
    "Where": "where",
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "Max": "max",
    "Min": "min",
    "Greater": "greater",
    "Less": "less",
}
"""Operators with a name that everybody knows."""

_LOWER = frozenset(
    {"Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Clip"}
    | {
        "Concat",
        "Cos",
        "Cosh",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Log",
        "Not",
        "Pad",
        "Reciprocal",
        "Relu",
        "Reshape",
    }
    | {"Round", "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Softmax", "Softplus", "Split", "Sqrt"}
    | {"Squeeze", "Tan", "Tanh", "Transpose", "Unsqueeze"}
)
"""Likewise: their own name in small letters."""


class Notation:
    """Plain text, as in NumPy: `@` is the product of matrices, `*` that of each element.

    Args:
        table: Cards, for the attributes that go without saying.
    """

    infix: Mapping[str, str] = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "MatMul": "@"}
    relations: Mapping[str, str] = {
        "Greater": ">",
        "Less": "<",
        "GreaterOrEqual": ">=",
        "LessOrEqual": "<=",
        "Equal": "==",
        "And": "and",
        "Or": "or",
    }

    def __init__(self, table: Table) -> None:
        self._table = table

    # ---- what a language says for itself ------------------------------------------------------

    def tensor(self, tensor: Tensor) -> str:
        """A name."""
        return f"{tensor.name}_{tensor.mark}" if tensor.mark else tensor.name

    def number(self, text: str) -> str:
        """A number, or a list of some."""
        return text

    def function(self, name: str) -> str:
        """The name of a function."""
        return name

    def word(self, text: str) -> str:
        """The name or the value of an attribute."""
        return text

    def brackets(self, text: str) -> str:
        """Around what is weaker than its surroundings."""
        return f"({text})"

    def transposed(self, text: str) -> str:
        """A matrix, its rows and columns exchanged."""
        return f"{text}.T"

    def square(self, text: str) -> str:
        """A function's value, squared."""
        return f"{text}^2"

    def index(self, text: str, k: int) -> str:
        """One of several results."""
        return f"{text}[{k}]"

    # ---- terms --------------------------------------------------------------------------------

    def term(self, term: Term) -> Piece:
        """A term, cut where a line may end: in its outermost sum or product, or list."""
        if isinstance(term, Tensor):
            return Piece((self.tensor(term),))
        if isinstance(term, Literal):
            weak = term.text.startswith("-")
            return Piece((self.number(term.text),), SUM if weak else ATOM)
        node, operands = term.node, term.operands
        if len(node.makes()) > 1 or term.output:
            return Piece((self.index(self._call(term).text, term.output),))
        bell = _bell(term)
        if bell is not None:
            called = self.function("sech")
            return Piece((self.square(f"{called}({self.term(bell).text})"),), POWER)
        if not node.domain and node.op in _INFIX and len(operands) == 2:
            return self._infix(node.op, *operands)
        if not node.domain and node.op in self.relations and len(operands) == 2:
            one, other = (self._held(x, ATOM) for x in operands)
            return Piece((f"{one} {self.relations[node.op]} {other}",), SUM)
        if node.key == "Neg":
            return Piece((f"-{self._held(operands[0], POWER)}",), SUM)
        if node.key == "Gemm":
            return self._gemm(node, operands)
        if node.key == "Transpose" and _swaps(node, operands):
            return Piece((self.transposed(self._held(operands[0], ATOM)),))
        return self._call(term)

    def factor(self, factor: Factor) -> str:
        """A factor of a Jacobian."""
        if factor.kind == "diag":
            return f"{self.function('diag')}({self.term(factor.term).text})"
        text = self._held(factor.term, ATOM)
        return self.transposed(text) if factor.kind == "transposed" else text

    def product(self, factors: Sequence[Factor]) -> tuple[str, ...]:
        """Factors of a Jacobian, cut where a line may end."""
        sign = self.infix["MatMul"]
        texts = [self.factor(f) for f in factors]
        return (texts[0], *(f"{sign} {text}" for text in texts[1:]))

    def _held(self, term: Term | None, strength: int) -> str:
        """A term in brackets where it is weaker than this."""
        if term is None:
            return self.function("none")
        piece = self.term(term)
        return self.brackets(piece.text) if piece.strength < strength else piece.text

    def _infix(self, op: str, one: Term | None, other: Term | None) -> Piece:
        strength, sign = _INFIX[op], self.infix[op]
        assert one is not None
        left = self.term(one)
        # a @ b * c is (a @ b) * c to Python; nobody should have to know.
        mixed = strength == PRODUCT and isinstance(one, Apply) and one.node.op != op
        tight = left.strength < strength or (mixed and left.strength == PRODUCT)
        first = (self.brackets(left.text),) if tight else left.parts
        above = strength if op == "Add" else strength + 1
        text = self._held(other, above)
        if op == "Add" and text.startswith("-"):
            return Piece((*first, f"- {text[1:]}"), strength)
        return Piece((*first, f"{sign} {text}"), strength)

    def _gemm(self, node: Node, operands: Sequence[Term | None]) -> Piece:
        """alpha A B + beta C."""

        def matrix(k: int, flag: str) -> str:
            text = self._held(operands[k], ATOM)
            return self.transposed(text) if node.attrs[flag] else text

        scale = {name: float(node.attrs[name]) for name in ("alpha", "beta")}
        parts = [matrix(0, "transA"), f"{self.infix['MatMul']} {matrix(1, 'transB')}"]
        if scale["alpha"] != 1.0:
            parts[0] = f"{self.number(_digits(scale['alpha']))} {self.infix['Mul']} ({parts[0]}"
            parts[1] += ")"
        if len(operands) < 3 or operands[2] is None:
            return Piece(tuple(parts), PRODUCT)
        last = self._held(operands[2], PRODUCT if scale["beta"] != 1.0 else SUM)
        if scale["beta"] != 1.0:
            last = f"{self.number(_digits(scale['beta']))} {self.infix['Mul']} {last}"
        sign, last = ("-", last[1:]) if last.startswith("-") else ("+", last)
        return Piece((*parts, f"{sign} {last}"), SUM)

    def _call(self, term: Apply) -> Piece:
        node = term.node
        name = _CALLED.get(node.key) or (node.op.lower() if node.key in _LOWER else node.op)
        inner = [self._held(x, SUM) for x in term.operands]
        inner += [f"{self.word(key)}={value}" for key, value in self._attributes(node)]
        if not inner:
            return Piece((f"{self.function(name)}()",))
        # Each operand but the last ends with its comma, which is where a line may be cut.
        words = [f"{text}," for text in inner[:-1]] + [f"{inner[-1]})"]
        return Piece((f"{self.function(name)}({words[0]}", *words[1:]))

    def _attributes(self, node: Node) -> list[tuple[str, str]]:
        """Those that are not at their default, as text."""
        default = self._table[node.key].attrs if node.key in self._table else {}
        given = []
        for key, value in node.attrs.items():
            if value is None or isinstance(value, Graph) or _same(value, default.get(key)):
                continue
            given.append((key, self._value(value)))
        return given

    def _value(self, value: Any) -> str:
        if isinstance(value, np.ndarray):
            if value.size == 1:
                return self.number(str(value.reshape(-1)[0]))
            return self.word(f"array{list(value.shape)}")
        if isinstance(value, tuple) and len(value) > MOST_LISTED:
            return self.word(f"array[{len(value)}]")
        if isinstance(value, tuple):
            return self.number(f"[{','.join(_plain(_digits(v)) for v in value)}]")
        return self.word(_plain(value)) if isinstance(value, str) else self.number(_digits(value))


def _digits(value: Any) -> str:
    """A number in the fewest digits that name it: of an attribute, which is a float32, there."""
    if not isinstance(value, float):
        return str(value)
    single = np.float32(value)
    return repr(float(str(single))) if float(single) == value else repr(value)


def _plain(value: Any) -> str:
    """A word of an attribute: an operator's own, but held to letters all the same."""
    return re.sub(r"[^A-Za-z0-9_.,=+-]", "_", str(value))[:40]


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(default, np.ndarray):
        return bool(np.array_equal(value, default)) if default is not None else False
    return bool(value == default)


def _swaps(node: Node, operands: Sequence[Term | None]) -> bool:
    """Whether a Transpose is that of a matrix."""
    x = node.inputs[0]
    perm = node.attrs["perm"]
    rank = len(perm) if perm is not None else len(x.shape or ()) if x is not None else 0
    return bool(operands) and rank == 2 and (perm is None or tuple(perm) == (1, 0))


def _bell(term: Apply) -> Term | None:
    """z, where a term is the rule of tanh: 4 sigmoid(2z) sigmoid(-2z), which is sech(z)^2."""
    match term:
        case Apply(
            Node(op="Mul"),
            (
                Apply(
                    Node(op="Mul"),
                    (
                        Apply(Node(op="Sigmoid"), (one,)),
                        Apply(Node(op="Sigmoid"), (Apply(Node(op="Neg"), (other,)),)),
                    ),
                ),
                Literal("4.0"),
            ),
        ) if one == other:
            match one:
                case Apply(Node(op="Mul"), (z, Literal("2.0"))):
                    return z
    return None


class Latex(Notation):
    """LaTeX's mathematics mode. Names are identifiers: nothing in them needs escaping but `_`."""

    infix: Mapping[str, str] = {
        "Add": "+",
        "Sub": "-",
        "Mul": r"\odot",
        "Div": r"\oslash",
        "MatMul": r"\,",
    }
    relations: Mapping[str, str] = {
        "Greater": ">",
        "Less": "<",
        "GreaterOrEqual": r"\geq",
        "LessOrEqual": r"\leq",
        "Equal": "=",
        "And": r"\wedge",
        "Or": r"\vee",
    }

    def tensor(self, tensor: Tensor) -> str:
        """A name, under a dot or a bar."""
        return latex_name(tensor.name, tensor.mark)

    def number(self, text: str) -> str:
        """A number, its exponent as a power of ten."""
        return re.sub(r"e([+-]?)0*(\d+)", _power_of_ten, text)

    def function(self, name: str) -> str:
        """An upright name."""
        return rf"\operatorname{{{escaped(name)}}}"

    def word(self, text: str) -> str:
        """Upright text."""
        return rf"\mathrm{{{escaped(text)}}}"

    def transposed(self, text: str) -> str:
        """With a superscript."""
        return rf"{text}^{{\top}}"

    def square(self, text: str) -> str:
        """With a superscript."""
        return f"{text}^{{2}}"

    def index(self, text: str, k: int) -> str:
        """With a subscript."""
        return f"{text}_{{{k}}}"


def _power_of_ten(match: re.Match[str]) -> str:
    sign = "-" if match[1] == "-" else ""
    return rf" \times 10^{{{sign}{match[2]}}}"


def escaped(text: str) -> str:
    """An identifier in LaTeX."""
    return text.replace("_", r"\_")


_MARKS = {"dot": (r"\dot", r"\overset{\bullet}"), "bar": (r"\bar", r"\overline")}
"""Above a letter, and above a word, where a small one would be lost."""


def latex_name(name: str, mark: str = "") -> str:
    """An identifier as a symbol: one letter, or an upright word, and numbers below it.

    `z1` has its number below, `y_0_2` both of its; `z_1` keeps its own, so as to be another.
    """
    match = re.fullmatch(r"(.*?[^\d_])(\d+|(?:_\d+){2,})", name)
    stem, below = (match[1], match[2].strip("_").replace("_", ",")) if match else (name, "")
    text = stem if len(stem) == 1 else rf"\mathrm{{{escaped(stem)}}}"
    if mark:
        letter, word = _MARKS[mark]
        text = f"{letter if len(stem) == 1 else word}{{{text}}}"
    return f"{text}_{{{below}}}" if below else text
