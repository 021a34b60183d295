"""Networks as data: values, nodes, graphs, and the Builder that makes them."""

from gradcli.graph.builder import Builder, OpTable, Var
from gradcli.graph.burst import burst
from gradcli.graph.dtypes import Dim, DType, Shape, Type, broadcast, is_static, size
from gradcli.graph.ir import CANONICAL_OPSET, Graph, Node, Value

__all__ = [
    "CANONICAL_OPSET",
    "Builder",
    "DType",
    "Dim",
    "Graph",
    "Node",
    "OpTable",
    "Shape",
    "Type",
    "Value",
    "Var",
    "broadcast",
    "burst",
    "is_static",
    "size",
]
