"""Names in force while a graph is read, and the scopes that they live in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradcli.graph import DType, Value, Var
from gradcli.onnxfile.draft import Draft
from gradcli.onnxfile.names import printable

Name = str | bytes
"""A name as protobuf hands it over: bytes when it is no UTF-8."""


@dataclass
class Frame:
    """The names in force in one graph, body or inlined function.

    Attributes:
        draft: Where its nodes go. An inlined function shares its caller's.
        opsets: Version of each domain.
        values: What each name of the file stands for; None for a parameter that was left out.
        shown: The name that each value will have in the graph.
        parent: For a body, the frame around it, whose names it sees.
        prefix: For a function, the call's name, which its own names are put behind.
        arguments: For a function, its attributes.
        depth: How many bodies and calls are around it.
        node_names: Names of nodes that are taken.
        parameters: For a body, what is known of its inputs' element types from outside.
        captured: For a body, the outer values that it reads, in the order of first reading.
    """

    draft: Draft
    opsets: Mapping[str, int]
    values: dict[Name, Var | None] = field(default_factory=dict)
    shown: dict[Name, str] = field(default_factory=dict)
    parent: Frame | None = None
    prefix: str = ""
    arguments: Mapping[str, Any] | None = None
    depth: int = 0
    node_names: set[str] = field(default_factory=set)
    parameters: tuple[DType, ...] = ()
    captured: dict[Value, None] = field(default_factory=dict)

    def lookup(self, name: Name) -> Var | None:
        """The value of this name, captured from an outer graph if need be.

        Raises:
            KeyError: When no graph in sight has defined it.
        """
        if name in self.values:
            return self.values[name]
        if self.parent is None:
            raise KeyError(name)
        outer = self.parent.lookup(name)
        if outer is None or outer.b is self.draft.b:
            return outer
        inner = self.values[name] = self._capture(outer)
        return inner

    def parameter(self, place: int) -> DType:
        """The element type of a body's input that the file does not say."""
        return self.parameters[place] if place < len(self.parameters) else DType.FLOAT32

    def _capture(self, outer: Var) -> Var:
        b = self.draft.b
        if outer.const is not None and outer.const.size <= 64:
            # Shapes and axes must be seen as constants inside the body too.
            return b.constant(outer.const, outer.dtype)
        self.captured[outer.value] = None
        return b.var(outer.value)

    def name_of(self, name: Name) -> str:
        """What the value of this name will be called in the graph."""
        if name not in self.shown:
            stem = printable(name)
            self.shown[name] = self.draft.b.name(f"{self.prefix}/{stem}" if self.prefix else stem)
        return self.shown[name]

    def node_name(self, name: Name, fallback: str, *, taken: bool = True) -> str:
        """A node's name: its own, made printable and unique, or its first output's.

        Args:
            name: Its own in the file.
            fallback: What to call it when it has none.
            taken: Whether a node will have the name; a call only lends it to what it inlines.
        """
        stem = printable(name) if name else fallback
        if name and self.prefix:
            stem = f"{self.prefix}/{stem}"
        if not taken:
            return stem
        unique, k = stem, 1
        while unique in self.node_names:
            k += 1
            unique = f"{stem}_{k}"
        self.node_names.add(unique)
        return unique
