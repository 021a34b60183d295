"""A model file, read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gradcli.errors import ModelError
from gradcli.graph import Graph, OpTable, burst
from gradcli.onnxfile.budget import MAX_IR, Budget
from gradcli.onnxfile.external import Folder
from gradcli.onnxfile.names import printable
from gradcli.onnxfile.reader import Reader
from gradcli.onnxfile.source import parse, read_bytes

DEFAULT_BUDGET = Budget()


@dataclass(frozen=True, eq=False)
class Model:
    """One model file: what it means, and exactly what it was.

    Attributes:
        graph: The network in canonical form.
        path: What to call the file in a report; printable, `<bytes>` where it has no path.
        sha256: Of the file's bytes, in hexadecimal.
        data: The file's bytes, for onnxruntime to run as they are.
        folder: Where its external data lies; None for bytes.
        external: Whether some of its tensors lie in other files.
        opset: The version of ai.onnx that it imports; 0 where it uses only other domains.
        opsets: Versions of all domains that it imports; ai.onnx is the empty one.
        producer: The program that says it wrote it.
        overridable: Constants that are declared as inputs too: a run may replace them.
        raw_names: For each value name of the graph, the file's own, where the two differ.
        mapped: Constants that lie in other files, by name: read-only maps of exactly what was
            checked.
        unzipped: Values that the file makes as lists of maps from label to probability (ZipMap):
            here, and where onnxruntime runs the file, they are tensors of the probabilities.
    """

    graph: Graph
    path: str
    sha256: str
    data: bytes
    folder: Path | None = None
    external: bool = False
    opset: int = 0
    producer: str = ""
    overridable: tuple[str, ...] = ()
    raw_names: Mapping[str, str | bytes] = field(default_factory=dict)
    mapped: Mapping[str, np.ndarray] = field(default_factory=dict)
    opsets: Mapping[str, int] = field(default_factory=dict)
    unzipped: tuple[str, ...] = ()

    @cached_property
    def real_names(self) -> Mapping[str, str]:
        """Names of the graph by the file's own, as a command line has them, where they differ."""
        own = {
            raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw: name
            for name, raw in self.raw_names.items()
        }
        # A name that is printable as it is means the tensor of that name.
        return {raw: name for raw, name in own.items() if raw not in self.raw_names}

    def shown(self, name: str) -> str:
        """What a tensor is called here, by that or by its real name; another name stays."""
        return self.real_names.get(name, name)

    def __repr__(self) -> str:
        return f"Model({self.path!r}, opset {self.opset}, {len(self.graph.nodes)} nodes)"


@burst()
def read(
    source: str | os.PathLike[str] | bytes,
    table: OpTable,
    *,
    budget: Budget = DEFAULT_BUDGET,
    name: str = "<bytes>",
    folder: Path | None = None,
) -> Model:
    """Read a model file. Nothing in it is executed, and nothing is written.

    Args:
        source: Its path, or its content.
        table: gradcli's operator table. Operators that it does not know are read too.
        budget: Limits on size, nodes and nesting.
        name: What to call a model that is given as bytes.
        folder: Where the external data of such a model lies; None where it may have none.

    Raises:
        ModelError: When the file cannot be read, is no ONNX model, is malformed, uses what gradcli
            does not know, or exceeds the budget.
        UnsupportedError: When an operator's card takes less than the standard allows.
    """
    if isinstance(source, bytes):
        data, path = source, printable(name)
        if len(data) > budget.file_bytes:
            raise ModelError(f"{path}: is {len(data):,} bytes long, above the limit")
    else:
        location = os.fspath(source)
        data, path = read_bytes(location, budget.file_bytes), printable(location)
        # Absolute from the first: a library that resolves a bare name may leave the folder.
        folder = Path(os.path.abspath(location)).parent  # noqa: PTH100 # resolve() follows links
    proto = parse(data, path)
    if proto.ir_version > MAX_IR:
        raise ModelError(
            f"{path}: is of file format {proto.ir_version}, but gradcli knows up to {MAX_IR}",
            "Export the model with an older opset.",
        )
    reader = Reader(proto, table, budget, path, Folder(folder, path))
    graph = reader.read()
    return Model(
        graph,
        path,
        hashlib.sha256(data).hexdigest(),
        data,
        folder,
        reader.tensors.external,
        reader.opsets.get("", 0),
        printable(f"{proto.producer_name} {proto.producer_version}".strip()),
        reader.overridable,
        MappingProxyType({k: v for k, v in reader.raw_names.items() if k != v}),
        MappingProxyType(reader.mapped),
        MappingProxyType(reader.opsets),
        tuple(reader.unzipped),
    )
