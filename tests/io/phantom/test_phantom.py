"""Digital phantoms: what they promise, measured on the case they make; seeds on CT against closed forms."""

import math
import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from brachy import resources
from brachy.errors import UsageError
from brachy.geometry.grid import Grid
from brachy.io.phantom.file import load_phantom, phantom_seeds
from brachy.io.phantom.metal import Metal, add_seeds, capsule_points
from brachy.needles.candidates import needle_candidates
from brachy.needles.laying_out import lay_out
from brachy.needles.template import needle_direction
from brachy.patient.anatomy import prepare
from brachy.patient.protocol import load_protocol

SMALL = """
name = "mine"
[scan]
ct_date = 2026-01-15
first_voxel_mm = [-19.0, -19.0, -9.0]
spacing_mm = [2.0, 2.0, 3.0]
voxels = [20, 20, 7]
[[structures]]
name = "Water"
type = "EXTERNAL"
hu = 0.0
[[structures.shapes]]
kind = "box"
low_mm = [-15.0, -15.0, -9.0]
high_mm = [15.0, 15.0, 9.0]
"""


@pytest.fixture(scope="module")
def liver():
    return load_phantom("liver-metastasis")


@pytest.fixture(scope="module")
def planned(liver):
    return prepare(liver, load_protocol("liver-metastasis"))


@pytest.fixture(scope="module")
def implanted():
    return load_phantom("post-implant")


def offered(case, azimuth, offset=0.0):
    """What the template offers from one side, and which structures block how many holes."""
    protocol = load_protocol("liver-metastasis")
    target, external = case.structure("GTV"), case.with_role("external")[0]
    plate = lay_out(
        target,
        external,
        needle_direction(azimuth),
        pitch_mm=protocol.template.pitch_mm,
        standoff_mm=protocol.template.standoff_mm,
        offset_mm=(offset, 0.0),
    )
    found = needle_candidates(
        target, external, case.with_role(*protocol.obstacles.roles), plate, protocol, 4.5
    )
    causes = [hole.cause for hole in found.blocked]
    return found, causes


# Every phantom


@pytest.mark.parametrize("name", resources.names("phantoms"))
def test_every_shipped_phantom_loads_whole_and_alike(name, liver, implanted):
    ready = {"liver-metastasis": liver, "post-implant": implanted}
    case = ready.get(name) or load_phantom(name)
    assert case.ct_hu.dtype == np.int16
    assert case.identity.patient_id == f"PHANTOM-{name}"
    assert case.identity.ct_date is not None
    assert not case.identity.is_dicom
    uids = {case.identity.study_uid, case.identity.ct_series_uid, case.identity.frame_of_reference_uid}
    assert len(uids) == 3
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    assert case.inputs[0].name == f"{name}.toml"
    heights = case.grid.origin_mm[2] + case.grid.spacing_mm[2] * np.arange(case.grid.shape[0])
    for structure in case.structures:
        assert set(np.concatenate(structure.contours_mm)[:, 2]) <= set(heights), "contours lie on the slices"
    assert [s.interpreted_type for s in case.structures].count("EXTERNAL") == 1
    assert [s.number for s in case.structures] == sorted({s.number for s in case.structures})


@pytest.mark.parametrize("name", ["sphere-35mm", "single-seed-water"])
def test_a_phantom_is_the_same_each_time(name):
    one, two = load_phantom(name), load_phantom(resources.find("phantoms", name))
    assert np.array_equal(one.ct_hu, two.ct_hu)
    assert one.identity == two.identity
    for a, b in zip(one.structures, two.structures, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(a.contours_mm, b.contours_mm, strict=True))


@pytest.mark.parametrize(
    ("name", "semi_axes"),
    [
        ("sphere-35mm", (17.5, 17.5, 17.5)),
        ("ellipsoid-87mm", (30.5, 30.5, 43.5)),
        ("liver-metastasis", (30.5, 30.5, 43.5)),
    ],
)
def test_volume_of_the_target(name, semi_axes, liver):
    """4/3 pi a b c; a stack of slabs 2.5 mm thick is within 0.2 % of it."""
    case = liver if name == "liver-metastasis" else load_phantom(name)
    assert case.structure("GTV").volume_cc == pytest.approx(
        4 / 3 * math.pi * math.prod(semi_axes) / 1000, rel=2e-3
    )


def test_ct_numbers_and_partial_volume():
    """The painted sphere: 20 HU inside, 0 outside, and a sum that is its volume."""
    case = load_phantom("sphere-35mm")
    inside = case.ct_hu[10:41, 20:60, 20:60].astype(float)
    volume = inside.sum() / 20 * case.grid.voxel_cc
    assert volume == pytest.approx(4 / 3 * math.pi * 1.75**3, rel=0.01)  # 20 HU are stored in whole HU
    z, y, x = case.grid.shape
    assert case.ct_hu[z // 2, y // 2, x // 2] == 20
    assert case.ct_hu[0, 0, 0] == -1000
    assert case.ct_hu[z // 2, y // 2, 8] == 0


def test_noise_is_seeded_and_has_its_width(tmp_path):
    def ct(noise, seed):
        file = tmp_path / "mine.toml"
        file.write_text(SMALL.replace("voxels", f"noise_hu = {noise}\nnoise_seed = {seed}\nvoxels"))
        return load_phantom(file).ct_hu.astype(float)

    clean = ct(0.0, 1)
    assert np.array_equal(ct(9.0, 1), ct(9.0, 1))
    assert not np.array_equal(ct(9.0, 1), ct(9.0, 2))
    rest = (ct(9.0, 1) - clean)[clean > -1000]
    assert rest.std() == pytest.approx(9.0, rel=0.1)
    assert abs(rest.mean()) < 1.0


# The liver phantom


def axis_of(shape):
    """Centre line of an arc, by the formula of docs/phantoms.md."""
    share = np.linspace(0, 1, 2000)
    az = np.radians(shape["azimuth_deg"][0] + share * (shape["azimuth_deg"][1] - shape["azimuth_deg"][0]))
    (a, b), (z0, z1) = shape["semi_axes_mm"], shape["z_mm"]
    return np.column_stack([a * np.sin(az), -b * np.cos(az), z0 + share * (z1 - z0)])


def test_ribs_are_8_to_12_mm_thick_with_gaps_of_12_to_18_mm_and_slope():
    data = tomllib.loads(resources.find("phantoms", "liver-metastasis").read_text())
    ribs = [part["shapes"][0] for part in data["structures"] if part["name"].startswith("Rib ")]
    assert len(ribs) == 6
    for upper, lower in pairwise(ribs):
        radius = lower["radius_mm"]
        assert 8 <= 2 * radius <= 12
        centres = axis_of(lower)
        assert (centres[:, 0] < 0).all()  # the patient's right
        assert centres[0, 2] - centres[-1, 2] > 15  # falls toward the front
        gap = cKDTree(axis_of(upper)).query(centres)[0] - 2 * radius
        assert gap.min() >= 12
        assert gap.max() <= 18


def test_the_drawn_ribs_are_as_thick_as_declared(liver):
    """The smallest extent of any slice's outline across its long axis is the tube's thickness."""
    for contour in liver.structure("Rib 9 R").contours_mm[5:-5]:
        flat = contour[:, :2] - contour[:, :2].mean(axis=0)
        _, _, axes = np.linalg.svd(flat, full_matrices=False)
        assert np.ptp(flat @ axes[1]) == pytest.approx(8.5, abs=0.6)


@pytest.mark.parametrize("offset", [-4.0, -2.0, 0.0, 2.0, 4.0])
def test_ribs_block_15_to_25_percent_of_the_straight_lateral_holes(planned, offset):
    found, causes = offered(planned, 270, offset)
    holes = len(found.needles) + len(found.blocked)
    blocked = sum(cause.startswith("Rib ") for cause in causes)
    assert 0.15 <= blocked / holes <= 0.25
    assert len({cause for cause in causes if cause.startswith("Rib ")}) >= 2


def test_a_vessel_crosses_the_approach_from_the_front(planned):
    _, causes = offered(planned, 0)
    assert causes.count("PortalVein") >= 3


@pytest.mark.parametrize("azimuth", [320, 330])
def test_an_oblique_window_meets_the_lateral_margin_everywhere(planned, azimuth):
    found, causes = offered(planned, azimuth)
    assert causes == []
    assert found.edge_covered_by.any(axis=1).all()
    assert not any(needle.shortened_by for needle in found.needles)
    assert max(needle.tip_depth_mm for needle in found.needles) < 150


@pytest.mark.parametrize("rib", ["Rib 8 R", "Rib 9 R"])
def test_a_rib_moved_by_10_mm_closes_a_part_of_the_window(planned, rib):
    down = np.eye(4)
    down[2, 3] = -10.0
    moved = planned.having(planned.structure(rib).moved(down))
    for azimuth in (320, 330):
        _, causes = offered(moved, azimuth)
        assert set(causes) == {rib}


def test_the_target_lies_as_asked_within_the_liver(liver):
    target = np.concatenate(liver.structure("GTV").contours_mm)
    # the largest distance of two surface points is the long axis, and lies in the axial plane, oblique
    middle = target[np.abs(target[:, 2]) < 1e-9]
    apart = np.linalg.norm(middle[:, None] - middle[None], axis=2)
    i, j = np.unravel_index(apart.argmax(), apart.shape)
    assert apart.max() == pytest.approx(87, abs=0.1)
    long = np.abs(middle[i] - middle[j]) / apart.max()
    assert long[:2] == pytest.approx([math.sqrt(0.5)] * 2, abs=0.05)
    across = middle[:, :2] @ (np.array([1, 1]) / math.sqrt(2))
    assert np.ptp(across) == pytest.approx(61, abs=0.1)
    assert np.ptp(target[:, 2]) == pytest.approx(61, abs=2.5)
    assert (target[:, 0] < 0).all()
    assert liver.structure("Liver").contains(target).all()
    assert liver.structure("PortalVein").distance_mm(target).min() > 3


def test_organs_lie_where_anatomy_has_them(liver):
    def at(name):
        return liver.structure(name).centroid_mm

    body = liver.structure("Body")
    for structure in liver.structures:
        if structure.name not in ("Body", "Skin"):
            points = np.concatenate(structure.contours_mm)
            points = points[np.abs(points[:, 2]) < 90]  # not against the ends of the scan
            assert (-body.signed_distance_mm(points, 30.0)).min() > 5, structure.name
    assert at("Liver")[0] < 0 < at("Spleen")[0]
    assert at("Stomach")[0] > 0
    assert at("Spine")[1] > at("Aorta")[1] > at("Liver")[1]  # the spine is behind
    assert at("Aorta")[0] > at("IVC")[0]
    assert at("Lungs")[2] > at("Liver")[2] > at("KidneyR")[2]
    assert liver.structure("Lungs").bounds_mm[0, 2] > liver.structure("GTV").bounds_mm[1, 2]
    bone = np.concatenate([np.concatenate(s.contours_mm) for s in liver.structures if "Rib" in s.name])
    assert liver.structure("Liver").distance_mm(bone).min() > 0


def test_the_couch_is_on_the_ct_and_in_no_structure(liver):
    y = round(float((135 - liver.grid.origin_mm[1]) / liver.grid.spacing_mm[1]))
    couch = liver.ct_hu[40, y, 40:150]
    assert couch.mean() == pytest.approx(-200, abs=10)
    assert not any(s.contains([[0.0, 135.0, 0.0]])[0] for s in liver.structures)


@pytest.mark.parametrize("azimuth", [0, 90])
def test_the_ellipsoid_in_water_is_reached_along_and_across(azimuth):
    case = prepare(load_phantom("ellipsoid-87mm"), load_protocol("liver-metastasis"))
    found, causes = offered(case, azimuth)
    assert causes == []
    assert found.edge_covered_by.any(axis=1).all()
    assert not any(needle.shortened_by for needle in found.needles)
    span = max(needle.target_mm[1] - needle.target_mm[0] for needle in found.needles)
    assert span == pytest.approx(87 if azimuth == 0 else 61, abs=0.1)


# Seeds


def test_one_seed_in_water():
    seeds = phantom_seeds("single-seed-water")
    assert seeds.placed.positions_mm.tolist() == [[0.0, 0.0, 0.0]]
    assert np.allclose(np.abs(seeds.placed.axes), [[1, 0, 0]])
    assert seeds.placed.strength_U.tolist() == [1.0]
    assert seeds.placed.source.name == "amersham_6711"


def test_the_image_of_a_seed_has_the_moments_of_a_blurred_capsule():
    """Sum, centre and second moments of a convolution are those of its parts: a cylinder (L^2/12 along, D^2/16
    across), the Gaussian, and along z the slice (t^2/12)."""
    grid = Grid((-12.2, -12.1, -9.7), (0.5, 0.5, 1.5), (14, 50, 50))
    metal = Metal(seed_hu_mm3=31700, blur_in_plane_mm=0.6, blur_along_mm=1.1, ceiling_hu=1e6)
    centre, axis = np.array([0.13, -0.41, 0.77]), np.array([0.6, 0.0, 0.8])
    image = add_seeds(np.zeros(grid.shape), grid, centre[None], axis[None], 4.5, 0.8, metal)
    weight = image.ravel() / image.sum()
    places = grid.centres_mm()
    assert image.sum() * grid.voxel_cc * 1000 == pytest.approx(31700, rel=1e-3)
    mean = weight @ places
    assert np.allclose(mean, centre, atol=1e-3)
    spread = (places - mean).T @ ((places - mean) * weight[:, None])
    capsule = 4.5**2 / 12 * np.outer(axis, axis) + 0.8**2 / 16 * (np.eye(3) - np.outer(axis, axis))
    expected = capsule + np.diag([0.6**2, 0.6**2, 1.1**2 + 1.5**2 / 12])
    # twelve discs have L^2/12 (1 - 1/144) along the axis; the slices sample z once in 1.5 mm
    assert np.allclose(spread, expected, atol=0.02)


def test_a_capsule_of_points_has_the_moments_of_a_cylinder():
    points = capsule_points(np.array([1.0, 2, 3]), np.array([0.0, 0, 2]), 4.5, 0.8)
    assert np.allclose(points.mean(axis=0), [1, 2, 3])
    assert points[:, 2].var() == pytest.approx(4.5**2 / 12, rel=0.01)
    assert points[:, 0].var() == pytest.approx(0.8**2 / 16, rel=1e-9)
    assert points[:, 1].var() == pytest.approx(0.8**2 / 16, rel=1e-9)


def streaks(centres, hardening=0.02, length=0.01):
    """What beam hardening adds to seeds that stand upright in a slice, HU."""
    grid = Grid((-25.0, -25.0, -3.0), (0.5, 0.5, 3.0), (3, 101, 101))
    axes = np.tile([0.0, 0.0, 1.0], (len(centres), 1))
    images = [
        add_seeds(
            np.zeros(grid.shape),
            grid,
            np.array(centres, float),
            axes,
            length,
            0.001,
            Metal(
                seed_hu_mm3=30000,
                blur_in_plane_mm=1.0,
                blur_along_mm=0.2,
                hardening_per_mm=value,
                ceiling_hu=1e6,
            ),
        )
        for value in (hardening, 0.0)
    ]
    return (images[0] - images[1])[1], grid


def test_beam_hardening_of_one_point_has_a_closed_form():
    """p = m G(s), p^2 = m^2 / (2 sqrt(pi) sigma) x a Gaussian of sigma / sqrt 2: filtered back-projection returns
    the round Gaussian that has this projection."""
    found, grid = streaks([[0.0, 0.0, 0.0]])
    mass, sigma = 30000 / 3.0 / 1000.0, 1.0  # mm^2 of water in a slice of 3 mm
    x = grid.origin_mm[0] + grid.spacing_mm[0] * np.arange(101)
    r2 = x[None, :] ** 2 + x[:, None] ** 2
    expected = (
        -0.02 * mass**2 / (2 * math.sqrt(math.pi) * sigma) * np.exp(-r2 / sigma**2) / (math.pi * sigma**2)
    )
    # the picture is made on every other voxel and read between them: 1 mm against a sigma of 0.7 mm
    assert found[50, 50] == pytest.approx(1000 * expected[50, 50], rel=0.03)
    assert np.abs(found - 1000 * expected).max() < 0.2 * np.abs(1000 * expected).max()
    assert np.abs(found[r2 > 64]).max() < 0.01 * np.abs(found).max()


def test_two_seeds_throw_a_dark_band_along_their_line():
    found, _ = streaks([[-8.0, 0.0, 0.0], [8.0, 0.0, 0.0]])
    between, beside = found[50, 50], found[58, 50]
    assert between < -10
    assert between < 3 * min(beside, 0.0) - 5
    assert np.allclose(found, found[::-1], atol=1e-6)
    assert np.allclose(found, found[:, ::-1], atol=1e-6)


def test_post_implant_seeds_are_seen_where_they_lie(implanted):
    seeds = phantom_seeds("post-implant")
    assert len(seeds.planned) == 32
    assert len(seeds.placed) == 31
    assert 20 not in seeds.planned_of
    index = np.round(implanted.grid.mm_to_index(seeds.placed.positions_mm)).astype(int)
    peak = [implanted.ct_hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].max() for x, y, z in index]
    assert min(peak) > 1500
    assert implanted.ct_hu.max() == 3071  # the ceiling of 12 bits, reached
    shift = seeds.placed.positions_mm - seeds.planned.positions_mm[seeds.planned_of]
    assert shift.std() == pytest.approx(1.5, rel=0.25)
    # metal, bone and calcium aside, the scan is soft tissue: streaks and noise stay below 400 HU
    far = cKDTree(seeds.placed.positions_mm).query(implanted.grid.centres_mm()[::5])[0] > 6
    for name in ("Rib 9 R", "Spine", "Calcification"):
        far &= (implanted.structure(name).fraction_mask(implanted.grid) == 0).ravel()[::5]
    assert np.percentile(implanted.ct_hu.ravel()[::5][far], 99.99) < 400


def test_post_implant_capsules_do_not_run_through_each_other():
    placed = phantom_seeds("post-implant").placed
    along = np.linspace(-0.5, 0.5, 91)[:, None] * (placed.source.capsule_length_mm - 0.8)
    lines = [centre + along * axis for centre, axis in zip(placed.positions_mm, placed.axes, strict=True)]
    for i in range(len(lines)):
        others = cKDTree(np.concatenate(lines[:i] + lines[i + 1 :]))
        assert others.query(lines[i])[0].min() > 0.8


# Bad files


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("hu = 0.0", "hu = 0.0\nhue = 3", ["structures.0.hue", "no such field"]),
        ("voxels = [20, 20, 7]", "voxels = [20, 20]", ["scan.voxels.2"]),
        (
            "spacing_mm = [2.0, 2.0, 3.0]",
            "spacing_mm = [2.0, -2.0, 3.0]",
            ["scan.spacing_mm.1", "greater than or equal to 0.01"],
        ),
        ("ct_date = 2026-01-15", "", ["scan.ct_date", "missing"]),
        ('kind = "box"', 'kind = "cone"', ["structures.0.shapes.0", "'cone'", "'ellipsoid'"]),
        ("high_mm = [15.0, 15.0, 9.0]", "high_mm = [15.0, 15.0, -9.5]", ["shapes.0", "high_mm"]),
        ("low_mm = [-15.0", "low_mm = [nan", ["low_mm.0", "finite"]),
        ('name = "mine"', 'name = "mi/ne"', ["name", "pattern"]),
        ("[scan]", "[scan", ["not valid TOML"]),
        (
            "-9.0]\nhigh_mm = [15.0, 15.0, 9.0]",
            "90.0]\nhigh_mm = [15.0, 15.0, 99.0]",
            ["'Water'", "no slice"],
        ),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, old, new, words):
    assert old in SMALL
    file = tmp_path / "mine.toml"
    file.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        load_phantom(file)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ["mine.toml", *words]), message


def test_solids_of_one_structure_may_not_overlap(tmp_path):
    file = tmp_path / "mine.toml"
    ball = '[[structures.shapes]]\nkind = "ellipsoid"\ncentre_mm = [10.0, 0.0, 0.0]\nsemi_axes_mm = [9.0, 5.0, 5.0]\n'
    file.write_text(SMALL + ball)
    with pytest.raises(UsageError, match="'Water' overlap"):
        load_phantom(file)


def test_a_structure_may_not_come_twice(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(SMALL + SMALL[SMALL.index("[[structures]]") :])
    with pytest.raises(UsageError, match="'Water' twice"):
        load_phantom(file)


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ("", "activity_mCi or strength_U"),
        ("activity_mCi = 0.7\nstrength_U = 1.0", "activity_mCi or strength_U"),
        ("strength_U = 1.0\nplacement = { missing = [3] }", "outside 0-1"),
        ("strength_U = -1.0", "seeds.strength_U"),
    ],
)
def test_broken_seeds_are_refused(tmp_path, seeds, words):
    file = tmp_path / "mine.toml"
    needle = "[[seeds.needles]]\nfirst_mm = [0.0, 0.0, 0.0]\nazimuth_deg = 0.0\nsteps = [0, 1]\n"
    file.write_text(f'{SMALL}\n[seeds]\nsource = "amersham_6711"\n{seeds}\n{needle}')
    with pytest.raises(UsageError, match=words):
        phantom_seeds(file)


def test_a_phantom_without_seeds_and_one_that_is_none():
    with pytest.raises(UsageError, match="declares no seeds"):
        phantom_seeds("sphere-35mm")
    with pytest.raises(UsageError, match="liver-metastasis"):
        load_phantom("cobalt")


def test_the_example_of_the_documentation_is_a_phantom(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "phantoms.md").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(page.split("```toml\n")[1].split("```")[0])
    assert load_phantom(file).structure("GTV").volume_cc == pytest.approx(
        4 / 3 * math.pi * 2 * 1.5 * 1.5, rel=0.01
    )
    for name in resources.names("phantoms"):
        assert f"`{name}`" in page
