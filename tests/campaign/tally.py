"""What a campaign came to: a confusion table, rates, and every mistake by its index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gradcli.comparison import Verdict
from tests.campaign.faults import GUILTY
from tests.campaign.named import RIGHT
from tests.campaign.trials import FELT, Said, Trial

VERDICTS = tuple(map(str, Verdict))


def report(sound: Sequence[Trial], faulty: Sequence[Trial]) -> Iterator[str]:
    """The lines of the report."""
    yield from _confusion(sound, faulty)
    yield from _kinds(faulty)
    yield from _named(faulty)
    yield from _rates(sound)
    yield from _mistakes([*sound, *faulty])


def mistakes(trials: Iterable[Trial]) -> list[str]:
    """Every miss, every false alarm and every trial that broke, in a line each."""
    return list(_mistakes(trials))


def _confusion(sound: Sequence[Trial], faulty: Sequence[Trial]) -> Iterator[str]:
    rows: dict[str, Counter[str]] = {}

    def note(row: str, s: Said) -> None:
        rows.setdefault(row, Counter())[s.verdict] += 1

    judged = [t for t in sound if t.matched and not t.broken]
    for t in judged:
        for s in t.said:
            note(f"correct, {'on a kink or edge' if t.kinked else 'smooth'}, {s.dtype}", s)
    for stage in GUILTY:
        for t in (t for t in faulty if t.stage == stage and t.matched):
            for s in t.said:
                if s.method not in t.guilty:
                    note(f"{stage}: the others", s)
                elif s.moved >= FELT:
                    note(f"{stage}: guilty, 3 bands and more", s)
                elif s.moved > 1:
                    note(f"{stage}: guilty, 1 to 3 bands", s)
                else:
                    note(f"{stage}: guilty, within the band", s)
    yield f"{'methods':<44}" + "".join(f"{v.lower():>14}" for v in VERDICTS)
    for row in sorted(rows):
        yield f"{row:<44}" + "".join(f"{rows[row][v]:>14}" for v in VERDICTS)
    runtime = [t for t in faulty if t.stage == "runtime" and not t.broken]
    felt = [t for t in runtime if t.moved >= FELT]
    caught = sum(not t.matched for t in felt)
    yield (
        f"runtime: {len(runtime)} perturbed files, {len(felt)} by 3 bands and more,"
        f" {caught} of these refused"
    )
    odd = [t for t in sound if not t.matched and not t.broken]
    yield (
        f"{len(sound)} sound pairs, {len(odd)} of them without a primal that matches; "
        f"{sum(1 for t in faulty if t.fault)} faulty ones"
    )


def _kinds(faulty: Sequence[Trial]) -> Iterator[str]:
    yield ""
    places = "".join(f"{stage:>14}" for stage in GUILTY)
    yield f"{'planted, felt by 3 bands':<26}{places}{'missed':>9}"
    for kind in sorted({t.kind for t in faulty if t.kind}):
        some = [t for t in faulty if t.kind == kind]
        cells = (
            f"{sum(t.stage == s for t in some)}, {sum(t.stage == s and t.felt for t in some)}"
            for s in GUILTY
        )
        missed = sum(bool(t.missed) for t in some)
        yield f"{kind:<26}{''.join(f'{cell:>14}' for cell in cells)}{missed:>9}"


def unnamed(faulty: Iterable[Trial]) -> list[str]:
    """Every felt fault of whose node --explain did not say that it is the one, in a line each."""
    return [
        f"UNNAMED #{t.index} ({t.pair}; {t.fault}; {t.reference}): {t.named}"
        for t in faulty
        if t.named not in ("", RIGHT)
    ]


def _named(faulty: Sequence[Trial]) -> Iterator[str]:
    """How many of the felt faults whose node was asked for were put down to it."""
    asked = [t for t in faulty if t.named]
    if not asked:
        return
    places = [s for s in GUILTY if any(t.stage == s for t in asked)]
    yield ""
    yield f"{'named, of those felt':<26}{''.join(f'{s:>14}' for s in places)}"
    for kind in sorted({t.kind for t in asked}):
        cells = (_share([t for t in asked if (t.kind, t.stage) == (kind, s)]) for s in places)
        yield f"{kind:<26}{''.join(f'{cell:>14}' for cell in cells)}"
    right = len(asked) - len(unnamed(asked))
    yield f"--explain names the node of {right} of {len(asked)}, {right / len(asked):.1%}"
    yield from unnamed(asked)


def _share(trials: Sequence[Trial]) -> str:
    return f"{len(trials) - len(unnamed(trials))} of {len(trials)}" if trials else ""


def _rates(sound: Sequence[Trial]) -> Iterator[str]:
    """INCONCLUSIVE off kinks, by method and width of the problem."""
    yield ""
    yield "off kinks and edges       pairs  inconclusive"
    total: Counter[tuple[str, str]] = Counter()
    open_: Counter[tuple[str, str]] = Counter()
    for t in sound:
        if t.kinked or not t.matched or t.broken:
            continue
        width = next((s.dtype for s in t.said if s.method in ("forward", "reverse")), "")
        for s in t.said:
            for who in (s.method, "all"):
                total[width, who] += 1
                open_[width, who] += s.verdict == Verdict.INCONCLUSIVE
    for key in sorted(total):
        rate = open_[key] / total[key]
        yield f"{' '.join(key):<24}{total[key]:>7}  {open_[key]:>5}  {rate:8.2%}"


def _mistakes(trials: Iterable[Trial]) -> Iterator[str]:
    for t in trials:
        what = t.fault or "no fault"
        at = f"#{t.index} ({t.pair}; {what}; {t.reference})"
        if t.broken:
            yield f"BROKEN {at}: {t.broken}"
        for method, why in t.skipped.items():
            if why.startswith("failed"):
                yield f"BROKEN {at}: {method} {why}"
        if t.missed:
            yield f"MISSED {at}: {', '.join(t.missed)}; {_of(t, t.missed)}"
        if t.false:
            yield f"FALSE {at}: {', '.join(t.false)}; {_of(t, t.false)}"


def _of(t: Trial, methods: Sequence[str]) -> str:
    return "; ".join(
        f"{s.method} {s.verdict} {s.cause} {s.moved:.3g} bands"
        for s in t.said
        if s.method in methods
    )
