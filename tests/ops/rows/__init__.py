"""One file a family, as in gradcli/ops; `TABLE` joins them."""

from tests.ops.rows import elementwise, logic
from tests.ops.table import Row

ROWS: tuple[Row, ...] = (
    *elementwise.ROWS,
    *logic.ROWS,
)

TABLE = {row.op: row for row in ROWS}
