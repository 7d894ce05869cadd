"""Simulated procedures: the plan changed after every needle, against the same plan carried out unchanged.

Run as `python benchmarks/procedures.py CASE FIRST LAST` (liver-metastasis, or the folder of a CT with a tumour); each
procedure prints a line, and `python benchmarks/procedures.py --table FILE...` makes the table of docs/replan.md.

A needle deviates by the published figures (brachy/data/uncertainty.toml: entry and tip displaced independently, seeds
along and across); one needle that is planned cannot be placed; two seeds are lost. Both arms meet the same errors:
those of a hole are drawn from the number of the procedure, the hole, and how often it was used. V100 and D90 are those
of the fine samples.
"""

import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brachy.evaluation.scenarios import load_uncertainties
from brachy.io.load import load_case
from brachy.io.phantom.file import load_phantom
from brachy.optimise import plan as plan_case
from brachy.optimise.control import SearchControl
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.optimise.replanning.reopen import Opened, problem_with
from brachy.optimise.replanning.replan import continued, figures_of, search_rest
from brachy.optimise.replanning.state import opened_for, stand
from brachy.output.csv_tables import in_order_of_insertion
from brachy.patient.plan import Plan, PlanNeedle
from brachy.patient.protocol import load_protocol

ERRORS = load_uncertainties()
FIRST_MM = 2.25
"""Tip to the centre of the first seed: half a capsule (plans/liver-metastasis.toml, AAPM TG-43U1)."""

MOST_ROUNDS = 80


def placed_seeds(needle: PlanNeedle, column: Sequence[float], number: int, turn: int = 0) -> np.ndarray:
    """Where the seeds of a needle that are not in yet come to lie in procedure `number`: (k, 3), from the tip."""
    rng = np.random.default_rng([number, zlib.crc32(f"{needle.template}:{needle.hole}".encode()), turn])
    direction = np.array(needle.direction)
    back = np.array([s.depth_mm for s in sorted(needle.seeds, key=lambda s: s.depth_mm) if not s.placed])
    off = back[0] - FIRST_MM  # where it is used again its tip goes no deeper than its own first seed needs
    back = back - off
    planned_tip = np.array(needle.tip_mm) - off * direction
    first = np.array(column) - (np.array(column) @ direction) * direction
    first /= np.linalg.norm(first)
    across = np.array([first, np.cross(direction, first)])
    entry = np.array(needle.skin_mm) + ERRORS.needle.entry_mm * rng.standard_normal(2) @ across
    frame = np.vstack([across, direction])
    tip = planned_tip + ERRORS.needle.tip_mm * rng.standard_normal(3) @ frame
    axis = (tip - entry) / np.linalg.norm(tip - entry)
    along = ERRORS.seed.along_mm * rng.standard_normal(60)[: len(back)]
    side = ERRORS.seed.across_mm * rng.standard_normal((60, 2))[: len(back)] @ across
    return tip - (back - along)[:, None] * axis + side


def troubles(plan: Plan, number: int) -> tuple[tuple[int, str], set[tuple[int, str]]]:
    """The needle that cannot be placed, and the needles of which the first seed is lost."""
    rng = np.random.default_rng([number, 7])
    names = [(n.template, n.hole) for n in plan.needles]
    picked = rng.permutation(len(names))[:3]
    return names[picked[0]], {names[k] for k in picked[1:]}


def unchanged(plan: Plan, number: int) -> Plan:
    """The plan carried out with the errors of a procedure."""
    blocked, losing = troubles(plan, number)
    done = []
    for needle in plan.needles:
        key = (needle.template, needle.hole)
        if key == blocked:
            continue
        places = placed_seeds(needle, plan.templates[needle.template].column, number)
        ordered = sorted(needle.seeds, key=lambda s: s.depth_mm)
        seeds = [
            seed.model_copy(update={"position_mm": tuple(place.tolist()), "placed": True})
            for seed, place in zip(ordered, places, strict=True)
        ]
        done.append(needle.model_copy(update={"seeds": tuple(seeds[1 if key in losing else 0 :])}))
    return plan.model_copy(update={"needles": tuple(done)})


def changed(plan: Plan, opened: Opened, number: int) -> tuple[Plan, int]:
    """The plan changed after every needle, with the same errors; and how often it was planned again."""
    blocked, losing = troubles(plan, number)
    now, rounds = plan, 0
    turns: dict[tuple[int, str], int] = {}
    while rounds < MOST_ROUNDS:
        left = [n for n in in_order_of_insertion(now) if not all(s.placed for s in n.seeds)]
        if not left:
            break
        needle = left[0]
        key = (needle.template, needle.hole)
        turn = turns.get(key, 0)
        turns[key] = turn + 1
        if key == blocked:
            placed = Placed({}, frozenset(), frozenset({key}), {})
        else:
            places = placed_seeds(needle, now.templates[needle.template].column, number, turn)
            ordered = sorted(needle.seeds, key=lambda s: s.depth_mm)
            names = [(*key, k) for k, seed in enumerate(ordered, 1) if not seed.placed]
            lost = frozenset(names[:1]) if key in losing and turn == 0 else frozenset()
            seeds = {
                name: tuple(place.tolist())
                for name, place in zip(names, places, strict=True)
                if name not in lost
            }
            placed = Placed(seeds, lost, frozenset(), {})
        gone = frozenset({blocked}) if blocked in turns else frozenset()
        placed = replace(placed, blocked=placed.blocked | gone)
        here = replace(opened, plan=now)
        standing = stand(now, here, placed)
        problem, found, _, raised = search_rest(now, standing, SearchControl(number))
        needles, sources = continued(now, standing, problem, found)
        effort = now.optimiser.having(raised_for_goals=raised)
        now = now.model_copy(
            update={"needles": tuple(needles), "sources": tuple(sources), "optimiser": effort}
        )
        rounds += 1
    return now, rounds


def reached(plan: Plan, opened: Opened) -> tuple[float, float]:
    """V100 in % and D90 in Gy of the first target for a plan all of whose seeds are in."""
    problem = problem_with(replace(opened, plan=plan), plan.needles, set())
    figures = figures_of(problem, problem.arrays.base)
    worst = next(iter(figures.values()))
    return worst["V100_pct"], worst["D90_gy"]


def run(name: str, first: int, last: int) -> None:
    case = load_case(name) if Path(name).exists() else load_phantom(name)
    plan = plan_case(case, load_protocol("liver-metastasis"), threads=1)
    opened = opened_for(plan, case)
    for number in range(first, last):
        before = reached(unchanged(plan, number), opened)
        final, rounds = changed(plan, opened, number)
        after = reached(final, opened)
        print(
            f"{Path(name).name},{number},{before[0]:.4f},{before[1]:.4f},{after[0]:.4f},{after[1]:.4f},"
            f"{plan.seed_count},{final.seed_count},{rounds}",
            flush=True,
        )


def table(files: Sequence[str]) -> None:
    """The table of docs/replan.md."""
    rows = [line.strip().split(",") for file in files for line in Path(file).read_text().splitlines()]
    print("| case | procedures | median V100 %, unchanged | replanned | mean gain in V100 % (95 % interval) "
          "| mean gain in D90 Gy (95 % interval) | not worse and better somewhere |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row[0] for row in rows):
        values = np.array([[float(v) for v in row[2:6]] for row in rows if row[0] == name])
        v, d = values[:, 2] - values[:, 0], values[:, 3] - values[:, 1]
        good = (v >= 0) & (values[:, 3] >= 0.995 * values[:, 1]) & ((v > 0) | (d > 0))
        gains = []
        for gain in (v, d):
            half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
            gains.append(f"{gain.mean():+.2f} ({gain.mean() - half:.2f} to {gain.mean() + half:.2f})")
        print(
            f"| {name} | {len(values)} | {np.median(values[:, 0]):.1f} | {np.median(values[:, 2]):.1f} "
            f"| {gains[0]} | {gains[1]} | {100 * good.mean():.0f} % |"
        )


if __name__ == "__main__":
    if sys.argv[1] == "--table":
        table(sys.argv[2:])
    else:
        run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
