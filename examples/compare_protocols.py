"""One case under several protocols: what more dose, or a margin, costs in seeds and in healthy tissue.

usage: compare_protocols.py [CASE]
"""

import sys

import brachy
from brachy.patient.protocol import change


def main(name: str = "sphere-35mm") -> list[tuple[str, float, float, int]]:
    case = brachy.load_case(name)
    usual = brachy.load_protocol("liver-metastasis")
    protocols = {
        "120 Gy": usual,
        "140 Gy": change(usual, prescription={"dose_gy": 140.0}),
        "120 Gy, margin 3 mm": change(usual, target={"margin_mm": 3.0}),
    }
    rows = []
    for title, protocol in protocols.items():
        plan = brachy.plan(case, protocol, direction=(0, 0))
        target = plan.targets[0]
        found = plan.evaluation.structures[target.planned_roi]
        rows.append((title, found["D90_gy"], found["V100_pct"], plan.seed_count))
        print(
            f"{title:22} D90 {found['D90_gy']:6.1f} Gy   V100 {found['V100_pct']:5.1f} %   {plan.seed_count} seeds"
        )
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
