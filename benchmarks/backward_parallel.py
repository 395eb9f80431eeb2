"""Do backward passes of several devices run at the same time?

Four graphs, one on each of four CPU devices, one thread each: their common wall time against that
of one graph, from one Python thread for each graph and from one call over all four; then the same
beside a Python thread that spins. Prints one JSON line a case. Needs at least four idle cores to
mean anything.

    python benchmarks/backward_parallel.py --devices 4 --size 512 --depth 40
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import vibetensor
import vibetensor.torch as torch


def graph(device: str, size: int, depth: int) -> Any:
    """A chain of products on one device; the root's backward is nearly all matrix products."""
    x = torch.full((size, size), 1.0 / size, device=device, requires_grad=True)
    y = x
    for _ in range(depth):
        y = torch.tanh(y @ x)
    return y.sum()


def wall(prepare: Callable[[], Any], run: Callable[[Any], None], rounds: int) -> float:
    """Median seconds of `run`, after one warm-up."""
    times = []
    for _ in range(rounds + 1):
        prepared = prepare()
        start = time.perf_counter()
        run(prepared)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def in_threads(roots: list[Any]) -> None:
    threads = [threading.Thread(target=root.backward) for root in roots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(devices: list[str], size: int, depth: int, rounds: int) -> dict[str, float]:
    def roots() -> list[Any]:
        return [graph(device, size, depth) for device in devices]

    def joined() -> Any:
        total = roots()
        return sum((root.to(devices[0]) for root in total[1:]), start=total[0])

    return {
        "one_s": wall(lambda: graph(devices[0], size, depth), lambda root: root.backward(), rounds),
        "threads_s": wall(roots, in_threads, rounds),
        "workers_s": wall(joined, lambda root: root.backward(), rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--depth", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    vibetensor.set_cpu_devices(arguments.devices)
    devices = [f"cpu:{i}" for i in range(arguments.devices)]
    single = {"devices": arguments.devices, "size": arguments.size, "depth": arguments.depth}
    for spinning in (False, True):
        stop = threading.Event()

        def spin(stop: threading.Event = stop) -> None:
            while not stop.is_set():
                pass

        spinner = threading.Thread(target=spin)
        if spinning:
            spinner.start()
        # One thread a pass, alone as well as beside others.
        torch.set_num_threads(1)
        times = measure(devices, arguments.size, arguments.depth, arguments.rounds)
        stop.set()
        if spinning:
            spinner.join()
        line = {
            "case": "backward_parallel",
            "spinning_thread": spinning,
            **single,
            **{name: round(value, 5) for name, value in times.items()},
            "threads_ratio": round(times["threads_s"] / times["one_s"], 3),
            "workers_ratio": round(times["workers_s"] / times["one_s"], 3),
            "cores": os.cpu_count(),
            "version": torch.__version__,
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
