"""Planning the liver phantom: seconds of each stage, of the whole command, and peak memory.

Run as `python benchmarks/planning.py [ROUNDS]`. Warm: each command runs once before it is measured, so that kernels are
compiled.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3
CASE = "liver-metastasis"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PARALLEL = ("--arrangement", "parallel")
INDIVIDUAL = ("--arrangement", "individual")
ASKED = {
    f"plan {CASE}, axial": 15,
    f"plan {CASE}, parallel": 20,
    f"plan {CASE}, individual": 35,
    "plan liver_abdomen --direction 255,0": 10,
    "plan liver_abdomen, parallel": 15,
    "plan liver_abdomen, individual": 30,
    "verify day 1": 12,
    "dose day 1": 2,
}
"""Seconds on two quiet cores. "axial": parallel needles without tilt, azimuths in steps of 10 degrees."""


def axial(folder: Path) -> Path:
    """The protocol with parallel needles without tilt, as a file."""
    from brachy import resources

    text = resources.find("plans", CASE).read_text(encoding="utf-8")
    dropped = ("tilt_limits_deg", "arrangement", '"direction.tilt_limits_deg"', '"template.arrangement"')
    kept = [line for line in text.splitlines() if not line.startswith(dropped)]
    path = folder / "axial.toml"
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


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
    phantom = ["plan", CASE, "-o", str(folder / "phantom"), "--force"]
    found = {
        f"plan {CASE}, axial": [*phantom, "--protocol", str(axial(folder))],
        f"plan {CASE}, parallel": [*phantom, *PARALLEL],
        f"plan {CASE}, individual": [*phantom, *INDIVIDUAL],
    }
    liver, day = SHARED / "liver_abdomen", SHARED / "prostate_postimplant_day1"
    if liver.is_dir():
        words = ["plan", str(liver), "-o", str(folder / "liver"), "--force"]
        found["plan liver_abdomen --direction 255,0"] = [*words, "--direction", "255,0"]
        found["plan liver_abdomen, parallel"] = [*words, *PARALLEL]
        found["plan liver_abdomen, individual"] = [*words, *INDIVIDUAL]
    if day.is_dir():
        plan, case = str(day / "dicom" / "PL001.dcm"), str(day / "dicom")
        found["verify day 1"] = ["verify", plan, case, "-o", str(folder / "verified"), "--force"]
        found["dose day 1"] = ["dose", plan, "-o", str(folder / "dose.dcm"), "--force"]
    return found


def measured(rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Least seconds of each command, the commands taking turns, and the most memory of each in GB."""
    with tempfile.TemporaryDirectory() as name:
        jobs = commands(Path(name))
        seconds: dict[str, list[float]] = {job: [] for job in jobs}
        memory: dict[str, float] = {}
        for turn in range(rounds + 1):
            for job, words in jobs.items():
                start = time.perf_counter()
                with subprocess.Popen(
                    [sys.executable, "-m", "brachy", *words],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                ) as process:
                    _, status, used = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise RuntimeError(f"brachy {' '.join(words)} ended with {process.returncode}")
                memory[job] = max(memory.get(job, 0.0), used.ru_maxrss / 1e6)
                if turn:
                    seconds[job].append(time.perf_counter() - start)
    return {job: min(found) for job, found in seconds.items()}, memory


def main() -> None:
    print(f"Planning {CASE} on {platform.processor() or platform.machine()}, {os.cpu_count()} cores, warm")
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    # commands first: a child's peak begins at what this process holds, which a plan of its own would make large
    found, peaks = measured(rounds)
    for name, value in stages().items():
        print(f"  stage {name:12s} {value:7.2f} s")
    for job, value in found.items():
        asked = ASKED.get(job)
        limit = f"; at most {asked} s is asked for" if asked else ""
        print(f"  {job:40s} {value:6.2f} s (least of {rounds}{limit})")
    for job, peak in peaks.items():
        print(f"  peak memory of {job:35s} {peak:5.2f} GB")


if __name__ == "__main__":
    main()
