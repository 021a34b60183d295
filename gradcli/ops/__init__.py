"""What gradcli knows of each ONNX operator: `OPS`, one card an operator, one file a family."""

from gradcli.ops import elementwise, logic
from gradcli.ops.card import REQUIRED, Card, Site, Table

OPS = Table(
    elementwise.CARDS,
    logic.CARDS,
)

__all__ = ["OPS", "REQUIRED", "Card", "Site", "Table"]
