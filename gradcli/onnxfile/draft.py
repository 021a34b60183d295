"""A graph in the making, under the user's names: what upgrades of old operator forms write to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from gradcli.errors import GradcliError, ModelError, UnsupportedError
from gradcli.graph import Builder, Node, Shape, Type, Value, Var
from gradcli.onnxfile import schemas
from gradcli.onnxfile.call import Call
from gradcli.onnxfile.infer import infer

_MAX_RANK = 64
_MAX_SYMBOL = 256


class Draft:
    """A Builder that also takes operators which the table does not know.

    Args:
        builder: Where nodes and constants go.
    """

    def __init__(self, builder: Builder) -> None:
        self.b = builder
        self._origin = ""

    def serve(self, name: str) -> None:
        """Helper nodes from here on belong to this node of the file."""
        self._origin = name

    def ints(self, values: Sequence[int]) -> Var:
        """A 1-D int64 constant."""
        return self.b.ints(values)

    def like(self, number: float, other: Var) -> Var:
        """A scalar constant of the other's element type."""
        return self.b.constant(np.asarray(number), other.dtype)

    def op(self, op: str, *inputs: Var | None, **attrs: Any) -> Var:
        """Emit a helper node and return its first output."""
        return self.ops(op, *inputs, outputs=1, **attrs)[0]

    def ops(self, op: str, *inputs: Var | None, outputs: int, **attrs: Any) -> list[Var]:
        """Emit a helper node and return its first outputs."""
        names = [self.b.name(f"{self._origin or 'node'}/{op}") for _ in range(outputs)]
        call = Call(op, "", inputs, attrs, tuple(names), names[0], 21, f"{op} for {self._origin}")
        return [v for v in self.emit(call, self._origin) if v is not None]

    def emit(self, call: Call, origin: str = "") -> list[Var | None]:
        """Emit a node in canonical form, its results under exactly the names given.

        Raises:
            ModelError: When operands and attributes do not fit the operator.
            UnsupportedError: When gradcli's card takes less than the standard allows.
        """
        operands = [None if x is None else x.value for x in call.inputs]
        while operands and operands[-1] is None:
            operands.pop()
        outputs = list(call.outputs)
        while outputs and outputs[-1] is None:
            outputs.pop()
        attrs, types = self._resolve(call, operands, len(outputs))
        if len(types) < len(outputs):
            raise call.refuse(f"has {len(outputs)} outputs, but at most {len(types)} exist", "")
        made = tuple(
            None if name is None else Value(name, dtype, self._sane(shape, call))
            for name, (dtype, shape) in zip(outputs, types, strict=False)
        )
        node = Node(call.op, tuple(operands), made, attrs, call.domain, call.name, origin)
        self.b.nodes.append(node)
        return [None if value is None else Var(self.b, value) for value in made]

    def _sane(self, shape: Shape | None, call: Call) -> Shape | None:
        """The shape, unless it would make reading what follows slow.

        Raises:
            ModelError: For more dimensions than NumPy has.
        """
        if not shape:
            return shape
        if len(shape) > _MAX_RANK:
            raise call.refuse(f"makes a tensor of {len(shape):,} dimensions", "")
        # Broadcasting joins symbols: node after node could double their names.
        if any(isinstance(d, str) and len(d) > _MAX_SYMBOL for d in shape):
            long = (d if isinstance(d, int) or len(d) <= _MAX_SYMBOL else None for d in shape)
            return tuple(self.b.fresh(1)[0] if d is None else d for d in long)
        return shape

    def _resolve(
        self, call: Call, operands: list[Value | None], outputs: int
    ) -> tuple[Mapping[str, Any], Sequence[Type]]:
        key = f"{call.domain}::{call.op}" if call.domain else call.op
        table = self.b.table
        if key not in table:
            attrs = _defaults(call)
            return attrs, infer(self.b, call, operands, attrs, outputs)
        try:
            full = table.attributes(key, call.attrs)
            return full, table.infer(self.b, key, operands, full)
        except UnsupportedError as error:
            raise UnsupportedError(f"{call.where}: {error.message}", error.hint) from error
        except GradcliError as error:
            raise ModelError(f"{call.where}: {error.message}", error.hint) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # A card may trust a valid model; this one need not be.
            shapes = ", ".join("absent" if v is None else repr(v) for v in operands)
            raise ModelError(
                f"{call.where} does not fit its operands {shapes} ({error})",
                "The exporter wrote an invalid file; export the model again.",
            ) from error


def _defaults(call: Call) -> Mapping[str, Any]:
    """The given attributes, and the canonical form's defaults, of an operator without a card."""
    found = schemas.canonical(call.op, call.domain, call.opset)
    full = dict(call.attrs)
    if found is not None:
        for name, attribute in found.attributes.items():
            full.setdefault(name, attribute.default)
    return MappingProxyType(full)
