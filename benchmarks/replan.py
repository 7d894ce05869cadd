"""Replanning in the operating room: seconds after loading, and the time that the cache saves.

Run as `python benchmarks/replan.py`. The liver phantom with a third of its needles placed 3 mm off; loading (the plan,
the case, the candidates of its holes) is left out, evaluation too.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from brachy.io.phantom.file import load_phantom
from brachy.optimise import plan as plan_case
from brachy.optimise.control import SearchControl
from brachy.optimise.replanning.implanted_so_far import Placed
from brachy.optimise.replanning.reopen import problem_with
from brachy.optimise.replanning.replan import search_rest
from brachy.optimise.replanning.state import opened_for, stand
from brachy.patient.protocol import load_protocol

ROUNDS = 5


def main() -> None:
    case = load_phantom("liver-metastasis")
    plan = plan_case(case, load_protocol("liver-metastasis"))
    seeds = {
        (n.template, n.hole, k): tuple(np.add(s.position_mm, (3.0, 0.0, 0.0)).tolist())
        for n in plan.needles[: len(plan.needles) // 3]
        for k, s in enumerate(n.seeds, 1)
    }
    start = time.perf_counter()
    opened = opened_for(plan, case)
    loading = time.perf_counter() - start
    standing = stand(plan, opened, Placed(seeds, frozenset(), frozenset(), {}))
    whole, bare, cached = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        kept = replace(standing.opened, cache=Path(folder))
        problem_with(kept, standing.fixed, standing.closed, standing.present)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            search_rest(plan, standing, SearchControl())
            whole.append(time.perf_counter() - start)
            for where, times in ((standing.opened, bare), (kept, cached)):
                start = time.perf_counter()
                problem_with(where, standing.fixed, standing.closed, standing.present)
                times.append(time.perf_counter() - start)
    print("| what | s |")
    print("|---|---|")
    print(f"| replanning after loading, one core (2 asked) | {median(whole):.2f} |")
    print(f"| opening the plan: samples, holes, candidates | {loading:.2f} |")
    print(f"| candidates and matrix, computed | {median(bare):.3f} |")
    print(
        f"| the same from the cache | {median(cached):.3f} ({median(bare) / median(cached):.1f} times as fast) |"
    )


if __name__ == "__main__":
    main()
