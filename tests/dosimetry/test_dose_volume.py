"""Metrics by name, histograms as records, and the evaluation of implants whose dose has a closed form."""

from dataclasses import dataclass

import numpy as np
import pytest

from brachy.core import histogram, raster
from brachy.core.polygon import make_stack
from brachy.dosimetry.dvh import dvh, interpolated, regions_of, voxel_curves
from brachy.dosimetry.implant import Implant, listed
from brachy.dosimetry.metrics import DVH, metric, parse_metric
from brachy.dosimetry.model import dose_model
from brachy.dosimetry.sampling import Lattice, lattice_for, sample
from brachy.dosimetry.source import load_source
from brachy.errors import UsageError
from brachy.evaluation.goals import evaluate, judge
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.patient.plan import Evaluation
from brachy.patient.protocol import Goal
from brachy.patient.target import Target

SHIFT = np.array([13.3, -7.1, 4.9])
K = 14_500.0  # Gy mm^2


def ball(radius, centre=(0.0, 0.0, 0.0), name="ball", spacing=1.0):
    angle = 2 * np.pi * np.arange(240) / 240
    unit = np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    heights = (np.arange(-80, 80) + 0.5) * spacing
    contours = [
        unit * np.sqrt(radius**2 - z**2) + [0, 0, z] + np.array(centre) for z in heights if abs(z) < radius
    ]
    return Structure(name, contours, slice_spacing_mm=spacing)


def block(low, high, name="block", spacing=5.0):
    (x0, y0, z0), (x1, y1, z1) = low, high
    ring = np.array([[x0, y0, 0], [x1, y0, 0], [x1, y1, 0], [x0, y1, 0]], dtype=float)
    heights = np.arange(z0 + spacing / 2, z1, spacing)
    return Structure(name, [ring + np.array([0, 0, z]) for z in heights], slice_spacing_mm=spacing)


def seeds(*positions):
    return Implant(load_source("amersham_6711"), np.array(positions, dtype=float), strength_U=1.0)


@dataclass(frozen=True)
class NearestSeed:
    """A dose model of its own: K / r^2 of the nearest seed alone, whose isodoses are spheres."""

    implants: tuple[Implant, ...]
    days: float | None = None
    name = "nearest seed"
    formalism = "1D"
    comment = "no dose of a patient"
    needs_axes = False

    def at(self, points_mm):
        away2 = [((points_mm - seed) ** 2).sum(axis=1) for one in self.implants for seed in one.positions_mm]
        return K / np.maximum(np.min(away2, axis=0), 1e-6)

    def on(self, grid):
        return Dose(grid, self.at(grid.centres_mm()).reshape(grid.shape))

    def of(self, implants, exact_pairs=None):
        return NearestSeed(tuple(listed(implants)))

    def counterpart(self):
        return None


def nearest(*positions):
    return NearestSeed((seeds(*positions),))


def radius_of(gy):
    return np.sqrt(K / gy)


def sphere_cc(radius):
    return 4 / 3 * np.pi * radius**3 / 1000


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("D90_gy", "D90_gy"),
        ("D95", "D95_gy"),
        ("d98%", "D98_gy"),
        ("D2cc", "D2cc_gy"),
        ("D0.1cc_gy", "D0.1cc_gy"),
        ("V100", "V100_pct"),
        ("V150_cc", "V150_cc"),
        ("V145Gy_cc", "V145Gy_cc"),
        ("v20gy_pct", "V20Gy_pct"),
        ("V217.5Gy_cc", "V217.5Gy_cc"),
        ("mean", "mean_gy"),
        ("Dmax", "max_gy"),
        ("min_gy", "min_gy"),
        ("volume", "volume_cc"),
        ("ci", "CI"),
    ],
)
def test_names_are_read_and_printed_in_full(given, full):
    assert parse_metric(given).name == full
    assert parse_metric(full).name == full


@pytest.mark.parametrize("given", ["", "D", "90", "D101", "V20Gy", "D2cm3", "D90_cc", "Vmean", "D-1", "D9e1"])
def test_other_names_are_refused_with_the_forms(given):
    with pytest.raises(UsageError, match=r"write it like D90_gy, D2cc_gy, V100_pct, V100_cc, V145Gy_cc"):
        parse_metric(given)


# --- the record -----------------------------------------------------------------------------------------------------


def ten_steps():
    return DVH("ten", np.arange(10.0, 101.0, 10.0), np.full(10, 0.2), 2.0)


def test_volumes_are_at_or_above():
    found = ten_steps()
    assert found.V(0.0) == pytest.approx(2.0)
    assert found.V(10.0) == pytest.approx(2.0)
    assert found.V(10.001) == pytest.approx(1.8)
    assert found.V(100.0) == pytest.approx(0.2)
    assert found.V(100.1) == 0.0
    assert metric(found, "V50_pct", 100.0) == pytest.approx(60.0)
    assert metric(found, "V50_cc", 100.0) == pytest.approx(1.2)
    assert metric(found, "V50Gy_pct") == pytest.approx(60.0)


def test_doses_lie_between_the_middles_of_the_cells():
    found = ten_steps()
    assert found.D(50) == pytest.approx(55.0)
    assert found.D_cc(0.1) == pytest.approx(100.0)
    assert found.D_cc(0.3) == pytest.approx(90.0)
    assert (found.D(0), found.D(100)) == (found.max_gy, found.min_gy) == (100.0, 10.0)
    assert metric(found, "D2cc") == 10.0
    assert np.isnan(metric(found, "D2.1cc"))
    assert (found.mean_gy, metric(found, "volume")) == (55.0, 2.0)
    with pytest.raises(UsageError, match="0 to 100"):
        found.D(101)


def test_curves_are_cumulative():
    doses, volume = ten_steps().curve(25.0)
    assert doses.tolist() == [0, 25, 50, 75, 100, 125]
    np.testing.assert_allclose(volume, [2.0, 1.6, 1.2, 0.6, 0.2, 0.0], atol=1e-12)


def test_relative_volumes_need_a_prescription_and_indices_an_evaluation():
    with pytest.raises(UsageError, match="V100_pct of 'ten' needs a prescription"):
        metric(ten_steps(), "V100")
    with pytest.raises(UsageError, match="CI needs the dose round the target"):
        metric(ten_steps(), "CI")


def test_an_empty_structure_has_no_dose():
    found = dvh(seeds([0, 0, 0]), Structure("nothing", []))
    assert found.samples == 0
    assert np.isnan([found.mean_gy, found.D(90), found.max_gy, found.V_pct(10)]).all()
    assert found.V(10.0) == 0.0
    assert "no volume" in found.notes


# --- sampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(1.0, 1.0), (0.7, 6.0), (2.3, 30.0)])
def test_cells_add_up_to_the_exact_volume_and_moments(widths):
    """Whatever the lattice: volume, and the centroid to a small part of a cell."""
    shape = ball(23.0, centre=(5, 4, 3), spacing=2.5)
    found = sample(shape, np.array([[20.0, 0.0, 0.0], [22.0, 5.0, 3.0]]), Lattice(*widths))
    assert found.cell_cc.sum() == pytest.approx(shape.volume_cc, rel=1e-9)
    mean = (found.points_mm * found.cell_cc[:, None]).sum(axis=0) / found.cell_cc.sum()
    np.testing.assert_allclose(mean, shape.centroid_mm, atol=0.02 * widths[1])
    inside = shape.distance_mm(found.points_mm)
    assert (inside == 0).mean() > 0.99
    assert inside.max() < 0.1 * widths[1]


def test_cells_are_narrow_among_the_seeds_and_never_near_them_wide():
    body = block((-150, -100, -150), (150, 100, 150), "body")
    at = np.array([[0.0, 0.0, 0.0], [40.0, 20.0, 30.0]])
    lattice = lattice_for(body, at, 20_000)
    found = sample(body, at, lattice)
    away = np.maximum(at.min(axis=0) - found.points_mm, found.points_mm - at.max(axis=0)).max(axis=1)
    width = np.sqrt(
        found.cell_cc * 1000 / 2.5
    )  # no cell is thinner than half a slab here or thicker than one
    assert width[away <= 0].max() <= 2.0 * np.sqrt(2)
    assert (width[away > 0] <= np.maximum(lattice.step_mm * 2, away[away > 0] / 3) * np.sqrt(2)).all()
    assert len(found.points_mm) < 300_000


def test_the_same_samples_wherever_the_patient_lies():
    shape, at = ball(12.0), np.array([[3.0, 0.0, 0.0]])
    there = Structure("ball", [c + SHIFT for c in shape.contours_mm], slice_spacing_mm=1.0)
    assert lattice_for(shape, at, 9000) == lattice_for(there, at + SHIFT, 9000)
    here, moved = (sample(s, p, Lattice(0.9, 5.0)) for s, p in ((shape, at), (there, at + SHIFT)))
    np.testing.assert_array_equal(here.cell_cc, moved.cell_cc)
    np.testing.assert_allclose(moved.points_mm - SHIFT, here.points_mm, atol=1e-9)
    one, other = dvh(seeds(*at), shape), dvh(seeds(*(at + SHIFT)), there)
    assert other.D(90) == pytest.approx(one.D(90), rel=1e-9)
    assert other.V(20.0) == pytest.approx(one.V(20.0), rel=1e-9)


# --- doses that were read -------------------------------------------------------------------------------------------


def test_interpolation_is_trilinear_in_any_direction():
    rng = np.random.default_rng(3)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    grid = Grid((3, -2, 8), (2.0, 3.0, 1.5), (6, 7, 8), q)
    slope = np.array([1.0, -2.0, 0.5])
    dose = Dose(grid, (40 + grid.centres_mm() @ slope).reshape(grid.shape))
    inside = grid.index_to_mm(rng.uniform(0, [7, 6, 5], (200, 3)))
    np.testing.assert_allclose(interpolated(dose, inside), 40 + inside @ slope, rtol=1e-12)


def test_what_lies_outside_the_dose_grid_is_told_and_counts_as_nothing():
    box = block((0, 0, 0), (20, 10, 10), spacing=1.0)
    grid = Grid((0.5, -4.5, -4.5), (1, 1, 1), (20, 20, 15))  # to x = 15
    found = dvh(Dose(grid, np.full(grid.shape, 50.0)), box)
    assert found.no_dose_fraction == pytest.approx(0.25, abs=1e-3)
    assert found.V(50.0) == pytest.approx(1.5, rel=2e-3)
    assert found.min_gy == 0.0
    assert any("% of it lies outside the dose grid, counted as 0 Gy" in note for note in found.notes)


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_indices_of_a_ball_round_a_seed_are_closed_forms():
    target = ball(9.0)
    told = evaluate(nearest([0, 0, 0]), [], [Target(target, 145.0)])
    values = told.structures["ball"]
    region = sphere_cc(radius_of(145.0))  # a sphere of 10 mm, all of the target within
    assert values["V100_pct"] == pytest.approx(100.0)
    assert values["CI"] == pytest.approx(target.volume_cc / region, rel=3e-3)
    assert values["EI"] == pytest.approx(100 * (region / target.volume_cc - 1), rel=1e-2)
    hot = sphere_cc(radius_of(1.5 * 145.0)) / target.volume_cc
    assert values["V150_pct"] == pytest.approx(100 * hot, abs=0.2)
    assert values["HI"] == pytest.approx(1 - hot, abs=2e-3)


def test_an_underdosed_target_has_a_coverage_factor_in_ci():
    target = ball(14.0)
    values = evaluate(nearest([0, 0, 0]), [], [Target(target, 145.0)]).structures["ball"]
    covered = sphere_cc(10.0) / target.volume_cc
    assert values["CI"] == pytest.approx(covered, abs=3e-3)  # V_Rx lies within the target
    assert values["EI"] == pytest.approx(0.0, abs=1e-9)


def test_the_region_grows_past_its_first_margin_and_ends_at_the_skin():
    target = ball(4.0)
    rx = K / 35.0**2  # the region is a sphere of 35 mm, 31 mm beyond the target
    free = evaluate(nearest([0, 0, 0]), [], [Target(target, rx)])
    assert free.structures["ball"]["CI"] == pytest.approx(target.volume_cc / sphere_cc(35.0), rel=2e-3)
    skin = block((-100, -100, -100), (100, 20, 100), "skin")  # a plane 20 mm from the seed
    cut = evaluate(nearest([0, 0, 0]), [], [Target(target, rx)], external=skin)
    cap = np.pi * 15**2 * (3 * 35 - 15) / 3 / 1000
    assert cut.structures["ball"]["EI"] == pytest.approx(
        100 * ((sphere_cc(35.0) - cap) / target.volume_cc - 1), rel=2e-3
    )


def test_of_two_targets_each_has_the_region_nearest_to_it():
    left, right = ball(8.0, (-30, 0, 0), "left"), ball(9.0, (30, 0, 0), "right")
    targets = [Target(left, 145.0), Target(right, 120.0)]
    told = evaluate(nearest([-30, 0, 0], [30, 0, 0]), [left], targets).structures
    assert told["left"]["CI"] == pytest.approx(left.volume_cc / sphere_cc(radius_of(145.0)), rel=5e-3)
    assert told["right"]["CI"] == pytest.approx(right.volume_cc / sphere_cc(radius_of(120.0)), rel=5e-3)


def test_a_boost_is_left_out_of_the_outer_targets_hot_volumes():
    outer, boost = ball(15.0, name="outer"), ball(6.0, name="boost")
    targets = [Target(outer, 70.0), Target(boost, 145.0)]
    told = evaluate(nearest([0, 0, 0]), [], targets).structures
    rest = outer.volume_cc - boost.volume_cc
    hot = sphere_cc(radius_of(105.0)) - boost.volume_cc  # to 11.75 mm, without the boost's 6 mm
    assert told["outer"]["V150_pct"] == pytest.approx(100 * hot / rest, abs=0.4)
    whole = sphere_cc(radius_of(70.0)) / outer.volume_cc
    assert told["outer"]["V100_pct"] == pytest.approx(100 * whole, abs=0.2)
    assert told["boost"]["EI"] == 0.0  # what surrounds it belongs to the outer target


def test_an_organ_uses_the_highest_prescription_and_says_whose():
    targets = [Target(ball(9.0, name="a"), 110.0), Target(ball(8.0, (40, 0, 0), "b"), 145.0)]
    organ = ball(12.0, name="organ")
    small = ball(4.0, (20, 20, 0), "small")
    told = evaluate(nearest([0, 0, 0], [40, 0, 0]), [organ, small, Structure("empty", [])], targets)
    assert told.structures["organ"]["V100_pct"] == pytest.approx(
        100 * sphere_cc(10.0) / organ.volume_cc, rel=1e-2
    )
    assert told.sampling["organ"].prescription_gy == 145.0
    assert told.sampling["organ"].prescription_of == "b"
    assert told.structures["small"]["D2cc_gy"] is None  # it has 0.27 cc
    assert told.structures["small"]["D0.1cc_gy"] > 0
    assert told.structures["empty"]["D90_gy"] is None
    assert told.other_formalism == {}  # these seeds have no axes


def test_both_formalisms_where_the_seeds_have_axes():
    implant = Implant(load_source("amersham_6711"), [[0, 0, 0]], axes=[0, 0, 1], strength_U=5.0)
    told = evaluate(dose_model(implant), [], [Target(ball(7.0), 120.0)])
    d90 = told.structures["ball"]["D90_gy"]
    assert told.other_formalism["ball"]["D90_gy"] != d90
    assert told.other_formalism["ball"]["D90_gy"] == pytest.approx(d90, rel=0.15)
    told2 = evaluate(dose_model(implant, "2D"), [], [Target(ball(7.0), 120.0)])
    assert told2.other_formalism["ball"]["D90_gy"] == pytest.approx(d90, rel=2e-3)
    uncertainty = told.uncertainty["ball"]
    assert uncertainty["D90_gy"] == pytest.approx(
        uncertainty["D90_gy_sampling"] + uncertainty["D90_gy_slices"]
    )
    assert uncertainty["D90_gy_sampling"] <= 1e-3 * 120.0


def test_evaluation_needs_a_target():
    with pytest.raises(UsageError, match="name a target"):
        evaluate(dose_model(seeds([0, 0, 0])), [ball(5.0)], [])
    with pytest.raises(UsageError, match="'gone' has no volume"):
        evaluate(dose_model(seeds([0, 0, 0])), [], [Target(Structure("gone", []), 120.0)])


def test_evaluation_is_the_same_wherever_the_patient_lies():
    target, organ = ball(9.0, spacing=2.5), ball(9.0, (14, 3, 0), "organ")
    skin = block((-40, -40, -40), (40, 16, 40), "skin")
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    at = np.array([[-4.0, 1.0, 2.0], [5.0, -2.0, -3.0]])
    implants = [Implant(load_source("amersham_6711"), p, strength_U=2.0) for p in (at, at + SHIFT)]
    here = evaluate(dose_model(implants[0]), [organ, skin], [Target(target, 120.0)], skin)
    moved = [shape.moved(matrix) for shape in (target, organ, skin)]
    there = evaluate(dose_model(implants[1]), moved[1:], [Target(moved[0], 120.0)], moved[2])
    assert here.sampling == there.sampling
    for roi, values in here.structures.items():
        assert there.structures[roi] == pytest.approx(values, rel=1e-6), roi  # fractions are float32


def test_an_oblique_patient_has_the_same_histogram():
    """Everything turned together, as on an oblique or decubitus scan; only the lattice differs."""
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = q * np.linalg.det(q), SHIFT
    shape, at = ball(11.0, spacing=2.0), np.array([[-4.0, 1.0, 2.0], [5.0, -2.0, -3.0], [0.0, 6.0, 4.0]])
    one = dvh(seeds(*at), shape)
    other = dvh(seeds(*(at @ matrix[:3, :3].T + SHIFT)), shape.moved(matrix))
    for name in ("D90_gy", "D50_gy", "mean_gy", "V20Gy_pct"):
        allowed = one.uncertainty(name).sampling + other.uncertainty(name).sampling
        assert metric(other, name) == pytest.approx(metric(one, name), rel=2e-3, abs=2 * allowed)


def test_dose_of_no_seeds_is_zero():
    at = np.zeros((2, 3))
    assert dose_model([]).at(at).tolist() == [0.0, 0.0]


# --- goals ----------------------------------------------------------------------------------------------------------


def test_goals_by_name_role_and_target():
    told = Evaluation(
        formalism="1D",
        structures={
            "GTV": {"D90_gy": 119.0, "V100_pct": 96.0},
            "Liver": {"V20Gy_pct": 30.0, "D2cc_gy": None},
            "Aorta": {"V20Gy_pct": 10.0},
            "Vena cava": {"V20Gy_pct": 90.0},
        },
    )
    structures = [Structure("Aorta", [], role="vessel"), Structure("Vena cava", [], role="vessel")]
    targets = [Target(Structure("GTV", []), 120.0)]
    goals = [
        Goal(roi="target", metric="D90", op=">=", limit="Rx"),
        Goal(roi="gtv", metric="V100_pct", op=">=", limit=95.0),
        Goal(roi="vessel", metric="V20Gy_pct", op="<=", limit=50.0, required=False),
        Goal(roi="Liver", metric="D2cc_gy", op="<=", limit=50.0),
        Goal(roi="Kidney", metric="D2cc_gy", op="<=", limit=50.0),
    ]
    results = judge(told, goals, targets, structures, source="the protocol")
    assert [(r.roi, r.metric, r.limit, r.value, r.met) for r in results] == [
        ("GTV", "D90_gy", 120.0, 119.0, False),
        ("GTV", "V100_pct", 95.0, 96.0, True),
        ("Aorta", "V20Gy_pct", 50.0, 10.0, True),
        ("Vena cava", "V20Gy_pct", 50.0, 90.0, False),
        ("Liver", "D2cc_gy", 50.0, None, None),
        ("Kidney", "D2cc_gy", 50.0, None, None),
    ]
    assert [r.reason for r in results[4:]] == ["Liver has no D2cc_gy", "no such structure"]
    assert [r.required for r in results] == [True, True, False, False, True, True]
    assert {r.source for r in results} == {"the protocol"}


def test_an_evaluation_holds_the_metrics_of_its_goals():
    goal = Goal(roi="target", metric="V200Gy_cc", op="<=", limit=3.0)
    targets = [Target(ball(9.0), 145.0)]
    told = evaluate(nearest([0, 0, 0]), [], targets, goals=[goal])
    (result,) = judge(told, [goal], targets)
    assert result.value == pytest.approx(sphere_cc(radius_of(200.0)), rel=5e-3)
    without = evaluate(nearest([0, 0, 0]), [], targets)
    with pytest.raises(UsageError, match="has no V200Gy_cc: evaluate it with this goal"):
        judge(without, [goal], targets)


# --- many structures on one grid ------------------------------------------------------------------------------------


def test_one_pass_over_the_voxels_equals_a_mask_and_a_histogram_each():
    grid = Grid((-20, -20, -20), (1.3, 1.1, 2.0), (20, 36, 31))
    shapes = [ball(12.0), ball(9.0, (6, 0, 0), "b"), ball(5.0, (-9, 3, 2), "c"), Structure("none", [])]
    gy = np.random.default_rng(8).gamma(3.0, 20.0, grid.shape).astype(np.float32)
    edges, volume = voxel_curves(gy, regions_of(shapes, grid), 150.0, bins=300)
    for shape, row in zip(shapes, volume, strict=True):
        doses = gy[shape.fraction_mask(grid) >= 0.5]
        counted, _ = np.histogram(np.minimum(doses, 149.9), bins=300, range=(0, 150.0))
        np.testing.assert_allclose(row, counted[::-1].cumsum()[::-1] * grid.voxel_cc, atol=2 * grid.voxel_cc)
    assert edges[1] == 0.5
    covered = regions_of([block((-50, -50, -50), (50, 50, 50), "all")], grid)
    assert voxel_curves(gy, covered, 150.0)[1][0, 0] == pytest.approx(grid.size * grid.voxel_cc)


@pytest.mark.kernel
def test_counts_take_the_voxels_named_and_keep_what_is_above_the_top():
    dose = np.array([0.0, 1.0, 2.5, 9.0, 99.0, 3.0])
    voxel, region = np.array([0, 1, 2, 3, 4]), np.array([0, 1, 0, 0, 1])
    found = histogram.counts(dose, voxel, region, 2, 10.0, 5)
    assert found.tolist() == [[1, 1, 0, 0, 1], [1, 0, 0, 0, 1]]


# --- kernel, also without compilation ------------------------------------------------------------------------------


@pytest.mark.kernel
def test_samples_of_a_cut_cube():
    """A 2 x 2 x 1 box with cells of 1: each cell holds one point, a cut one within its part."""
    corners = np.array([[0, 0], [2, 0], [2, 1], [1, 2], [0, 2]], dtype=float)
    edges = np.hstack([corners, np.roll(corners, -1, axis=0)])
    stack = make_stack([edges], np.array([0.0]), np.array([1.0]))
    points, volume = raster.samples(stack, 1.0, np.zeros((0, 6)))
    np.testing.assert_allclose(volume, [1, 1, 1, 0.5])
    np.testing.assert_array_equal(np.floor(points[:3, :2]), [[0, 0], [1, 0], [0, 1]])
    assert points[3, 0] + points[3, 1] <= 3  # within the corner that is left
    assert ((points[:, 2] > 0) & (points[:, 2] < 1)).all()


@pytest.mark.kernel
def test_samples_double_their_width_outside_a_zone():
    corners = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=float)
    edges = np.hstack([corners, np.roll(corners, -1, axis=0)])
    stack = make_stack([edges], np.array([0.0]), np.array([1.0]))
    zone = np.array([[0.0, 0.0, 1.0, 1.0, -1.0, 2.0]])  # 2 x 2 mm in cells of 2 mm
    points, volume = raster.samples(stack, 1.0, zone)
    assert sorted(volume) == [1, 1, 1, 1, 4, 4, 4]
    assert (points[volume == 1, :2] < 2).all()
    beside = np.array([[0.0, 0.0, 1.0, 1.0, 5.0, 9.0]])  # not on this slab
    assert raster.samples(stack, 1.0, beside)[1].tolist() == [4, 4, 4, 4]
