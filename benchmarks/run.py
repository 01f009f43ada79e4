"""Speed ratios against plain loops and JAX, interleaved in one run: `make bench`, `python benchmarks/run.py [NAME ...]`.

Each contest times its contestants in turn, several rounds, and reports the median of the ratios of a round: a load from
elsewhere then slows all of them alike. CPU seconds of one thread are what counts on the CPU, wall time on a GPU.
The live panels are measured in a browser, in wall time: run them on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import contests
import curvature
import live
import modules
import torch

CONTESTS = contests.CONTESTS | curvature.CONTESTS | modules.CONTESTS
ROUNDS = 5
SECONDS = 0.4  # of work a contestant and round


def rate(step, device: str) -> float:
    """Units of work per second: `step(n)` does n of them."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    n, spent = 1, 0.0
    while spent < SECONDS:
        n = max(n + 1, int(n * min(10, 1.2 * SECONDS / spent))) if spent else n
        if device != "cpu":
            torch.cuda.synchronize()
        began = clock()
        step(n)
        if device != "cpu":
            torch.cuda.synchronize()
        spent = clock() - began
    return n / spent


def contest(name: str, device: str) -> dict:
    """Ratios of each contestant to the plain loop, the first of them."""
    contestants = {k: make() for k, make in CONTESTS[name](device).items()}
    for step in contestants.values():
        step(2)  # compile and warm up
    rounds = [{k: rate(step, device) for k, step in contestants.items()} for _ in range(ROUNDS)]
    plain = next(iter(contestants))
    return {
        k: {
            "per_second": statistics.median(r[k] for r in rounds),
            "ratio": statistics.median(r[k] / r[plain] for r in rounds),
            "lowest": min(r[k] / r[plain] for r in rounds),
            "highest": max(r[k] / r[plain] for r in rounds),
        }
        for k in contestants
    }


def machine(device: str) -> dict:
    """Where the numbers come from."""
    gpu = torch.cuda.get_device_name() if device != "cpu" else None
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "threads": torch.get_num_threads(), "dtype": "float32", "gpu": gpu, "torch": torch.__version__}


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*CONTESTS, *live.PANELS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"contests and panels, default all: {', '.join(known)}")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"unknown contest {', '.join(unknown)}; there are: {', '.join(known)}")
    names = arguments.names or known
    torch.set_num_threads(1)
    where = machine(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in where.items() if v))
    found = {}
    for name in (n for n in names if n in CONTESTS):
        found[name] = contest(name, arguments.device)
        print(f"\n{name}")
        for k, r in found[name].items():
            print(f"  {k:<28} {r['per_second']:>12,.0f}/s   {r['ratio']:7.2f} x  ({r['lowest']:.2f} to {r['highest']:.2f})")
    panels = live.report([name for name in names if name in live.PANELS])
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": where, "contests": found, "panels": panels}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
