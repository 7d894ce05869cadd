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

ROUNDS = 3
CASE = "liver-metastasis"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ASKED = {
    f"plan {CASE}": 15,
    "plan liver_abdomen --direction 255,0": 10,
    "verify day 1": 12,
    "dose day 1": 2,
}
"""Seconds on two quiet cores."""


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


def commands(folder: Path) -> dict[str, list[str]]:
    """Commands by name: of the phantom, and of the clinical cases where they lie beside the checkout."""
    found = {f"plan {CASE}": ["plan", CASE, "-o", str(folder / "phantom"), "--force"]}
    liver, day = SHARED / "liver_abdomen", SHARED / "prostate_postimplant_day1"
    if liver.is_dir():
        words = ["plan", str(liver), "--direction", "255,0", "-o", str(folder / "liver"), "--force"]
        found["plan liver_abdomen --direction 255,0"] = words
    if day.is_dir():
        plan, case = str(day / "dicom" / "PL001.dcm"), str(day / "dicom")
        found["verify day 1"] = ["verify", plan, case, "-o", str(folder / "verified"), "--force"]
        found["dose day 1"] = ["dose", plan, "-o", str(folder / "dose.dcm"), "--force"]
    return found


def measured(rounds: int) -> tuple[dict[str, float], float]:
    """Least seconds of each command, the commands taking turns, and the most memory of any in GB."""
    with tempfile.TemporaryDirectory() as name:
        jobs = commands(Path(name))
        seconds: dict[str, list[float]] = {job: [] for job in jobs}
        for turn in range(rounds + 1):
            for job, words in jobs.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, "-m", "brachy", *words], check=True, capture_output=True)
                if turn:
                    seconds[job].append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return {job: min(found) for job, found in seconds.items()}, peak


def main() -> None:
    print(f"Planning {CASE} on {platform.processor() or platform.machine()}, {os.cpu_count()} cores, warm")
    for name, value in stages().items():
        print(f"  stage {name:12s} {value:7.2f} s")
    found, peak = measured(ROUNDS)
    for job, value in found.items():
        asked = ASKED.get(job)
        limit = f"; at most {asked} s is asked for" if asked else ""
        print(f"  {job:40s} {value:6.2f} s (least of {ROUNDS}{limit})")
    print(f"  peak memory of any {peak:27.2f} GB (at most 0.65 GB is asked for the phantom)")


if __name__ == "__main__":
    main()
