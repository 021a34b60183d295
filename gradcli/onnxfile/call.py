"""A node of the file, resolved: between what was read and what the graph becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gradcli.errors import ModelError
from gradcli.graph import Var


@dataclass(frozen=True, slots=True)
class Call:
    """One node of the file, resolved: what an upgrade takes and gives back.

    Attributes:
        op: Operator name.
        domain: Its domain; empty for ai.onnx.
        inputs: Operands; None where an optional one is left out.
        attrs: The attributes that the file gives; defaults are not filled in.
        outputs: Names of the results, as the graph will have them; None where one is not wanted.
        name: The node's name.
        opset: The version of the domain in force.
        where: File, node, operator and opset, for refusals.
    """

    op: str
    domain: str
    inputs: tuple[Var | None, ...]
    attrs: Mapping[str, Any]
    outputs: tuple[str | None, ...]
    name: str
    opset: int
    where: str

    @property
    def x(self) -> Var:
        """The first operand.

        Raises:
            ModelError: When it is left out.
        """
        return self.operand(0)

    def operand(self, k: int) -> Var:
        """The operand at this place.

        Raises:
            ModelError: When it is left out.
        """
        operand = self.inputs[k] if k < len(self.inputs) else None
        if operand is None:
            raise ModelError(f"{self.where} lacks its input {k}")
        return operand

    def having(self, *inputs: Var | None, op: str = "", **attrs: Any) -> Call:
        """The same call with these operands and exactly these attributes."""
        return replace(self, op=op or self.op, inputs=inputs, attrs=attrs)

    def refuse(self, what: str, hint: str) -> ModelError:
        """The error that says that this node cannot be read."""
        return ModelError(f"{self.where} {what}", hint)
