"""The lower bound on fixed objectives: gap to the best plan found, and seconds.

Run as `python benchmarks/certificate.py`. "coverage + seeds + needles": underdose 150, seed 0.02, needle 0.035 and
nothing else; "full": the protocol's own objective. Ellipsoid across its long axis, pitch 12 mm (about 230 candidates).
"""

import time
from pathlib import Path
from typing import Any

import brachy.optimise.planner as planner
from brachy.io.load import load_case
from brachy.io.phantom.file import load_phantom
from brachy.optimise.certificate import certificate
from brachy.patient.protocol import change, load_protocol

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "liver_abdomen"
"""A CT with a liver tumour, where it is at hand."""

COVERAGE = {
    "underdose": 150.0, "over_150": 0.0, "over_200": 0.0, "spill": 0.0, "organ": 0.0,
    "lateral": 0.0, "out_of_reach": 0.0, "seed": 0.02, "needle": 0.035,
}  # fmt: skip
CASES: tuple[tuple[str, str, tuple[float, float] | None, float, dict[str, Any]], ...] = (
    ("coverage + seeds + needles", "ellipsoid-87mm", (90.0, 0.0), 12.0, COVERAGE),
    ("full", "ellipsoid-87mm", (90.0, 0.0), 12.0, {}),
    ("full", "sphere-35mm", (0.0, 0.0), 10.0, {}),
    ("full", "liver-metastasis", None, 10.0, {}),
    ("full", str(REAL), None, 10.0, {}),
)


def main() -> None:
    seconds = [0.0]

    def timed(arrays: Any, terms: Any, value: float) -> dict[str, Any]:
        start = time.perf_counter()
        found = certificate(arrays, terms, value)
        seconds[0] = time.perf_counter() - start
        return found

    planner.certificate = timed  # type: ignore[attr-defined]
    print("| objective | case | candidates | samples | best found | bound | gap % | s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, phantom, direction, pitch, weights in CASES:
        base = load_protocol("liver-metastasis").model_copy(update={"goals": ()})
        citations = {key: text for key, text in base.citations.items() if key != "goals"}
        base = base.model_copy(update={"citations": citations})
        protocol = change(base, template={"pitch_mm": pitch}, objective=weights)
        if not Path(phantom).exists() and "/" in phantom:
            continue
        case = load_case(phantom) if "/" in phantom else load_phantom(phantom)
        made = planner.plan(case, protocol, direction=direction, certify=True).optimiser
        print(
            f"| {name} | {Path(phantom).name} | {made.candidates} | {made.samples} | {made.objective:.4f} "
            f"| {made.lower_bound:.4f} | {100 * made.gap_relative:.1f} | {seconds[0]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
