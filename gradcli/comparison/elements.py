"""Every element of an answer beside the reference, for whoever draws it."""

from __future__ import annotations

import numpy as np

from gradcli.comparison.facts import Block
from gradcli.comparison.field import label
from gradcli.comparison.truth import truth_of
from gradcli.engines.base import Estimate, Evidence
from gradcli.problem import Key


def elements_of(evidence: Evidence) -> tuple[Block, ...]:
    """The blocks of the answer, in order; a method's array is its own where that is whole."""
    problem = evidence.problem
    truth, _ = truth_of(evidence)
    made = {o.method: o.estimate for o in evidence.outcomes if o.estimate is not None}
    blocks, start = [], 0
    for key in problem.keys:
        of, wrt = key
        shape = problem.block_shape(key)
        end = start + int(np.prod(shape))
        unknown = np.full(shape, np.nan)
        blocks.append(
            Block(
                label(key),
                problem.shape(of) if of else (),
                problem.shape(wrt) if wrt else (),
                unknown if truth is None else truth.value[start:end].reshape(shape),
                unknown if truth is None else truth.u[start:end].reshape(shape),
                {name: _of(estimate, key) for name, estimate in made.items()},
            )
        )
        start = end
    return tuple(blocks)


def _of(estimate: Estimate, key: Key) -> np.ndarray:
    block = np.asarray(estimate.blocks[key], np.float64)
    return block if estimate.known is None else np.where(estimate.known[key], block, np.nan)
