"""Two models at one point: outputs, derivatives, and the first node where they part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcli.contrast.facts import Block, Contrast
from gradcli.contrast.judge import Judge
from gradcli.contrast.parting import SHAKES, Parted, parted_at
from gradcli.engines import ENGINES, Program
from gradcli.engines.base import Arrays, Part, around, shaken
from gradcli.graph import DType, size
from gradcli.interpret import Evaluator
from gradcli.problem import Key, Problem


def contrasted(
    first: Problem,
    second: Problem,
    names: Mapping[str, str],
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    notes: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Contrast:
    """Hold two models against each other, as the functions that they mean: in float64.

    What rounding in the coarser of their widths does to the first is measured, and allowed.

    Args:
        first: The question, of the one model.
        second: The same question, of the other.
        names: By names of the first's `wrt` and `of`: those of the second.
        rtol: What is allowed besides, relative to the largest element of each tensor.
        atol: What is allowed besides.
        notes: What is already to be said.
        tell: Called with a few words before each step.
    """
    eps = max(width(first).eps, width(second).eps)
    judge = Judge(eps, rtol or 0.0, atol)
    tell(Part("the derivatives", 1, 2))
    one = _Model(first)
    tell(Part("the derivatives", 2, 2))
    other = _Model(second)
    rng = np.random.default_rng(first.seed)
    table = shaken(first.table, rng, eps, kernels=True)
    runs = []
    for k in range(SHAKES):
        tell(Part("what rounding does", k + 1, SHAKES))
        runs.append(_Model(replace(first, table=table)))
    primal = tuple(
        judge.block(name, "", y, other.primal[names[name]], [run.primal[name] for run in runs])
        for name, y in one.primal.items()
    )
    derivative = tuple(
        judge.block(*key, block, other.blocks[_renamed(key, names)], [r.blocks[key] for r in runs])
        for key, block in one.blocks.items()
    )
    alike = all(block.same for block in (*primal, *derivative))
    parted = Parted(None, None, 0) if alike else parted_at(first, second, names, table, judge, tell)
    why = _nothing((*primal, *derivative)) if alike else ON_KINK if _on_kink(first) else ""
    assert first.model is not None
    assert second.model is not None
    return Contrast(
        first.model.path,
        second.model.path,
        first.operator,
        primal,
        derivative,
        parted.value,
        parted.cotangent,
        parted.common,
        rtol,
        why if all(block.same for block in primal) else "",
        tuple(
            dict.fromkeys(
                (
                    *notes,
                    *_shaped(first, second, names),
                    *_unfit((*primal, *derivative)),
                    *_zero(derivative),
                    *first.notes,
                    *(() if alike else _rounds(second)),
                )
            )
        ),
    )


ON_KINK = "the point lies on a kink, where each model may take another slope: choose another point"


def _nothing(blocks: Sequence[Block]) -> str:
    """Why two that are alike are not the same: there are no numbers, or rounding hides them."""
    if any(block.unfit == size(block.shape) > 0 for block in blocks):
        return "a tensor has no finite number in either model: choose another point"
    if any(block.unclear for block in blocks):
        most = max(block.share for block in blocks if block.unclear)
        return (
            f"they differ by {most:.2g} of a largest element, and rounding alone may do that:"
            " --rtol says whether so much is allowed"
        )
    return ""


def _zero(blocks: Sequence[Block]) -> Iterator[str]:
    """A note on a derivative that is zero, of which any two models may be the same."""
    some = any(size(block.shape) for block in blocks)
    if some and all(block.size == block.difference == block.unfit == 0 for block in blocks):
        yield "the derivative is zero in both models at this point: that tells little of them"


def _unfit(blocks: Sequence[Block]) -> Iterator[str]:
    """A note on elements of which nothing can be said."""
    if count := sum(block.unfit for block in blocks):
        yield f"{count:,} elements are no finite numbers in both models: of them nothing is said"


def _shaped(first: Problem, second: Problem, names: Mapping[str, str]) -> Iterator[str]:
    """Notes on outputs of one size that have another shape."""
    for name in first.of:
        ours, theirs = first.shape(name), second.shape(names[name])
        if ours != theirs:
            yield (
                f"{name} has shape {list(ours)} in the first model and {list(theirs)} in the"
                " second: elements are taken in their order"
            )


def _rounds(problem: Problem) -> tuple[str, ...]:
    """A note on a model that rounds, which has another derivative by its nature."""
    if problem.straight_through:
        return ()
    found = next((n for n in problem.graph.nodes if "Quant" in n.op or n.op == "Round"), None)
    if found is None:
        return ()
    said = (
        f"the second model rounds, first at node {found.name!r} ({found.key}), and its derivative"
    )
    return (f"{said} is that of a staircase: --straight-through takes rounding for the identity",)


def width(problem: Problem) -> DType:
    """The narrowest float in which a model computes, narrower than 16 bits left out."""
    floats = [v.dtype for v in problem.graph.values() if v.dtype.is_float]
    wide = [dtype for dtype in floats if dtype.np.itemsize > 1]
    return max(wide, key=lambda dtype: dtype.eps, default=DType.FLOAT32)


def _renamed(key: Key, names: Mapping[str, str]) -> Key:
    of, wrt = key
    return (names[of] if of else "", names[wrt] if wrt else "")


def _on_kink(problem: Problem) -> bool:
    return any(bool(np.any(margin == 0)) for margin in around(problem).margins.values())


class _Model:
    """A problem's primal and derivative in float64."""

    def __init__(self, problem: Problem) -> None:
        double = replace(problem, dtype=DType.FLOAT64)
        pushes = problem.operator == "jvp"
        self.blocks = Program(ENGINES["forward" if pushes else "reverse"], double).run().blocks
        self.primal: Arrays = Evaluator(problem.exact, table=problem.table).run(problem.point)
