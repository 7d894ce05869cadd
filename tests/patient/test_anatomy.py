"""Roles, skin and bone of whole cases: phantoms whose truth is known, and the real liver CT's own contours."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.io.load import load_case
from brachy.io.phantom.file import load_phantom
from brachy.patient.anatomy import BONE_NAME, EXTERNAL_NAME, external_from_ct, prepare
from brachy.patient.case import Case
from brachy.patient.protocol import change, load_protocol


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("liver-metastasis")


@pytest.fixture(scope="module")
def liver():
    return load_phantom("liver-metastasis")


@pytest.fixture(scope="module")
def bare(liver, protocol):
    """The liver phantom with nothing but target and liver contoured."""
    return prepare(
        without(liver, *(s.name for s in liver.structures if s.name not in ("GTV", "Liver"))), protocol
    )


@pytest.fixture(scope="module")
def real(shared):
    return load_case(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")


def without(case, *names):
    return replace(case, structures=tuple(s for s in case.structures if s.name not in names))


def ball(name, centre, radius, step=1.0, **more):
    """Circles at every step along z."""
    angle = np.linspace(0, 2 * np.pi, 73)[:-1]
    rings = []
    for z in np.arange(-radius + step / 2, radius, step):
        r = np.sqrt(radius**2 - z**2)
        ring = np.column_stack([r * np.cos(angle), r * np.sin(angle), np.full(72, z)])
        rings.append(ring + np.asarray(centre, float))
    return Structure(name, tuple(rings), slice_spacing_mm=step, **more)


def block(ct, grid, low, high, hu):
    """Paint a box of voxels."""
    first, last = np.round(grid.mm_to_index([low, high])).astype(int)
    ct[first[2] : last[2] + 1, first[1] : last[1] + 1, first[0] : last[0] + 1] = hu


@pytest.fixture
def scan():
    """A round patient of water, 120 mm across, and a ball as target; 2 mm voxels."""
    grid = Grid((-80.0, -80.0, -60.0), (2.0, 2.0, 2.0), (61, 81, 81))
    places = grid.centres_mm().reshape(*grid.shape, 3)
    ct = np.full(grid.shape, -1000, np.int16)
    ct[np.hypot(places[..., 0], places[..., 1]) < 60] = 30
    return Case(ct, grid, (ball("GTV", (0, 0, 0), 15.0),))


# Roles


def test_roles_come_from_protocol_type_and_name_and_only_names_are_assumed(liver, protocol):
    case = prepare(liver, protocol)
    roles = {s.name: s.role for s in case.structures}
    assert roles["Body"] == "external"
    assert roles["GTV"] == "target"
    assert roles["Skin"] == "skin"  # drawn as an ORGAN: a shell, not the outline
    assert roles["SpinalCord"] == "spinal_cord"
    assert roles["Rib 8 R"] == roles["Spine"] == "bone"
    assert roles["PortalVein"] == "vessel"
    said = [sentence for sentence in case.assumed if "names" in sentence]
    assert len(said) == 1, "one sentence for all"
    assert "Rib 8 R" in said[0]
    assert "GTV" not in said[0]
    assert "Body" not in said[0]


def test_the_protocol_overrules_and_a_name_it_gives_in_vain_is_told(liver, protocol):
    mine = change(protocol, roles={"colon": "ignore", "Kidney": "organ"})
    case = prepare(liver, mine)
    assert case.structure("Colon").role == "ignore"
    assert [s for s in case.assumed if "'Kidney'" in s and "no ROI" in s]
    assert not any("Colon" in s for s in case.assumed)


def test_a_role_given_in_the_program_stays(scan, protocol):
    case = replace(
        scan, structures=(ball("Nodule", (0, 0, 0), 15.0, role="target"), ball("Liver", (0, 0, 0), 30.0))
    )
    assert [s.role for s in prepare(case, protocol).structures][:2] == ["target", "liver"]


def test_named_targets_are_the_only_ones(scan, protocol):
    case = replace(
        scan, structures=(*scan.structures, ball("PTV", (0, 0, 0), 20.0), ball("Kidney", (20, 20, 0), 9.0))
    )
    assert {s.name for s in prepare(case, protocol).with_role("target")} == {"GTV", "PTV"}
    assert {s.name for s in prepare(case, protocol, "kidney").with_role("target")} == {"Kidney"}
    assert {s.name for s in prepare(case, protocol, ["PTV", "Kidney"]).with_role("target")} == {
        "PTV",
        "Kidney",
    }
    assert prepare(case, protocol, ["PTV"]).structure("GTV").role == "other_target"
    with pytest.raises(UsageError, match="no ROI 'CTV'"):
        prepare(case, protocol, ["CTV"])


def test_the_case_given_is_not_changed_and_preparing_twice_changes_nothing(liver, protocol):
    once = prepare(liver, protocol)
    twice = prepare(once, protocol)
    assert {s.role for s in liver.structures} == {""}
    assert [s.role for s in twice.structures] == [s.role for s in once.structures]
    assert len(twice.structures) == len(once.structures)


# Skin


def test_the_skin_of_the_phantom_is_found_without_couch_and_with_lungs(liver, bare):
    body, found = liver.structure("Body"), bare.structure(EXTERNAL_NAME)
    assert found.role == "external"
    assert [s for s in bare.assumed if EXTERNAL_NAME in s]
    points = np.concatenate(found.contours_mm)
    assert np.abs(body.signed_distance_mm(points, 20.0)).max() < 2.5  # a voxel is 2 x 2 x 2.5 mm
    points = np.concatenate(body.contours_mm)
    assert np.abs(found.signed_distance_mm(points, 20.0)).max() < 2.5
    assert not found.contains([[0.0, 135.0, 0.0]])[0]
    assert found.contains([[-82.0, 5.0, 95.0]])[0], "lungs are inside"


def test_a_couch_that_touches_is_left_out_and_gas_is_filled(scan, protocol):
    block(scan.ct_hu, scan.grid, (-78, 60, -60), (78, 66, 60), 50)  # a plate of 8 mm against the back
    block(scan.ct_hu, scan.grid, (20, -20, -60), (30, -10, 60), -1000)  # gas through all slices
    block(scan.ct_hu, scan.grid, (-76, -76, -30), (-60, -70, 30), 50)  # a bottle beside
    found = external_from_ct(scan, protocol)
    angle = np.radians(np.arange(0, 360, 2))
    round_ = np.column_stack([60 * np.cos(angle), 60 * np.sin(angle), np.zeros(len(angle))])
    off = np.abs(found.signed_distance_mm(round_, 30.0))
    assert (
        off <= 2.0
    ).mean() > 0.9  # where it touches, a part as thick as the plate cannot be told from the patient
    assert off.max() <= 8.0
    assert not found.contains([[50.0, 64.0, 0.0], [-70.0, -74.0, 0.0]]).any()
    assert found.contains([[25.0, -15.0, 0.0]])[0]


def test_the_skin_does_not_depend_on_how_slices_are_stored_or_where_the_patient_lies(scan, protocol):
    block(scan.ct_hu, scan.grid, (-78, 60, -60), (78, 66, 60), 50)
    found = external_from_ct(scan, protocol)
    grid = scan.grid
    top = grid.index_to_mm([0, 0, grid.shape[0] - 1])
    flipped = Case(scan.ct_hu[::-1], Grid(top, grid.spacing_mm, grid.shape, np.diag([1.0, 1.0, -1.0])))
    assert external_from_ct(flipped, protocol).volume_cc == pytest.approx(found.volume_cc, rel=1e-9)
    shift = np.array([13.3, -7.1, 4.9])
    moved = Case(scan.ct_hu, Grid(grid.origin_mm + shift, grid.spacing_mm, grid.shape))
    for one, other in zip(external_from_ct(moved, protocol).contours_mm, found.contours_mm, strict=True):
        assert np.allclose(one - shift, other, atol=1e-9)


def test_of_several_outlines_the_largest_is_the_external(scan, protocol):
    small = ball("Body 1", (0, 0, 0), 40.0, interpreted_type="EXTERNAL")
    large = ball("Body 2", (0, 0, 0), 50.0, interpreted_type="EXTERNAL")
    case = prepare(replace(scan, structures=(small, *scan.structures, large)), protocol)
    assert [s.name for s in case.with_role("external")] == ["Body 2"]
    assert case.structure("Body 1").role == "ignore"
    assert [s for s in case.assumed if "'Body 2'" in s and "'Body 1'" in s]


def test_a_scan_of_air_is_refused(scan, protocol):
    with pytest.raises(BrachyError, match="no patient") as caught:
        prepare(replace(scan, ct_hu=np.full(scan.grid.shape, -1000, np.int16)), protocol)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 1024.0), (0.1, 0.0)])
def test_a_scan_whose_values_are_no_hu_has_no_skin(slope, offset, scan, protocol):
    """Air at 24 or at -100 HU: what lies round the patient is no air, and no outline is made of the whole image."""
    lost = (np.asarray(scan.ct_hu) * slope + offset).astype(np.float32)
    with pytest.raises(BrachyError, match=r"no air round the patient.*HU"):
        prepare(replace(scan, ct_hu=lost), protocol)


def test_a_body_that_the_image_cuts_is_said(scan, protocol):
    """The left 30 mm of the patient are off the image: on every slice."""
    grid = Grid((-40.0, -80.0, -60.0), (2.0, 2.0, 2.0), (61, 81, 61))
    cut = prepare(Case(np.asarray(scan.ct_hu)[:, :, 20:], grid, scan.structures), protocol)
    (said,) = [note for note in cut.assumed if "is cut by" in note]
    assert "the border of the image on 61 of 61 slices" in said
    assert not any("is cut by" in note for note in prepare(scan, protocol).assumed)


def test_a_body_that_the_field_of_view_cuts_is_said(scan, protocol):
    places = scan.grid.centres_mm().reshape(*scan.grid.shape, 3)
    seen = np.hypot(places[..., 0], places[..., 1]) <= 50
    noise = np.random.default_rng(4).normal(0.0, 5.0, scan.grid.shape)
    hu = np.where(seen, np.asarray(scan.ct_hu) + noise, -1024).astype(np.int16)
    cut = prepare(replace(scan, ct_hu=hu), protocol)
    assert any("edge of the field of view on 61 of 61 slices" in note for note in cut.assumed)


# Bone


def test_a_patient_of_bone_alone_is_refused(scan, protocol):
    body = ball("Body", (0, 0, 0), 55.0, interpreted_type="EXTERNAL")
    hard = np.asarray(scan.ct_hu) + 1000
    with pytest.raises(BrachyError, match=r"\d+ % of the patient near the target has 200 HU or more"):
        prepare(replace(scan, ct_hu=hard, structures=(body, *scan.structures)), protocol)


def test_bone_of_the_phantom_is_found_where_the_ribs_are(liver, bare):
    found = bare.structure(BONE_NAME)
    assert found.role == "bone"
    assert [s for s in bare.assumed if BONE_NAME in s and "200 HU" in s]
    near = bare.structure("GTV").bounds_mm + [[-140], [140]] * np.ones(3)
    truth = [s for s in liver.structures if s.name.startswith(("Rib", "Spine"))]
    for structure in truth:
        points = np.concatenate(structure.contours_mm)
        points = points[((points > near[0]) & (points < near[1])).all(axis=1)]
        if len(points):
            assert found.distance_mm(points, 50.0).max() < 3.0, structure.name  # a voxel is 2 x 2 x 2.5 mm
    points = np.concatenate(found.contours_mm)
    off = np.min([s.distance_mm(points, 50.0) for s in truth], axis=0)
    assert off.max() < 3.0


@pytest.mark.parametrize("where", ["target", "liver"])
def test_metal_and_contrast_in_target_or_liver_are_no_bone(scan, protocol, where):
    block(scan.ct_hu, scan.grid, (-40, -6, -40), (-34, 6, 40), 600)  # a rib: 8 x 14 x 82 mm
    centre = (0, 0, 0) if where == "target" else (40, 0, 0)
    block(scan.ct_hu, scan.grid, np.subtract(centre, 9), np.add(centre, 9), 1500)  # 8 cc
    case = replace(scan, structures=(*scan.structures, ball("Liver", (40, 0, 0), 16.0)))
    found = prepare(case, protocol).structure(BONE_NAME)
    assert found.volume_cc == pytest.approx(8 * 14 * 82 / 1000, rel=0.1)
    assert found.bounds_mm[1, 0] < -30


def test_bone_beside_the_liver_stays_whole(scan, protocol):
    """A rib that touches the liver is not worn away by it."""
    case = replace(scan, structures=(*scan.structures, ball("Liver", (0, 0, 0), 39.0)))
    block(case.ct_hu, case.grid, (-46, -6, -40), (-40, 6, 40), 600)
    found = prepare(case, protocol).structure(BONE_NAME)
    assert found.bounds_mm[1, 0] > -40.5
    assert found.volume_cc == pytest.approx(8 * 14 * 82 / 1000, rel=0.1)


def test_small_pieces_are_left_out_and_marrow_is_filled(scan, protocol):
    block(scan.ct_hu, scan.grid, (-44, -10, -40), (-24, 10, 40), 700)
    block(scan.ct_hu, scan.grid, (-40, -6, -40), (-28, 6, 40), 60)  # marrow
    block(scan.ct_hu, scan.grid, (40, 0, 0), (42, 2, 2), 700)  # a clip
    found = prepare(scan, protocol).structure(BONE_NAME)
    assert found.contains([[-34.0, 0.0, 0.0]])[0]
    assert found.bounds_mm[1, 0] < 0
    keep_all = change(protocol, bone={"smallest_cc": 0.0})
    assert prepare(scan, keep_all).structure(BONE_NAME).bounds_mm[1, 0] > 35


def test_bone_is_looked_for_within_reach_of_a_needle(scan, protocol):
    block(scan.ct_hu, scan.grid, (-40, -6, -58), (-34, 6, 58), 600)
    short = change(protocol, needle={"max_needle_mm": 30.0})
    found = prepare(scan, short).structure(BONE_NAME)
    assert found.bounds_mm[0, 2] > -50
    assert prepare(scan, protocol).structure(BONE_NAME).bounds_mm[0, 2] < -55


def test_no_bone_is_said_and_none_is_drawn(scan, protocol):
    case = prepare(scan, protocol)
    assert case.with_role("bone") == ()
    assert [s for s in case.assumed if "bone" in s and "none" in s]


def test_bone_outside_all_rois_is_told_where_there_are_bone_rois(liver, protocol):
    whole = prepare(liver, protocol)
    assert not any("like bone" in s for s in whole.assumed)
    part = prepare(without(liver, "Rib 9 R"), protocol)
    (said,) = [s for s in part.assumed if "like bone" in s]
    assert "no ROI holds" in said
    assert BONE_NAME not in [s.name for s in part.structures]


# The real CT


def voxels(case, name):
    """Centres of a structure's voxels."""
    index = np.argwhere(case.structure(name).fraction_mask(case.grid) >= 0.5)
    return case.grid.index_to_mm(index[:, ::-1])


def test_real_ribs_near_the_liver_are_covered_by_bone_from_the_ct(real, protocol):
    case = prepare(without(real, "Ribs", "Vertebrae", "CostalCartilages"), protocol)
    found = case.structure(BONE_NAME)
    points = voxels(real, "Ribs")
    points = points[real.structure("Liver").distance_mm(points, 41.0) < 40.0]
    assert len(points) > 500
    gap = found.distance_mm(points, 60.0)
    hu = real.ct_hu[tuple(np.round(real.grid.mm_to_index(points)).astype(int)[:, ::-1].T)]
    assert (
        gap[hu >= protocol.bone.threshold_hu].max() <= 3.0
    )  # what is as dense as bone is bone, or a voxel from it
    assert (gap <= 3.0).mean() > 0.97
    # every cluster of the labels, rib by rib, is met
    labels, count = ndimage.label(real.structure("Ribs").fraction_mask(real.grid) >= 0.5, np.ones((3, 3, 3)))
    index = np.round(real.grid.mm_to_index(points)).astype(int)
    rib = labels[tuple(index[:, ::-1].T)]
    for number in range(1, count + 1):
        if (rib == number).any():
            assert np.median(gap[rib == number]) == 0.0
    spine = voxels(real, "Vertebrae")
    spine = spine[real.structure("Liver").distance_mm(spine, 41.0) < 40.0]
    assert (found.distance_mm(spine, 60.0) <= 5.2).mean() > 0.9


def test_real_bone_from_the_ct_is_bone(real, protocol):
    found = prepare(without(real, "Ribs", "Vertebrae", "CostalCartilages"), protocol).structure(BONE_NAME)
    index = np.argwhere(found.fraction_mask(real.grid) >= 0.5)
    points = real.grid.index_to_mm(index[:, ::-1])
    points = points[points[:, 2] > 290]  # below it the hips, which the labels leave out
    labelled = [real.structure(name) for name in ("Ribs", "Vertebrae", "CostalCartilages")]
    off = np.min([s.distance_mm(points, 50.0) for s in labelled], axis=0)
    assert (off <= 3.0).mean() > 0.97
    assert not found.contains(voxels(real, "Liver")).any()
    assert found.contains(voxels(real, "Aorta")).mean() < 0.01


def test_real_skin_is_the_contoured_one(real, protocol):
    case = prepare(without(real, "BODY"), protocol)
    found, body = case.structure(EXTERNAL_NAME), real.structure("BODY")
    voxel = 3.0
    drawn = np.abs(found.signed_distance_mm(np.concatenate(body.contours_mm), 30.0))
    assert (drawn <= voxel).mean() > 0.95
    back = np.abs(body.signed_distance_mm(np.concatenate(found.contours_mm), 30.0))
    assert (back <= voxel).mean() > 0.95
    assert found.volume_cc == pytest.approx(body.volume_cc, rel=0.01)


def test_missing_ribs_of_the_real_case_are_told(real, protocol):
    assert not any("like bone" in s for s in prepare(real, protocol).assumed)
    assert any("like bone" in s for s in prepare(without(real, "Ribs"), protocol).assumed)


def test_a_real_scan_without_structures_has_a_skin_and_no_couch(shared, protocol):
    case = prepare(load_case(shared / "data" / "liver_ct_only"), protocol)
    found = case.structure(EXTERNAL_NAME)
    # read off the scan by eye: the patient's back ends above y = 120 mm, the couch begins at y = 150 mm
    assert 95 < found.bounds_mm[1, 1] < 125
    assert found.contains([[0.0, 0.0, 0.0]])[0]
    assert not found.contains([[0.0, 165.0, 0.0], [0.0, 190.0, 0.0]]).any()
    lung = case.grid.index_to_mm([[84, 100, 145]])
    assert case.ct_hu[145, 100, 84] < -700
    assert found.contains(lung)[0]
