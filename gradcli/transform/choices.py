"""What structure hangs on at a point: conditions, trip counts, positions, lengths."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Node, Value

Choice = int | tuple[int, ...]
"""The whole number (or truth value) that a tensor holds; several, where it is no scalar."""

Find = Callable[[Builder, Value], np.ndarray | None]
"""Given a graph in the making and a value of it: its numbers at the point, None if unknown."""

MOST = 200_000
"""Nodes that may be written out for all bodies together: as many as a file may have."""


@dataclass(frozen=True)
class Way:
    """Which way a node went because of what a tensor holds at the point.

    Attributes:
        node: Its name.
        op: Its operator.
        what: What it did, in words.
        inner: Whether it stands in another's body.
    """

    node: str
    op: str
    what: str
    inner: bool


@dataclass
class Choices:
    """The choices of a graph's control flow at one point, found once and kept.

    Attributes:
        made: By name of the tensor: what it holds.
        find: How those that are not in `made` are found; None for not at all.
        wanted: Names of tensors that are needed: control flow that makes none of them is left as it
            is. None for all.
        most: How many nodes bodies may be written out to.
        ways: What was chosen by numbers that no constant gives.
    """

    made: dict[str, Choice] = field(default_factory=dict)
    find: Find | None = None
    wanted: Container[str] | None = None
    most: int = MOST
    ways: list[Way] = field(default_factory=list)
    written: int = 0

    def of(self, b: Builder, value: Value) -> Choice | None:
        """What a tensor holds, where it is known or can be found."""
        if value.name not in self.made and self.find is not None:
            found = self.find(b, value)
            if found is not None:
                self.made[value.name] = plain(found)
        return self.made.get(value.name)

    def wants(self, node: Node) -> bool:
        """Whether anything that the node makes is needed."""
        wanted = self.wanted
        return wanted is None or any(v.name in wanted for v in node.makes())

    def count(self, nodes: int, node: Node) -> None:
        """Count so many nodes that are written out for this one.

        Raises:
            UnsupportedError: When all of them are more than can be handled; it names the node.
        """
        self.written += nodes
        if self.written > self.most:
            raise self._too_long(node, f"more than {self.most:,} nodes")

    def foresee(self, nodes: int, times: int, node: Node) -> None:
        """Refuse at once what would be too much: so many nodes, so many times.

        Raises:
            UnsupportedError: As `count` would in the end.
        """
        if nodes * times > self.most:
            raise self._too_long(node, f"about {nodes * times:,} nodes ({times:,} times {nodes})")

    def _too_long(self, node: Node, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"node {node.name!r} ({node.key}) comes to {what} once it is written out, and gradcli"
            f" takes {self.most:,}",
            "differentiate a part of the model without it, or at inputs that need fewer trips",
        )


def plain(array: np.ndarray) -> Choice:
    """What a tensor of whole numbers or truth values holds, to be compared."""
    array = np.asarray(array)
    return int(array) if array.ndim == 0 else tuple(int(a) for a in array.reshape(-1))


def number(choice: Choice) -> int:
    """The one number of a tensor that holds one, whatever its rank.

    Raises:
        ValueError: When it holds several.
    """
    if isinstance(choice, int):
        return choice
    (one,) = choice
    return one
