"""The campaign: python -m tests.campaign --pairs 2000 --faults 2000 --seed 1 --jobs 2."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from tests.campaign.faults import GUILTY
from tests.campaign.tally import mistakes, report, unnamed
from tests.campaign.trials import Trial, trial

CHUNK = 8
"""Trials that a process is handed at once."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="correct (graph, point) pairs")
    parser.add_argument("--faults", type=int, default=200, help="pairs with a fault planted")
    parser.add_argument("--samples", type=float, default=0.0, help="share of sample models")
    parser.add_argument("--stages", default=",".join(GUILTY), help="where faults are planted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="index of the first trial")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--explain", action="store_true", help="whether faults' nodes are named")
    parser.add_argument("--even", action="store_true", help="as many faults of each kind")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for pairs, and for faults")
    given = parser.parse_args()
    stages = tuple(given.stages.split(","))
    how = {"samples": given.samples, "explain": given.explain, "even": given.even}
    run = partial(trial, given.seed, stages=stages, **how)
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        sound, faulty = (
            list(
                _told(
                    pool.map(partial(run, faulty=wrong), indices, chunksize=CHUNK),
                    time.monotonic() + given.seconds,
                )
            )
            for wrong, indices in (
                (False, range(given.first, given.first + given.pairs)),
                (True, range(given.first, given.first + given.faults)),
            )
        )
        pool.shutdown(wait=False, cancel_futures=True)
    sys.stdout.write("\n".join(report(sound, faulty)) + "\n")
    return 1 if mistakes([*sound, *faulty]) else 0


def _told(trials: Iterator[Trial], end: float) -> Iterator[Trial]:
    """The trials until then, each mistake told as it is found."""
    for k, t in enumerate(trials, 1):
        for line in (*mistakes([t]), *unnamed([t])):
            sys.stderr.write(f"{line}\n")
        if k % 100 == 0:
            sys.stderr.write(f"... {k}\n")
        yield t
        if time.monotonic() > end:
            break


if __name__ == "__main__":
    sys.exit(main())
