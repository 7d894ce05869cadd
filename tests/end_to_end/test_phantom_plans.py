"""Whole plans of the phantoms: the clinic's numbers, every rule, reproducibility, and what obstacles do."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from brachy.io.phantom.file import load_phantom
from brachy.optimise import plan
from brachy.patient.protocol import change
from tests.quick_protocol import AXIAL, SEARCH, STEP_DEG, quick_text

LIFT = np.array([0.0, 0.0, 10.0])
QUICK = change(
    AXIAL,
    search={"starts": 2, "moves": 15_000, "fine_moves": 5_000, "scan_moves": 500, "layouts": 1},
)
"""Two starts of an eighth of the effort."""
BETWEEN_RIBS = (280.0, 0.0)
"""A direction of the liver phantom in which ribs stand in the way of some holes."""


def planned_by_command(*words: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "brachy", "plan", *words, "--json"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_a_plan_is_the_same_on_one_and_two_threads(tmp_path):
    """Byte-identical plan.json, with several directions and starts to share out; of the liver in `make property`."""
    protocol = tmp_path / "quick.toml"
    several = {"starts": 3, "scan_moves": 1000, "fine_moves": 2000, "directions": 2, "layouts": 2}
    text = quick_text(search=SEARCH | several).replace(
        f"azimuth_step_deg = {STEP_DEG}", "azimuth_step_deg = 180.0"
    )
    protocol.write_text(text, encoding="utf-8")
    phantom = "liver-metastasis" if "PROPERTY_EXAMPLES" in os.environ else "sphere-35mm"
    words = (phantom, "--protocol", str(protocol), "--seed", "1", "--threads")
    assert planned_by_command(*words, "1") == planned_by_command(*words, "2")


def test_the_liver_phantom_meets_the_clinic_s_numbers():
    """V100 >= 96 %, D90 >= 120 Gy, V150 <= 55 %, V200 <= 25 %, every rule met, with the whole effort."""
    made = json.loads(planned_by_command("liver-metastasis", "--seed", "1", "--arrangement", "parallel"))
    target = made["evaluation"]["structures"]["GTV"]
    assert target["V100_pct"] >= 96
    assert target["D90_gy"] >= 120
    assert target["V150_pct"] <= 55
    assert target["V200_pct"] <= 25
    assert [rule for rule in made["rules"] if rule["status"] == "broken"] == []
    # met outright here, not excused as out of reach
    edges = [rule for rule in made["rules"] if rule["rule"].startswith("target edge")]
    assert edges
    assert all(rule["worst"] <= 10.001 for rule in edges)


def test_a_moved_rib_changes_needles_and_no_obstacles_never_worsen_the_plan():
    case = load_phantom("liver-metastasis")
    ribs = [s for s in case.structures if s.name.startswith("Rib") and s.name.endswith(" R")]
    with_ribs = plan(case, QUICK, direction=BETWEEN_RIBS)
    used = {needle.hole for needle in with_ribs.needles}
    raised = [replace(s, contours_mm=tuple(c + LIFT for c in s.contours_mm)) for s in ribs]
    moved = plan(case.having(*raised), QUICK, direction=BETWEEN_RIBS)
    assert {needle.hole for needle in moved.needles} != used
    free = replace(case, structures=tuple(s for s in case.structures if s.name in ("GTV", "Body")))
    without = plan(free, change(QUICK, obstacles={"roles": []}), direction=BETWEEN_RIBS)
    assert without.optimiser.objective <= with_ribs.optimiser.objective * (1 + 1e-9)


@pytest.mark.parametrize(("gy", "mci"), [(110.0, 0.6), (145.0, 0.7), (180.0, 0.8)])
def test_prescriptions_and_activities_in_open_water(gy, mci):
    """V100 >= 95 % and D90 within 1.0 to 1.25 of the prescription."""
    made = plan(
        load_phantom("ellipsoid-87mm"),
        change(QUICK, prescription={"dose_gy": gy}, source={"activity_mCi": mci}),
        direction=(0.0, 0.0),
    )
    (target,) = made.targets
    found = made.evaluation.structures[target.roi]
    assert found["V100_pct"] >= 95
    assert 1.0 <= found["D90_gy"] / gy <= 1.25
    assert [rule.rule for rule in made.rules if rule.broken] == []
    assert made.sources[0].air_kerma_strength_U == pytest.approx(1.27 * mci, rel=1e-5)
