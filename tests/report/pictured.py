"""Comparisons with elements to draw, made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcli.comparison import Block, Comparison
from tests.report import examples


def block(name: str, of: tuple[int, ...], wrt: tuple[int, ...], seed: int = 0) -> Block:
    """A block of random numbers: reverse is a little off, finite sampled, complex-step exact."""
    random = np.random.default_rng(seed)
    truth = random.normal(size=of + wrt)
    sampled = np.where(random.random(truth.shape) < 0.3, truth + 1e-12, np.nan)
    values = {
        "reverse": truth * (1 + 1e-7 * random.normal(size=truth.shape)),
        "finite": sampled,
        "complex-step": truth.copy(),
    }
    return Block(name, of, wrt, truth, np.full(truth.shape, 1e-16), values)


def drawn(*blocks: Block) -> Comparison:
    """Everything that a page can show."""
    swept, odd, blamed = examples.swept(), examples.odd(), examples.blamed()
    return replace(
        swept,
        kinks=odd.kinks,
        room=odd.room,
        notes=odd.notes,
        explanation=blamed.explanation,
        elements=blocks or (block("y/x", (1, 3), (1, 1, 6, 5)), block("y/t", (1, 3), (2,), 1)),
    )
