"""Monte Carlo: without errors the plan itself; one known error spreads a dose as its derivative says."""

import numpy as np
import pytest

import brachy
from brachy.dosimetry.dvh import dvh
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose
from brachy.errors import BrachyError, UsageError
from brachy.evaluation.robustness import robust, robust_folder
from brachy.evaluation.scenarios import Layout, Uncertainties, draw, load_uncertainties, nominal
from brachy.io.phantom.file import load_phantom
from brachy.patient.protocol import change
from tests.quick_protocol import AXIAL, SEARCH

QUICK = change(AXIAL, search=SEARCH | {"moves": 10_000, "fine_moves": 5_000})


@pytest.fixture(scope="module")
def case():
    return load_phantom("sphere-35mm")


@pytest.fixture(scope="module")
def made(case):
    return brachy.plan(case, QUICK, direction=(0.0, 0.0))


def test_without_errors_the_band_is_the_plan(made, case):
    found = robust(made, case.structures, samples=5, uncertainties=Uncertainties())
    for name, values in found.intervals["GTV"].items():
        assert values.sd == 0, name
        assert values.p2_5 == values.nominal == values.p97_5
    assert found.bands["GTV"].p97_5_gy == found.bands["GTV"].nominal_gy
    assert all(goal.probability in (0.0, 1.0) for goal in found.goals)
    assert all(needle.influence == 0 for needle in found.needles)


def test_nominal_is_the_histogram_of_the_plan(made, case):
    """Against `dvh`, which samples the target anew until it settles."""
    found = robust(made, case.structures, samples=2, uncertainties=Uncertainties()).nominal["GTV"]
    exact = dvh(made.implants(), case.structure("GTV"), prescription_gy=120.0)
    assert found["D90_gy"] == pytest.approx(exact.D(90), rel=0.01)
    assert found["V100_pct"] == pytest.approx(exact.V_pct(120.0), abs=0.5)
    assert found["V150_pct"] == pytest.approx(exact.V_pct(180.0), abs=1.0)


def test_the_same_for_any_number_of_threads(made, case):
    one, two = (robust(made, case.structures, samples=12, threads=count) for count in (1, 2))
    assert one.to_json() == two.to_json()
    other = robust(made, case.structures, samples=12, seed=1)
    assert other.intervals != one.intervals


def test_strength_alone_scales_the_dose(made, case):
    """D90 is proportional to a common factor: its relative SD is that of the factor."""
    errors = Uncertainties.model_validate({"strength": {"common_pct": 1.3}})
    values = robust(made, case.structures, samples=200, uncertainties=errors).intervals["GTV"]["D90_gy"]
    # 200 draws know an SD to 5 %
    assert values.sd / values.nominal == pytest.approx(0.013, rel=0.15)
    assert values.mean == pytest.approx(values.nominal, rel=0.003)


@pytest.mark.parametrize("point", [(15.0, 6.0, 3.0), (0.0, 9.0, 12.0)])
def test_a_seed_s_shift_spreads_a_point_dose_as_the_derivative_says(made, point):
    """One seed moves along its needle by a normal shift: SD of the dose = |dD/ds| sigma (small sigma), within 5 %."""
    layout = Layout.of(made)
    sigma = 0.2
    errors = Uncertainties.model_validate({"seed": {"along_mm": sigma}})
    source = load_source("amersham_6711")
    centre = layout.seeds[0]
    where = centre + np.array(point)

    def at(position):
        return float(dose([where], Implant(source, [position], strength_U=1.0))[0])

    axis = layout.direction[0]
    slope = (at(centre + 0.01 * axis) - at(centre - 0.01 * axis)) / 0.02
    spread = np.std([at(draw(layout, errors, 3, k).seeds[0]) for k in range(2000)], ddof=1)
    assert abs(slope) > 0.01
    assert spread == pytest.approx(abs(slope) * sigma, rel=0.05)


def test_template_figures_give_the_distances_of_the_study(made):
    """PMC8438469: entry 3.4 +- 1.7 mm, tip 4.4 +- 2.9 mm: mean squares 14.45 and 27.77 mm^2."""
    layout = Layout.of(made)
    errors = load_uncertainties().model_copy(update={"seed": Uncertainties().seed})
    tips = []
    for k in range(300):
        scenario = draw(layout, errors, 0, k)
        back = np.linalg.norm(layout.seeds - layout.tip[layout.needle_of], axis=1)
        tips.append(scenario.seeds + back[:, None] * scenario.axes - layout.tip[layout.needle_of])
    first = np.array([tip[0] for tip in tips])
    assert np.mean((first**2).sum(axis=1)) == pytest.approx(4.4**2 + 2.9**2, rel=0.15)
    assert load_uncertainties().needle.entry_mm == pytest.approx(np.sqrt((3.4**2 + 1.7**2) / 2), abs=0.005)
    assert load_uncertainties().needle.tip_mm == pytest.approx(np.sqrt((4.4**2 + 2.9**2) / 3), abs=0.005)


def test_lost_seeds_have_no_strength_and_others_all(made):
    layout = Layout.of(made)
    errors = Uncertainties.model_validate({"seed": {"lost_probability": 0.25}})
    factors = np.concatenate([draw(layout, errors, 0, k).factor for k in range(200)])
    assert set(np.unique(factors)) == {0.0, 1.0}
    assert np.mean(factors == 0) == pytest.approx(0.25, abs=0.03)


def test_what_is_in_the_patient_stays_there(made):
    """Two needles begun: one with all seeds placed, one whose line was measured; the others err as before."""
    first, second, *others = made.needles
    first = first.model_copy(
        update={"seeds": tuple(s.model_copy(update={"placed": True}) for s in first.seeds)}
    )
    second = second.model_copy(update={"in_place": True})
    begun = made.model_copy(update={"needles": (first, second, *others)})
    before, layout = Layout.of(made), Layout.of(begun)
    errors = load_uncertainties().model_copy(
        update={
            "template": Uncertainties.model_validate(
                {"template": {"shift_mm": 2, "rotation_deg": 1}}
            ).template
        }
    )
    for k in range(20):
        free, kept = draw(before, errors, 0, k), draw(layout, errors, 0, k)
        mine, line = layout.needle_of == 0, layout.needle_of == 1
        assert np.array_equal(kept.seeds[mine], layout.seeds[mine])
        assert (kept.factor[mine] > 0).all()
        assert np.array_equal(kept.seeds[layout.needle_of > 1], free.seeds[layout.needle_of > 1])
        off = np.linalg.norm(kept.seeds[line] - layout.seeds[line], axis=1)
        assert 0 < off.max() < 6  # seeds pushed out of a needle that is known: 1 mm along, 0.3 across


def test_a_template_turns_and_shifts_as_one(made):
    layout = Layout.of(made)
    errors = Uncertainties.model_validate({"template": {"shift_mm": 2.0, "rotation_deg": 3.0}})
    moved = draw(layout, errors, 0, 1)
    apart = np.linalg.norm(moved.seeds[:, None] - moved.seeds[None], axis=2)
    planned = np.linalg.norm(layout.seeds[:, None] - layout.seeds[None], axis=2)
    np.testing.assert_allclose(apart, planned, atol=1e-9)
    assert np.linalg.norm(moved.seeds - layout.seeds, axis=1).min() > 0.1


def test_only_some_needles_err(made):
    layout = Layout.of(made)
    moved = draw(layout, load_uncertainties(), 0, 0, only=[0])
    still = layout.needle_of != 0
    assert np.array_equal(moved.seeds[still], nominal(layout).seeds[still])
    assert not np.allclose(moved.seeds[~still], layout.seeds[~still])


def test_a_target_that_may_be_larger_is_covered_less(made, case):
    errors = Uncertainties.model_validate({"contour": {"target_mm": 2.0}})
    values = robust(made, case.structures, samples=40, uncertainties=errors).intervals["GTV"]["V100_pct"]
    assert values.p2_5 < values.nominal - 2
    assert values.sd > 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[needle]\ntip_mm = -1", "needle.tip_mm"),
        ("[needle]\ntip = 1", "needle.tip"),
        ("[seed]\nlost_probability = 2", "seed.lost_probability"),
        ("[needle]\ntip_mm = nan", "needle.tip_mm"),
        ("needle", "TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_field(tmp_path, text, told):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=told):
        load_uncertainties(file)


def test_what_is_missing_is_told(made, case, tmp_path):
    with pytest.raises(UsageError, match="from 2"):
        robust(made, case.structures, samples=1)
    with pytest.raises(BrachyError, match="GTV"):
        robust(made, [], samples=2)
    made.save(tmp_path / "plan.json")
    with pytest.raises(BrachyError, match=r"RTSTRUCT\.dcm"):
        robust_folder(tmp_path)
    with pytest.raises(UsageError, match="no file"):
        load_uncertainties(tmp_path / "none.toml")
