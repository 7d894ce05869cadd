"""Monte Carlo of the liver phantom's implant: 1,000 scenarios, target and three organs, seconds and scenarios a second.

Run as `python benchmarks/robustness.py`. Warm: a short series runs first, so that kernels are compiled.
"""

import os
import platform
import time
from statistics import median

SAMPLES = 1000
ROUNDS = 3
ORGANS = ("Liver", "PortalVein", "Rib 9 R")


def seconds() -> tuple[list[float], int]:
    """Seconds of each round, and the number of seeds."""
    from brachy.evaluation.robustness import robust
    from brachy.io.phantom.file import load_phantom
    from brachy.optimise import plan
    from brachy.patient.protocol import load_protocol

    case = load_phantom("liver-metastasis")
    made = plan(case, load_protocol("liver-metastasis"))
    structures = [s for s in case.structures if s.name in ("GTV", *ORGANS)]
    robust(made, structures, samples=20)
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        robust(made, structures, samples=SAMPLES)
        found.append(time.perf_counter() - start)
    return found, made.seed_count


def main() -> None:
    found, seeds = seconds()
    middle = median(found)
    print(f"Monte Carlo on {platform.processor() or platform.machine()}, {os.cpu_count()} cores, warm")
    print(f"  {SAMPLES} scenarios of {seeds} seeds, {1 + len(ORGANS)} structures: {middle:.2f} s (median of {ROUNDS}), "
          f"{SAMPLES / middle:.0f} a second; at most 10 s is asked for")  # fmt: skip


if __name__ == "__main__":
    main()
