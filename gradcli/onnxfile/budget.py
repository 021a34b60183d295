"""How much of anything a model file may make gradcli read, hold or build."""

from __future__ import annotations

from dataclasses import dataclass

from gradcli.errors import ModelError

MIN_OPSET = 7
"""The oldest operator set whose forms are known: before it, broadcasting meant something else."""

MAX_OPSET = 28
"""The newest operator set whose forms are known. A constant of gradcli, not of some onnx."""

MAX_IR = 14
"""The newest file format version whose meaning is known."""


@dataclass(frozen=True)
class Budget:
    """Limits on one model file; what exceeds them is refused before it is read or built.

    Attributes:
        file_bytes: Size of the file itself. Protobuf ends at 2 GiB anyway.
        tensor_bytes: All constants together, external ones (which are only mapped) included.
        expansion: How many times its own size a file may take in memory, beside `base_bytes`; more
            can only come of a function that holds constants and is called over and over.
        base_bytes: What a file may take whatever its size.
        dense_bytes: All sparse tensors together, once they are made dense.
        nodes: Nodes after local functions are inlined, bodies of control flow included.
        depth: Nesting of control flow and of calls of local functions.
        rank: Dimensions of one tensor; NumPy ends at 64.
    """

    file_bytes: int = 2**31 - 1
    tensor_bytes: int = 2**36
    expansion: int = 8
    base_bytes: int = 2**28
    dense_bytes: int = 2**30
    nodes: int = 200_000
    depth: int = 32
    rank: int = 32


class Meter:
    """What one reading has used of its budget.

    Args:
        budget: The limits.
        path: The file's name, for the refusal.
        size: The file's size.
    """

    def __init__(self, budget: Budget, path: str, size: int = 0) -> None:
        self.budget = budget
        self.path = path
        self._most = budget.base_bytes + budget.expansion * size
        self._held = 0
        self._tensors = 0
        self._dense = 0

    def held(self, size: int, name: str) -> None:
        """Count so many bytes that reading takes in memory.

        Raises:
            ModelError: When they exceed what a file of this size can need.
        """
        self._held += size
        if self._held > self._most:
            raise ModelError(
                f"{self.path}: with {name!r} its content takes {self._held:,} bytes, far more"
                " than the file itself",
                "Its functions repeat what they hold; raise Budget.base_bytes if you trust it.",
            )

    def tensor(self, size: int, name: str) -> None:
        """Count a tensor of so many bytes.

        Raises:
            ModelError: When all tensors together exceed the budget.
        """
        self._tensors += size
        if self._tensors > self.budget.tensor_bytes:
            raise ModelError(
                f"{self.path}: with tensor {name!r} its constants reach {self._tensors:,} bytes,"
                f" above the limit of {self.budget.tensor_bytes:,}",
                "Use a smaller model, or raise Budget.tensor_bytes if you trust the file.",
            )

    def dense(self, size: int, name: str) -> None:
        """Count a sparse tensor that takes so many bytes once it is dense.

        Raises:
            ModelError: When all of them together exceed the budget.
        """
        self._dense += size
        if self._dense > self.budget.dense_bytes:
            raise ModelError(
                f"{self.path}: sparse tensor {name!r} would take {size:,} bytes when made dense",
                "Use a smaller model, or raise Budget.dense_bytes if you trust the file.",
            )
