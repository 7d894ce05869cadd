"""Planning the liver phantom: seconds of each stage, of the whole command, and peak memory.

Run as `python benchmarks/planning.py`. Warm: the command runs once before it is measured, so that kernels are compiled.
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROUNDS = 3
CASE = "liver-metastasis"


def stages() -> dict[str, float]:
    """Seconds of each stage of one warm plan in this process, by the planner's own progress."""
    from brachy.io.phantom.file import load_phantom
    from brachy.optimise import plan
    from brachy.patient.protocol import load_protocol

    case, protocol = load_phantom(CASE), load_protocol(CASE)
    plan(case, protocol)
    seconds: dict[str, float] = {}
    last = ("", time.perf_counter())

    def seen(stage: str, best: dict[str, float] | None = None) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[last[0]] = seconds.get(last[0], 0.0) + now - last[1]
        last = (stage.split(" ")[0], now)

    plan(case, protocol, progress=seen)
    seen("")
    return {name: value for name, value in seconds.items() if name}


def command() -> tuple[float, float]:
    """Median seconds of the whole command, and its peak memory in GB."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS + 1):
            start = time.perf_counter()
            words = [sys.executable, "-m", "brachy", "plan", CASE, "-o", str(Path(folder) / "out"), "--force"]
            subprocess.run(words, check=True, capture_output=True)
            if turn:
                seconds.append(time.perf_counter() - start)
    return median(seconds), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6


def main() -> None:
    print(f"Planning {CASE} on {platform.processor() or platform.machine()}, {os.cpu_count()} cores, warm")
    for name, value in stages().items():
        print(f"  stage {name:12s} {value:7.2f} s")
    whole, peak = command()
    print(f"  whole command {whole:10.2f} s (median of {ROUNDS}; at most 20 s is asked for)")
    print(f"  peak memory   {peak:10.2f} GB (at most 1.5 GB is asked for)")


if __name__ == "__main__":
    main()
