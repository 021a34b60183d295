"""One file a family, as in gradcli/ops; `TABLE` joins them."""

from tests.ops.rows import (
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
from tests.ops.table import Row

ROWS: tuple[Row, ...] = (
    *elementwise.ROWS,
    *logic.ROWS,
    *linalg.ROWS,
    *conv.ROWS,
    *pool.ROWS,
    *norm.ROWS,
    *reduce.ROWS,
    *shape.ROWS,
    *arrange.ROWS,
    *index.ROWS,
    *source.ROWS,
)

TABLE = {row.op: row for row in ROWS}
