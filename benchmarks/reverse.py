"""Reverse AD against the model's own forward pass and against torch autograd: ratios, one process.

    python benchmarks/reverse.py [--repeats 30] [--threads 1]

All contenders get the same input and number of threads, their results are compared first, then
they run in turn, A B C A B C ..., and the medians are divided. Torch (extra `peers`) is left out
when absent.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from networks import Network, mlp, resnet18

from gradcli import runtime
from gradcli.engines import ENGINES, Program
from gradcli.onnxfile import read
from gradcli.ops import OPS
from gradcli.problem import pose

Contender = Callable[[], Any]


def contenders(network: Network, threads: int) -> dict[str, Contender]:
    """Forward, reverse, and torch's reverse where it is installed; each returns its result."""
    model = read(network.model, OPS)
    outputs = [v.name for v in model.graph.outputs]
    bars = None
    session = runtime.prepare(model, threads=threads)
    y = session.run(network.inputs)[outputs[0]]
    bars = {outputs[0]: np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)}
    problem = pose(model, network.inputs, operator="vjp", cotangents=bars, threads=threads)
    program = Program(ENGINES["reverse"], problem)
    found: dict[str, Contender] = {
        "forward": lambda: session.run(network.inputs),
        "reverse": lambda: program.run().blocks["", "x"],
    }
    if (peer := _torch(network, bars[outputs[0]], threads)) is not None:
        found["torch"] = peer
        ours, theirs = found["reverse"](), peer()
        scale = np.abs(theirs).max()
        if not np.abs(ours - theirs).max() < 1e-3 * scale:
            sys.exit(f"{network.name}: results differ by {np.abs(ours - theirs).max() / scale:.2g}")
    return found


def _torch(network: Network, bar: np.ndarray, threads: int) -> Contender | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    (array,) = network.inputs.values()
    x = torch.from_numpy(array.copy()).requires_grad_()
    weights = torch.from_numpy(bar)

    def run() -> np.ndarray:
        (x_bar,) = torch.autograd.grad(network.torch(x), x, weights)
        return np.asarray(x_bar)

    return run


def race(found: dict[str, Contender], repeats: int) -> dict[str, list[float]]:
    """Times of each, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in found}
    for k in range(repeats + 2):
        for name, call in found.items():
            start = time.perf_counter()
            call()
            if k >= 2:
                times[name].append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    columns = ("forward", "reverse", "torch", "÷ forward", "÷ torch")
    print(f"{'network':32}" + "".join(f"{name:>11}" for name in columns))
    for network in (mlp(1), mlp(32), resnet18(1), resnet18(8)):
        times = race(contenders(network, args.threads), args.repeats)
        m = {name: statistics.median(t) * 1e3 for name, t in times.items()}
        cells = [
            f"{m['forward']:11.3f}{m['reverse']:11.3f}",
            f"{m['reverse'] / m['forward']:11.2f}",
        ]
        if "torch" in m:
            cells.insert(1, f"{m['torch']:11.3f}")
            cells.append(f"{m['reverse'] / m['torch']:11.2f}")
        else:
            cells.insert(1, f"{'absent':>11}")
        print(f"{network.name:32}" + "".join(cells), flush=True)
    print("medians in ms")


if __name__ == "__main__":
    main()
