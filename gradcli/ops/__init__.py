"""What gradcli knows of each ONNX operator: `OPS`, one card an operator, one file a family."""

from gradcli.ops import (
    activation,
    arrange,
    attention,
    contrib,
    conv,
    elementwise,
    index,
    linalg,
    logic,
    loss,
    ml,
    norm,
    pool,
    quantize,
    rearrange,
    recurrent,
    reduce,
    resample,
    scatter,
    shape,
    signal,
    source,
)
from gradcli.ops.card import REQUIRED, Card, Site, Table

OPS = Table(
    elementwise.CARDS,
    activation.CARDS,
    logic.CARDS,
    linalg.CARDS,
    conv.CARDS,
    pool.CARDS,
    norm.CARDS,
    reduce.CARDS,
    shape.CARDS,
    arrange.CARDS,
    rearrange.CARDS,
    index.CARDS,
    scatter.CARDS,
    source.CARDS,
    loss.CARDS,
    attention.CARDS,
    signal.CARDS,
    resample.CARDS,
    recurrent.CARDS,
    quantize.CARDS,
    ml.CARDS,
    contrib.CARDS,
)

__all__ = ["OPS", "REQUIRED", "Card", "Site", "Table"]
