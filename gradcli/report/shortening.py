"""Long names cut in the middle, in what people read; JSON and `-v` have the whole of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from gradcli.comparison import Comparison
from gradcli.report.cells import Fact, Row
from gradcli.report.rows import Screen

LONG = 56
"""Letters of a name beyond which its middle is left out."""

WHOLE = ("model",)
"""Labels of sentences whose words are there to be copied."""


def shortened(screen: Screen, comparison: Comparison) -> Screen:
    """The same, with every long name in it short: no number is ever cut.

    A name is what the comparison knows as one and, since sentences quote others, any word so long.
    Two that would look the same stay whole.
    """
    told = [
        screen.headline,
        *screen.above,
        *screen.below,
        *screen.beside,
        *screen.points,
    ]
    texts = [fact.text for fact in told if fact.label not in WHOLE]
    texts += [row.cells["node"] for row in screen.nodes]
    text = shortener(_names(comparison), texts)

    def fact(said: Fact) -> Fact:
        return said if said.label in WHOLE else replace(said, text=text(said.text))

    def row(of: Row) -> Row:
        return replace(of, cells={**of.cells, "node": text(of.cells["node"])})

    return replace(
        screen,
        headline=fact(screen.headline),
        above=tuple(map(fact, screen.above)),
        nodes=tuple(map(row, screen.nodes)),
        beside=tuple(map(fact, screen.beside)),
        below=tuple(map(fact, screen.below)),
        points=tuple(map(fact, screen.points)),
    )


def shortener(names: Iterable[str], texts: Iterable[str]) -> Callable[[str], str]:
    """What makes every long name in a text short, unless two of all texts would look the same.

    Args:
        names: What is known as a name; any word so long is taken for one too.
        texts: All that will be shown together.
    """
    known = sorted({n for n in names if len(n) > LONG}, key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, known), rf"\S{{{LONG + 1},}}"]))
    ends: dict[str, list[str]] = {}
    for name in {name for text in texts for name in pattern.findall(text)}:
        ends.setdefault(_cut(name), []).append(name)
    shorts = {alike[0]: short for short, alike in ends.items() if len(alike) == 1}
    return lambda text: pattern.sub(lambda match: shorts.get(match[0], match[0]), text)


def shortened_facts(told: Sequence[Fact]) -> list[Fact]:
    """Sentences with their long names short, but for those to be copied."""
    text = shortener((), [fact.text for fact in told if fact.label not in WHOLE])
    return [f if f.label in WHOLE else replace(f, text=text(f.text)) for f in told]


def _cut(name: str) -> str:
    """Its two ends: what tells layers apart stands at one of them."""
    head = LONG // 2
    return f"{name[:head]}…{name[-(LONG - head - 1) :]}"


def _names(c: Comparison) -> Iterator[str]:
    """Tensors and nodes that the comparison names."""
    yield from (*c.subject.wrt, *c.subject.of, *c.reference.opened)
    for method in c.methods:
        yield from (part.name for part in method.parts)
        if method.worst is not None:
            yield from (method.worst.name, method.worst.node)
    for kink in c.kinks:
        yield from (kink.node, kink.operand)
    for room in c.room:
        yield from (room.wrt, room.node)
    if c.explanation is not None:
        yield from (blame.node for blame in c.explanation.nodes)
