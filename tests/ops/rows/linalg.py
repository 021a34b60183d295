"""How the operators of gradcli/ops/linalg.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import Case, Kink, Row, narrower, normal, shape


def draw_matmul(rng: np.random.Generator) -> Case:
    """Stacks that broadcast either way, and vectors on either side."""
    m, k, n = (int(d) for d in rng.integers(1, 5, size=3))
    kind = rng.integers(0, 6)
    wide = shape(rng, rank=int(rng.integers(1, 3)))
    narrow = narrower(rng, wide)
    a, b = {
        0: ((m, k), (k, n)),
        1: ((*wide, m, k), (k, n)),
        2: ((*narrow, m, k), (*wide, k, n)),
        3: ((*wide, m, k), (*narrow, k, n)),
        4: ((k,), (*narrow, k, n) if rng.random() < 0.7 else (k,)),
        5: ((*narrow, m, k), (k,)),
    }[int(kind)]
    return Case((normal(rng, a), normal(rng, b)))


def draw_gemm(rng: np.random.Generator) -> Case:
    """Either operand transposed, any factors, C absent or broadcast."""
    m, k, n = (int(d) for d in rng.integers(1, 5, size=3))
    left, right = (bool(t) for t in rng.integers(0, 2, size=2))
    c = None if rng.random() < 0.3 else normal(rng, narrower(rng, (m, n)))
    attrs: dict[str, Any] = {"transA": int(left), "transB": int(right)}
    if rng.random() < 0.6:
        attrs |= {"alpha": float(rng.choice([0.5, -2.0])), "beta": float(rng.choice([0.25, 3.0]))}
    inputs = [normal(rng, (k, m) if left else (m, k)), normal(rng, (n, k) if right else (k, n)), c]
    return Case(tuple(inputs if c is not None or rng.random() < 0.5 else inputs[:2]), attrs)


def draw_einsum(rng: np.random.Generator) -> Case:
    """One to three operands; diagonals, sums, an ellipsis, sizes of 1, with and without ->."""
    letters = rng.permutation(list("abAZk"))[:4]
    sizes = {str(label): int(rng.integers(1, 4)) for label in letters}
    dots = shape(rng, int(rng.integers(0, 3)))
    terms, dims = [], []
    for _ in range(int(rng.integers(1, 4))):
        own = [str(label) for label in rng.choice(letters, size=int(rng.integers(0, 4)))]
        flat = {label: rng.random() < 0.15 for label in sizes}
        axes = [1 if flat[label] else sizes[label] for label in own]
        if rng.random() < 0.4:
            at = int(rng.integers(0, len(own) + 1))
            axes[at:at] = [1 if rng.random() < 0.2 else d for d in dots]
            own.insert(at, "...")
        terms.append("".join(own))
        dims.append(tuple(axes))
    equation = " , ".join(terms)
    used = sorted(set("".join(terms)) - {"."})
    # Without an arrow, onnxruntime refuses upper case letters in the result.
    if rng.random() < 0.7 or not equation.islower():
        left = [str(label) for label in rng.permutation(used)[: int(rng.integers(0, 4))]]
        if "..." in equation:
            left.insert(int(rng.integers(0, len(left) + 1)), "...")
        equation += " -> " + "".join(left)
    return Case(tuple(normal(rng, d) for d in dims), {"equation": equation})


def draw_det(rng: np.random.Generator) -> Case:
    """Stacks of matrices as small as SymPy can take them: up to 6 rows."""
    count = int(rng.choice([1, 2, 3, 4, 6]))
    stack = shape(rng, int(rng.integers(0, 3)), high=2)
    return Case((normal(rng, (*stack, count, count)),))


RANK_1 = np.outer([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
RANK_2 = np.diag([2.0, 3.0, 0.0])
RANK_5 = np.diag([1.0, 2.0, 3.0, 0.0, 4.0, 5.0])

ROWS = (
    Row("MatMul", draw_matmul, dynamic="all"),
    Row("Gemm", draw_gemm, dynamic="all"),
    Row("Einsum", draw_einsum, dynamic="all"),
    Row(
        "Det",
        draw_det,
        kinks=(
            Kink(Case((RANK_1,)), 0, np.zeros((3, 3))),
            Kink(Case((RANK_2,)), 0, np.diag([0.0, 0.0, 6.0])),
            Kink(Case((RANK_5,)), 0, np.diag([0.0, 0.0, 0.0, 120.0, 0.0, 0.0])),
            Kink(Case((np.zeros((2, 2)),)), 0, np.zeros((2, 2))),
        ),
    ),
)
