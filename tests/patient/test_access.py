"""How the patient lies, the couch's top, sector, and the scan's borders, on a patient of water of known shape."""

import numpy as np
import pytest

from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.needles.template import needle_direction
from brachy.patient.access import BELOW, SECTOR, access_of, angles_of, beyond_ranges
from brachy.patient.anatomy import prepare
from brachy.patient.case import Case, Identity
from brachy.patient.protocol import change, load_protocol
from tests.access_cases import DOWN, GAP_MM, HALF, lying, positioned

RULES = load_protocol("liver-metastasis")

POSITIONS = [
    *("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"),
    *("LFS", "LFP", "RFS", "RFP", "AFDR", "AFDL", "PFDR", "PFDL"),
]


def access(case, **fields):
    rules = change(RULES, access=fields)
    return access_of(prepare(case, rules), rules)


def outward(azimuth, tilt):
    """Unit vector from the tip to the skin, written anew."""
    a, t = np.radians([azimuth, tilt])
    return np.array([np.sin(a) * np.cos(t), -np.cos(a) * np.cos(t), -np.sin(t)])


@pytest.mark.parametrize("position", POSITIONS)
def test_every_position_of_dicom(position):
    case = lying(position)
    found = access(case)
    down = np.array([*DOWN[position[2:]], 0.0])
    assert found.down.tolist() == down.tolist()
    assert abs(found.couch_top_mm - (HALF[0] + GAP_MM)) < 2.5
    assert found.couch_top_from == "surface of the couch under the patient's middle"
    for azimuth in range(0, 360, 10):
        for tilt in (-45, 0, 20):
            angle = np.degrees(np.arccos(np.clip(outward(azimuth, tilt) @ down, -1, 1)))
            if abs(angle - 60) > 0.01:
                cause, _ = found.bars(needle_direction(azimuth, tilt))
                assert cause == (BELOW if angle < 60 else ""), (azimuth, tilt)


@pytest.mark.parametrize("position", ["", "SITTING", "HF", "AFS", "LFDR"])
def test_what_is_no_position_bars_nothing_and_is_said(position):
    case = lying("HFS", identity=Identity(patient_position=position))
    found = access(case)
    assert (found.down, found.couch_top_mm) == (None, None)
    assert {found.bars(needle_direction(a, t))[0] for a in range(0, 360, 15) for t in (-45, 0, 45)} == {""}
    assert np.isinf(found.under_couch_top(*np.ones((3, 1, 3)))).all()
    assert "patient position" in found.notes[0]
    assert "nothing is barred" in found.notes[0]
    assert position in found.notes[0]


def test_a_couch_that_is_not_on_the_image():
    found = access(lying("HFS", couch=False))
    assert found.couch_top_mm == pytest.approx(HALF[1], abs=0.2)  # the outline has 90 corners
    assert found.couch_top_from.startswith("lowest point of 'Body'")
    assert any("the couch's top is taken at the lowest point" in note for note in found.notes)
    assert found.bars(needle_direction(180))[0] == BELOW


def test_a_couch_under_a_mattress_that_is_not_seen():
    case = lying("HFS", couch=False)
    hu, places = np.array(case.ct_hu), case.grid.centres_mm().reshape(*case.grid.shape, 3)
    hu[places[..., 1] > HALF[1] + 30.0] = -150
    found = access(Case(hu, case.grid, case.structures, case.identity))
    assert found.couch_top_mm == pytest.approx(HALF[1], abs=0.2)
    assert "the couch that is seen is 3" in found.couch_top_from


def test_rims_of_a_curved_couch_are_obstacles_and_not_its_top():
    case = lying("HFS")
    hu, places = np.array(case.ct_hu), case.grid.centres_mm().reshape(*case.grid.shape, 3)
    hu[(np.abs(places[..., 0]) > 115.0) & (places[..., 1] > 40.0)] = -150
    found = access(Case(hu, case.grid, case.structures, case.identity))
    assert abs(found.couch_top_mm - (HALF[1] + GAP_MM)) < 2.5
    (couch,) = found.devices
    assert couch.contains([[125.0, 45.0, 0.0], [-125.0, 45.0, 0.0]]).all()


def test_a_sector_takes_the_place_of_what_is_below():
    found = access(lying("HFS"), azimuth_deg=[150, 210], tilt_deg=[-10, 20])
    assert found.bars(needle_direction(180)) == ("", "")
    assert found.bars(needle_direction(0))[0] == SECTOR
    assert found.bars(needle_direction(180, 25))[0] == SECTOR
    tilts = access(lying("HFS"), tilt_deg=[-10, 20])
    assert tilts.bars(needle_direction(0, -15))[0] == SECTOR
    assert tilts.bars(needle_direction(180))[0] == BELOW  # limits of the tilt alone are no sector


def test_azimuths_beyond_a_range_by_brute_force():
    random = np.random.default_rng(2)
    for _ in range(300):
        low = random.uniform(-360, 360)
        high = min(low + random.uniform(0, 360), 720)
        azimuth = random.uniform(0, 360)
        inside = np.arange(low, high, 0.01) if high > low else np.array([low])
        off = np.abs((inside - azimuth + 180) % 360 - 180).min()
        assert beyond_ranges(azimuth, [(low, high)]) == pytest.approx(off, abs=0.02)


def test_angles_of_a_direction_are_those_it_was_made_of():
    for azimuth in range(0, 360, 30):
        for tilt in (-60, -10, 0, 45):
            assert angles_of(needle_direction(azimuth, tilt)) == pytest.approx((azimuth, tilt))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"azimuth_deg": [90, 30]}, "no range"),
        ({"azimuth_deg": [0, 361]}, "no range"),
        ({"azimuth_deg": [[0, 10], [20]]}, "azimuth_deg"),
        ({"azimuth_deg": "front"}, "azimuth_deg"),
        ({"tilt_deg": [10, -10]}, "above the largest"),
        ({"bore_mm": 0}, "bore_mm"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_table_that_cannot_be_meant(fields, words):
    with pytest.raises(UsageError, match=words) as failure:
        change(RULES, access=fields)
    assert "\n" not in str(failure.value)


def test_one_range_and_several():
    assert change(RULES, access={"azimuth_deg": [315, 405]}).access.azimuth_deg == ((315, 405),)
    two = ((45, 135), (225, 315))
    assert change(RULES, access={"azimuth_deg": two}).access.azimuth_deg == two


def test_the_scan_cuts_the_patient_at_its_ends_and_sides():
    case = lying("HFS", couch=False)
    grid = case.grid
    cut = Grid(grid.index_to_mm([20, 0, 12]), grid.spacing_mm, (20, grid.shape[1], grid.shape[2] - 20))
    hu = np.asarray(case.ct_hu)[12:32, :, 20:]
    heights = cut.index_to_mm(np.column_stack([np.zeros((20, 2)), np.arange(20)]))[:, 2]
    body = case.structure("Body")
    kept = [
        np.maximum(c, [cut.origin_mm[0] - 1.25, -999, -999])
        for c in body.contours_mm
        if heights[0] - 2 <= c[0, 2] <= heights[-1] + 2
    ]
    short = Structure("Body", kept, "external", slice_spacing_mm=4.0)
    found = access(Case(hu, cut, (short, case.structure("GTV")), case.identity)).border
    ends = [c[0, 2] for c in short.contours_mm]
    low, high = min(ends) - 2.0, max(ends) + 2.0
    on_skin = np.array([[0.0, -80.0, 0.0], [0.0, -80.0, low + 4.5], [0.0, -80.0, high - 4.5]])
    on_ends = np.array(
        [[0.0, 20.0, low], [0.0, 20.0, high], [0.0, -80.0, low + 3.5], [0.0, -80.0, high - 3.5]]
    )
    on_side = np.array([[cut.origin_mm[0] - 1.25, 20.0, 0.0], [cut.origin_mm[0] + 1.0, -40.0, 0.0]])
    assert not found.cuts(on_skin).any()
    assert found.cuts(on_ends).all()
    assert found.cuts(on_side).all()


def test_an_outline_that_ends_within_the_image_has_no_cut_ends():
    found = access(lying("HFS")).border
    assert not found.cuts(np.array([[0.0, 0.0, HALF[2]], [0.0, 0.0, -HALF[2]], [HALF[0], 0, 0]])).any()


def test_a_circular_field_of_view_that_cuts_the_body():
    case = lying("HFS", couch=False)
    random = np.random.default_rng(1)
    hu = np.asarray(case.ct_hu) + random.normal(0, 15, case.grid.shape)
    places = case.grid.centres_mm().reshape(*case.grid.shape, 3)
    hu[np.hypot(places[..., 0], places[..., 1]) > 80.0] = -1024
    found = access(Case(hu.astype(np.int16), case.grid, case.structures, case.identity)).border
    angle = np.linspace(0, 2 * np.pi, 40)
    rim = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(40)])
    assert found.cuts(79.5 * rim).all()
    assert not found.cuts(72.0 * rim).any()


def test_the_bore():
    case = lying("HFS")
    found = access(case)
    assert found.bore_assumed
    np.testing.assert_allclose(found.bore_centre_mm, 0.0, atol=1e-9)
    given = access(lying("LFS", identity=Identity(patient_position="LFS", bore_centre_mm=(1.0, 2.0, 3.0))))
    assert not given.bore_assumed
    assert given.bore_centre_mm.tolist() == [1, 2, 3]
    assert given.bore_axis.tolist() == [1, 0, 0]  # the left side goes first
    assert access(positioned(case, "FFP")).bore_axis.tolist() == [0, 0, 1]
