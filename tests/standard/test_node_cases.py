"""The standard's own cases: each operator that has a card computes and differentiates what it says.

One table is printed (pytest -rA, or -s), and every case is in it: passed, failed, excluded by name,
or with an operator that has no card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from onnx.backend.test.case.test_case import TestCase as Case

from tests.standard.cases import Result, check, load, operators

QUICK = 1
"""In the default run: so many of the cases that are of one set of operators."""


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return load()


def table(results: Sequence[Result]) -> str:
    counts = Counter(r.status for r in results)
    lines = [f"{status:9} {counts[status]:5}" for status in sorted(counts)]
    lines += [f"{r.status}: {r.name}: {r.detail}" for r in results if r.status == "failed"]
    excluded = [r for r in results if r.status == "excluded"]
    return "\n".join([*lines, *(f"{r.status}: {r.name}: {r.detail}" for r in excluded)])


def settle(cases: Sequence[Case]) -> Counter[str]:
    results = [check(case) for case in cases]
    print(table(results))  # noqa: T201 # the table is what this test is for
    assert not [f"{r.name}: {r.detail}" for r in results if r.status == "failed"]
    return Counter(done for r in results for done in r.done)


def test_one_case_of_every_operator(cases: list[Case]) -> None:
    seen: Counter[tuple[str, ...]] = Counter()
    chosen = []
    for case in cases:
        key = tuple(sorted(operators(case.model))) if case.model else (case.name,)
        seen[key] += 1
        if seen[key] <= QUICK and case.model:
            chosen.append(case)
    if not chosen:
        pytest.skip("this version of onnx keeps its cases of single nodes on disk")
    assert settle(chosen)["derivative"] > 100


@pytest.mark.slow
def test_every_case(cases: list[Case]) -> None:
    done = settle(cases)
    assert done["primal"] > 1200
    assert done["derivative"] > 900
