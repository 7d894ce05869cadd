"""The planner on the declared phantoms: the numbers a plan must reach, what it reaches, and the seconds it takes.

Run as `python benchmarks/planner_numbers.py [CASE ...]`. Direction and offset are fixed where the table says so;
`search` is annealing and descent (stages greedy, search, polish, goals), warm; the liver phantom is the whole `plan`.
0.7 mCi, 120 Gy, 5 mm steps, every rule of the protocol on.
"""

import sys
import time
from dataclasses import dataclass
from typing import Any

from brachy.io.phantom.file import load_phantom
from brachy.optimise import plan
from brachy.patient.plan import Plan
from brachy.patient.protocol import change, load_protocol

SEARCH_STAGES = ("greedy", "search", "polish", "goals")


@dataclass(frozen=True)
class Row:
    """A case: phantom, direction, pitch, threads, and the bounds (least, most) asked of it."""

    name: str
    phantom: str
    direction: tuple[float, float] | None
    pitch_mm: float
    threads: int
    asked: dict[str, tuple[float, float]]


NEVER = float("inf")
ROWS = (
    Row("ellipsoid along", "ellipsoid-87mm", (0.0, 0.0), 10.0, 1,
        {"V100_pct": (97, NEVER), "D90_gy": (130, 140), "V150_pct": (0, 48), "V200_pct": (0, 18), "CI": (0.92, 1),
         "seeds": (0, 84), "needles": (0, 22), "search_s": (0, 3)}),
    Row("ellipsoid across", "ellipsoid-87mm", (90.0, 0.0), 10.0, 1,
        {"V150_pct": (0, 46), "V200_pct": (0, 17), "CI": (0.91, 1), "needles": (0, 28)}),
    Row("ellipsoid along, 5 mm pitch", "ellipsoid-87mm", (0.0, 0.0), 5.0, 1,
        {"V150_pct": (0, 38), "V200_pct": (0, 13), "search_s": (0, 12)}),
    Row("ellipsoid across, 5 mm pitch", "ellipsoid-87mm", (90.0, 0.0), 5.0, 1,
        {"V150_pct": (0, 38), "V200_pct": (0, 13), "search_s": (0, 12)}),
    Row("sphere 35 mm", "sphere-35mm", (0.0, 0.0), 10.0, 1,
        {"V100_pct": (98, NEVER), "seeds": (0, 22), "CI": (0.80, 1), "V200_pct": (0, 34), "search_s": (0, 0.3)}),
    Row("liver phantom", "liver-metastasis", None, 10.0, 2,
        {"V100_pct": (97, NEVER), "whole_s": (0, 15)}),
)  # fmt: skip


class Clock:
    """Seconds spent in each stage, as the planner's progress names them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = ("", time.perf_counter())

    def __call__(self, stage: str, best: dict[str, float] | None = None) -> None:
        now = time.perf_counter()
        name, since = self.last
        self.seconds[name] = self.seconds.get(name, 0.0) + now - since
        self.last = (stage.split(" ")[0], now)


def measured(row: Row, seed: int = 0) -> tuple[Plan, dict[str, float]]:
    """The plan of a row and its numbers."""
    protocol = change(load_protocol("liver-metastasis"), template={"pitch_mm": row.pitch_mm})
    clock = Clock()
    start = time.perf_counter()
    made = plan(
        load_phantom(row.phantom),
        protocol,
        direction=row.direction,
        threads=row.threads,
        seed=seed,
        progress=clock,
    )
    values: dict[str, Any] = dict(made.evaluation.structures["GTV"])
    values["seeds"], values["needles"] = made.seed_count, len(made.needles)
    values["search_s"] = sum(clock.seconds.get(stage, 0.0) for stage in SEARCH_STAGES)
    values["whole_s"] = time.perf_counter() - start
    values["objective"] = made.optimiser.objective
    return made, values


def main() -> None:
    names = sys.argv[1:]
    rows = [row for row in ROWS if not names or any(name in row.name for name in names)]
    plan(load_phantom("sphere-35mm"), load_protocol("liver-metastasis"), direction=(0, 0), threads=1)
    print("| case | V100 % | D90 Gy | V150 % | V200 % | CI | seeds | needles | F | search s | missed |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        made, got = measured(row)
        missed = [
            f"{key} {got[key]:.4g} (asked {low:g}-{high:g})"
            for key, (low, high) in row.asked.items()
            if not low <= got[key] <= high
        ]
        missed += [f"rule {rule.rule}" for rule in made.rules if rule.broken]
        print(
            f"| {row.name} | {got['V100_pct']:.2f} | {got['D90_gy']:.1f} | {got['V150_pct']:.1f} "
            f"| {got['V200_pct']:.1f} | {got['CI']:.3f} | {got['seeds']} | {got['needles']} "
            f"| {got['objective']:.4f} | {got['search_s']:.2f} ({got['whole_s']:.1f} in all) "
            f"| {'; '.join(missed) or 'none'} |",
            flush=True,
        )
    spread_rows = [row for row in rows if row.name in ("ellipsoid along", "sphere 35 mm")]
    for row in spread_rows:
        values = [measured(row, seed)[1]["objective"] for seed in range(5)]
        print(f"five seeds, {row.name}: {(max(values) / min(values) - 1) * 100:.2f} % apart ({values})")


if __name__ == "__main__":
    main()
