"""Reverse AD against the model's own forward pass, torch autograd and JAX: ratios, one process.

    python benchmarks/performance.py [WORD ...] [--repeats 20] [--threads 1] [--write FILE]

A WORD is a part of a network's name; without one all are taken. All contenders get the same input
and the same number of threads, and with --threads 1 the process is bound to one core. Their results
are compared first; then they run in turn, A B C A B C ..., and medians are divided. The time of an
answer is from arrays to arrays: handing inputs over and results back is part of it. torch and jax
(extra `peers`) are left out where absent.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from networks import ALL, JaxKit, Network, TorchKit

from gradcli import runtime
from gradcli.engines import ENGINES, Program
from gradcli.onnxfile import read
from gradcli.ops import OPS
from gradcli.problem import pose

Contender = Callable[[], Any]
Times = dict[str, list[float]]

SAME = 3e-2
"""How far results in float32 may differ, relative, in the Euclidean norm: one pre-activation that
rounds to the other side of a kink moves a deep network's derivative by a percent."""


def contenders(network: Network, threads: int) -> dict[str, Contender]:
    """The forward pass, and the ways to the vjp along one cotangent; each gives an array."""
    model = read(network.file(), OPS)
    x, (y,) = network.input(), model.graph.outputs
    session = runtime.prepare(model, threads=threads)
    bar = np.random.default_rng(2).standard_normal(session.run({"x": x})[y.name].shape)
    bar = bar.astype(np.float32)
    problem = pose(model, {"x": x}, operator="vjp", cotangents={y.name: bar}, threads=threads)
    program = Program(ENGINES["reverse"], problem)
    found: dict[str, Contender] = {
        "forward": lambda: session.run({"x": x}),
        "gradcli": lambda: program.run().blocks["", "x"],
    }
    for name, make in (("torch", _torch), ("jax", _jax)):
        if (peer := make(network, x, bar, threads)) is not None:
            found[name] = peer
    ours = found["gradcli"]()
    for name in ("torch", "jax"):
        if name in found:
            gap = np.linalg.norm(ours - found[name]()) / np.linalg.norm(ours)
            if not gap < SAME:
                sys.exit(f"{network.name}: {name}'s result differs by {gap:.2g}")
    return found


def _torch(network: Network, x: np.ndarray, bar: np.ndarray, threads: int) -> Contender | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    kit, weights = TorchKit(), torch.from_numpy(bar)

    def run() -> np.ndarray:
        kit.restart()
        given = torch.from_numpy(x).requires_grad_()
        (x_bar,) = torch.autograd.grad(network.build(kit, given), given, weights)
        return np.asarray(x_bar)

    return run


def _jax(network: Network, x: np.ndarray, bar: np.ndarray, threads: int) -> Contender | None:
    del threads  # set for the whole process, before JAX starts
    try:
        import jax
    except ImportError:
        return None
    kit = JaxKit()

    def f(given: Any) -> Any:
        kit.restart()
        return network.build(kit, given)

    pulled = jax.jit(lambda given, weights: jax.vjp(f, given)[1](weights)[0])
    return lambda: np.asarray(pulled(x, bar))


def race(found: dict[str, Contender], repeats: int, seconds: float = 60.0) -> Times:
    """Times of each, taken in turn: so many rounds, fewer where they take too long, at least 5."""
    times: Times = {name: [] for name in found}
    end = time.perf_counter() + seconds
    for k in range(repeats + 2):
        for name, call in found.items():
            start = time.perf_counter()
            call()
            if k >= 2:
                times[name].append(time.perf_counter() - start)
        if k >= 6 and time.perf_counter() > end:
            break
    return times


# ---- the table ----------------------------------------------------------------------------------

COLUMNS = ("network", "forward", "gradcli", "torch", "jax", "÷ forward", "÷ torch", "÷ jax")

HEAD = """\
# Performance

Reverse AD by gradcli (one vjp with respect to the input, float32) against the network's own forward
pass in onnxruntime, torch autograd and jitted JAX. All run the same network on the same input, in
one process and in turn, after their results were found equal. Times are medians in milliseconds,
± half the distance of the quartiles, from arrays to arrays. Trust the ratios: they carry over to
other machines better than times do.
"""


def cells(name: str, times: Times) -> list[str]:
    """One line: medians in ms with their quartiles' distance, and ratios of medians."""
    median = {k: statistics.median(t) for k, t in times.items()}

    def spread(key: str) -> str:
        if key not in times:
            return "absent"
        low, _, high = statistics.quantiles(times[key], n=4)
        return f"{median[key] * 1e3:.3g} ± {(high - low) / 2 * 1e3:.1g}"

    def ratio(key: str) -> str:
        return f"{median['gradcli'] / median[key]:.2f}" if key in median else "–"

    return [
        name,
        *(spread(k) for k in ("forward", "gradcli", "torch", "jax")),
        *(ratio(k) for k in ("forward", "torch", "jax")),
    ]


def page(rows: Sequence[Sequence[str]], args: argparse.Namespace) -> str:
    """The table as a page, with what it was measured on."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("onnxruntime", "torch", "jax", "numpy")
        if importlib.util.find_spec(name)
    )
    threads = "1 thread, bound to one core" if args.threads == 1 else f"{args.threads} threads"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    lines = [
        HEAD,
        f"{platform.machine()}, {_processor()}, {threads}; {python}, {versions}.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" + "|--:" * (len(COLUMNS) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"`python benchmarks/performance.py --repeats {args.repeats} --threads {args.threads}`",
        "",
    ]
    return "\n".join(lines)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else "unknown processor"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", metavar="FILE")
    args = parser.parse_args()
    if args.threads == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    print("".join(f"{c:>{34 if not k else 15}}" for k, c in enumerate(COLUMNS)))
    for network in ALL:
        if args.words and not any(w.lower() in network.name.lower() for w in args.words):
            continue
        rows.append(cells(network.name, race(contenders(network, args.threads), args.repeats)))
        print("".join(f"{c:>{34 if not k else 15}}" for k, c in enumerate(rows[-1])), flush=True)
    if args.write:
        Path(args.write).write_text(page(rows, args), encoding="utf-8")


if __name__ == "__main__":
    main()
