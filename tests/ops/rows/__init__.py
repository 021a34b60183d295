"""One file a family, as in gradcli/ops; `TABLE` joins them."""

from tests.ops.rows import (
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
from tests.ops.table import Row

ROWS: tuple[Row, ...] = (
    *elementwise.ROWS,
    *activation.ROWS,
    *logic.ROWS,
    *linalg.ROWS,
    *conv.ROWS,
    *pool.ROWS,
    *norm.ROWS,
    *reduce.ROWS,
    *shape.ROWS,
    *arrange.ROWS,
    *rearrange.ROWS,
    *index.ROWS,
    *scatter.ROWS,
    *source.ROWS,
    *loss.ROWS,
    *attention.ROWS,
    *signal.ROWS,
    *resample.ROWS,
    *recurrent.ROWS,
    *quantize.ROWS,
    *ml.ROWS,
    *contrib.ROWS,
)

TABLE = {row.op: row for row in ROWS}
