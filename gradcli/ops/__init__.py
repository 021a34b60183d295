"""What gradcli knows of each ONNX operator: `OPS`, one card an operator, one file a family."""

from gradcli.ops import (
    arrange,
    conv,
    elementwise,
    index,
    linalg,
    logic,
    norm,
    pool,
    reduce,
    shape,
    source,
)
from gradcli.ops.card import REQUIRED, Card, Site, Table

OPS = Table(
    elementwise.CARDS,
    logic.CARDS,
    linalg.CARDS,
    conv.CARDS,
    pool.CARDS,
    norm.CARDS,
    reduce.CARDS,
    shape.CARDS,
    arrange.CARDS,
    index.CARDS,
    source.CARDS,
)

__all__ = ["OPS", "REQUIRED", "Card", "Site", "Table"]
