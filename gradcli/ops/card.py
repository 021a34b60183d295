"""A card: all that gradcli knows of one ONNX operator, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from gradcli.errors import InternalError, UnsupportedError
from gradcli.graph import Builder, Type, Value, Var
from gradcli.graph.ir import NO_ATTRS


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""In a card's attributes: there is no default."""


class Site:
    """One application of an operator in a graph under construction, as its rules see it.

    Attributes:
        b: The Builder that new nodes go to.
        key: The operator's full name.
        inputs: Operands; None where an optional one is absent.
        outputs: Results; empty while their types are being inferred; None where unused.
        attrs: Every attribute, defaults filled in. `s["axis"]` reads one.
        wanted: For a vjp: which operands' cotangents somebody will read.
        dropped: For a vjp: where a choice further on has dropped the result, a mask that
            broadcasts to it; None for nowhere. The cotangent is 0 there, and no partial derivative
            matters, however infinite it is.
        drops: What a vjp finds to be dropped of its operands, by place.
    """

    __slots__ = ("attrs", "b", "dropped", "drops", "inputs", "key", "outputs", "wanted")

    def __init__(
        self,
        b: Builder,
        key: str,
        inputs: Sequence[Var | None],
        attrs: Mapping[str, Any],
        outputs: Sequence[Var | None] = (),
        wanted: Sequence[bool] = (),
        dropped: Var | None = None,
    ) -> None:
        self.b = b
        self.key = key
        self.inputs = tuple(inputs)
        self.attrs = attrs
        self.outputs = tuple(outputs)
        self.wanted = tuple(wanted)
        self.dropped = dropped
        self.drops: dict[int, Var] = {}

    def __getitem__(self, name: str) -> Any:
        return self.attrs[name]

    def input(self, k: int) -> Var:
        """The operand at this place, which must be there."""
        x = self.inputs[k] if k < len(self.inputs) else None
        if x is None:
            raise InternalError(f"{self.key} has no operand {k}")
        return x

    def has(self, k: int) -> bool:
        """Whether the operand at this place was given."""
        return k < len(self.inputs) and self.inputs[k] is not None

    def wants(self, k: int) -> bool:
        """Whether the cotangent of the operand at this place will be read."""
        return k < len(self.wanted) and self.wanted[k]

    def drop(self, k: int, mask: Var | None) -> None:
        """The operand at this place is dropped where this mask holds, if shaped as the result."""
        if mask is not None and self.b.same_shape(self.input(k), self.y):
            self.drops[k] = mask

    @property
    def x(self) -> Var:
        """The first operand."""
        return self.input(0)

    @property
    def x1(self) -> Var:
        """The second operand."""
        return self.input(1)

    @property
    def y(self) -> Var:
        """The first result."""
        y = self.outputs[0]
        if y is None:
            raise InternalError(f"{self.key}'s first output is unused")
        return y

    def ints(self, k: int) -> tuple[int, ...] | None:
        """The operand at this place as Python ints, where it is a known constant; else None."""
        if not self.has(k):
            return None
        array = self.input(k).const
        return None if array is None else tuple(int(i) for i in array.reshape(-1))

    def again(self, *inputs: Var | None, **changes: Any) -> Var:
        """The same operator with the same attributes (but for changes) on other operands."""
        return self.b.op(self.key, *inputs, **{**self.attrs, **changes})


Vars = Sequence[Var | None]
Infer = Callable[[Site], Sequence[Type]]
Jvp = Callable[[Site, Vars], Vars]
Vjp = Callable[[Site, Vars], Vars]
Batch = Callable[[Site, Sequence[bool]], Sequence[Var]]
Expand = Callable[[Site], Sequence[Var]]
Partial = Callable[[Site], Var | float | None] | float | None


@dataclass(frozen=True)
class Card:
    """One operator. Cards are made by the functions of `kinds`, one for each kind.

    Attributes:
        op: Full name: `Conv`, or `com.microsoft::Gelu`.
        kind: elementwise, linear, bilinear, composite, custom, flat or opaque.
        inputs: Operand names in order; `?` at the end marks an optional one, `*` a variadic tail.
        outputs: Result names in order.
        infer: dtypes and shapes of all results, from a Site without outputs.
        impl: The primal `impl(n, *inputs, **attrs)`, over a number system n; a tuple for several
            results, of which one that costs something may be a function of no arguments, called
            only where it is read. It touches arrays only through n.
        attrs: Attributes with defaults (REQUIRED where there is none, None where absent is fine).
        jvp: Tangents of the results from tangents of the operands; absent is None, either way.
        vjp: Cotangents of the operands from cotangents of the results.
        batch: How it applies when marked operands carry a leading axis of directions.
        expand: For a composite, and as a custom card's oracle: the same in other operators.
        keeps: Where the operator stays as it is among derivatives although they are those of its
            expansion, into operators that are no composites: the result is its own kernel's, and
            the expansion only serves the rules. None for nowhere.
        flat: For operands through which no derivative flows: why.
        reason: For a flat or opaque card: why.
        kinks: `kinks(n, *inputs, **attrs) -> (margin, branch)`: how far each element is from the
            nearest place where the derivative jumps, in units of the operand, and which piece it
            is on.
        jumps: Whether the result itself jumps at its kinks, as that of a flat card always does.
        convention: What the rules take for the derivative at a kink.
        edges: `edges(n, *inputs, **attrs) -> margin`: distance to where the function stops being
            finite or differentiable (log 0, sqrt 0, division by 0).
        edge: What lies at that edge, in words.
        edge_of: The place of the operand that comes to the edge when it moves; while only others
            move, the edge stays where it is.
        holomorphic: Whether the complex step may go through it.
        rounds: Whether evaluating it rounds; False for operators that only choose or move elements.
            Where that hangs on attributes, a function of them.
        since: The opset whose form this is, when born after the canonical one; else 0.
    """

    op: str
    kind: str
    inputs: tuple[str, ...]
    infer: Infer
    impl: Callable[..., Any] | None
    outputs: tuple[str, ...] = ("Y",)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    jvp: Jvp | None = None
    vjp: Vjp | None = None
    batch: Batch | None = None
    expand: Expand | None = None
    keeps: Callable[[Site], bool] | None = None
    flat: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    kinks: Callable[..., tuple[np.ndarray, np.ndarray]] | None = None
    jumps: bool = False
    convention: str = ""
    edges: Callable[..., np.ndarray] | None = None
    edge: str = ""
    edge_of: int = 0
    holomorphic: bool = True
    rounds: bool | Callable[[Mapping[str, Any]], bool] = True
    since: int = 0

    @property
    def is_flat(self) -> bool:
        """Whether no derivative flows through any operand."""
        return self.kind == "flat"

    @property
    def steps(self) -> bool:
        """Whether a result may jump: a finite difference across it measures the jump."""
        return self.is_flat or self.jumps


def _as_in_a_file(value: Any) -> Any:
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, tuple) and any(isinstance(x, float) for x in value):
        return tuple(map(_as_in_a_file, value))
    return value


class _Changed(dict[str, Card]):
    """Cards that are changed when they are first asked for."""

    def __init__(self, cards: Mapping[str, Card], change: Callable[[Card], Card]) -> None:
        super().__init__(cards)
        self._change, self._done = change, set[str]()

    def __getitem__(self, key: str) -> Card:
        card = super().__getitem__(key)
        if key not in self._done:
            self._done.add(key)
            self[key] = card = self._change(card)
        return card


class Table(Mapping[str, Card]):
    """The plain table of all cards, and what the Builder asks of it.

    Args:
        families: The cards.
        exact: Whether rules write irrational numbers as operators on other numbers, and not as the
            floats next to them: for whoever evaluates graphs in more than float64.
    """

    def __init__(self, *families: Sequence[Card], exact: bool = False) -> None:
        self.exact = exact
        self._cards: dict[str, Card] = {}
        for card in (card for family in families for card in family):
            if card.op in self._cards:
                raise InternalError(f"two cards for {card.op}")
            self._cards[card.op] = card

    # A table is compared by identity: dataclasses take what cannot be hashed for mutable.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __getitem__(self, key: str) -> Card:
        return self._cards[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cards)

    def __len__(self) -> int:
        return len(self._cards)

    def changed(self, change: Callable[[Card], Card]) -> Table:
        """The same table with every card changed, each when it is first asked for."""
        made = Table(tuple(self.values()), exact=self.exact)
        made._cards = _Changed(made._cards, change)
        return made

    def replace(self, *cards: Card) -> Table:
        """The same table with some cards exchanged, for experiments and fault injection."""
        made = {**self, **{card.op: card for card in cards}}
        return Table(tuple(made.values()), exact=self.exact)

    def exactly(self) -> Table:
        """The same cards, for graphs that are evaluated in more than float64."""
        return Table(tuple(self.values()), exact=True)

    def attributes(self, key: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The given attributes with defaults filled in.

        A float is rounded to float32, which is all that a file's attribute can hold: so the
        interpreter and a runtime read the same number.

        Raises:
            UnsupportedError: When an attribute is unknown, or a required one is absent.
        """
        declared = self._cards[key].attrs
        if not declared and not given:
            return NO_ATTRS
        if unknown := given.keys() - declared.keys():
            raise UnsupportedError(f"{key} has no attribute {', '.join(sorted(unknown))}")
        full = {**declared, **given}
        if missing := [name for name, value in full.items() if value is REQUIRED]:
            raise UnsupportedError(f"{key} needs its attribute {', '.join(missing)}")
        return MappingProxyType({name: _as_in_a_file(value) for name, value in full.items()})

    def infer(
        self, builder: Builder, key: str, inputs: Sequence[Value | None], attrs: Mapping[str, Any]
    ) -> Sequence[Type]:
        """The dtype and shape of every result."""
        operands = [None if x is None else Var(builder, x) for x in inputs]
        return self._cards[key].infer(Site(builder, key, operands, attrs))
