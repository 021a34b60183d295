"""What the table of rows does not reach of attention with a state."""

from __future__ import annotations

import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType
from gradcli.ops import OPS
from gradcli.transform import expand


@pytest.mark.parametrize(("rule", "said"), [("gated", "operands of another"), ("new", "'new'")])
def test_a_linear_rule_comes_with_its_own_operands(rule, said):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (1, 3, 4))
    y = b.op("LinearAttention", x, x, x, q_num_heads=2, kv_num_heads=2, update_rule=rule)
    with pytest.raises(UnsupportedError, match=said):
        expand(b.graph([y]))
