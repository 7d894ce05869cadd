"""Plan a case, look at its numbers, keep it: load, plan, dose, dvh."""

import brachy

case = brachy.load_case("liver-metastasis")
protocol = brachy.load_protocol("liver-metastasis")
plan = brachy.plan(case, protocol)

histogram = brachy.dvh(plan.implants(), case.structure("GTV"))
print(f"{plan.seed_count} seeds in {len(plan.needles)} needles")
print(f"D90 {histogram.D(90):.1f} Gy, V120 {histogram.V(120):.1f} of {histogram.volume_cc:.1f} cc")
for rule in plan.rules:
    print(f"{rule.rule}: {rule.status}")
