"""What stops a needle, and what does not: DESIGN section 1, sentence by sentence, on structures of plain shape."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from brachy.geometry.grid import Grid
from brachy.geometry.outline import within_outline
from brachy.geometry.structures import RoiCode, Structure
from brachy.patient.anatomy import prepare
from brachy.patient.case import Case
from brachy.patient.obstacles import barrier, names_of, obstacles, rule_roles, standings
from brachy.patient.protocol import ObstacleChoice, change, load_protocol
from brachy.patient.target import Target

PROTOCOL = load_protocol("liver-metastasis")
HEIGHTS = np.arange(-50.0, 51.0, 2.5)


def square(half, centre=(0.0, 0.0)):
    corners = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]]) + centre
    return np.column_stack([corners, np.zeros(4)])


def prism(name, half, centre=(0.0, 0.0), low=-50.0, high=50.0, holes=(), **more):
    """Squares from low to high, with square holes (half, centre, low, high)."""
    rings = []
    for z in HEIGHTS[(low <= HEIGHTS) & (high >= HEIGHTS)]:
        rings.append(square(half, centre) + [0, 0, z])
        rings += [square(h, c) + [0, 0, z] for h, c, a, b in holes if a <= z <= b]
    return Structure(name, tuple(rings), slice_spacing_mm=2.5, **more)


def keyhole(name, half, hole, low=-50.0, high=50.0):
    """The same hole as one polygon that enters it by a channel without width, as many systems export it."""
    outer = square(half)[:, :2]
    inner = square(hole)[::-1, :2]
    ring = np.concatenate([outer, outer[:1], inner[-1:], inner, outer[:1]])
    heights = HEIGHTS[(low <= HEIGHTS) & (high >= HEIGHTS)]
    rings = tuple(np.column_stack([ring, np.full(len(ring), z)]) for z in heights)
    return Structure(name, rings, slice_spacing_mm=2.5)


GTV = prism("GTV", 10, low=-10, high=10, interpreted_type="GTV")
BODY = prism("Body", 70, interpreted_type="EXTERNAL")


def case(*structures):
    grid = Grid((-75.0, -75.0, -50.0), (5.0, 5.0, 2.5), (41, 31, 31))
    return Case(np.zeros(grid.shape, dtype=np.int16), grid, (BODY, GTV, *structures))


def stopping(*structures, protocol=PROTOCOL, targets=("GTV",)):
    """Names of the obstacles of the first target."""
    ready = prepare(case(*structures), protocol, targets)
    chosen = [Target(ready.structure(name), 120.0) for name in targets]
    return {s.name for s in obstacles(ready.structures, protocol, chosen[0].structure, names_of(chosen))}


@pytest.mark.parametrize(
    "name", ["Heart", "SpinalCord", "门静脉", "Pfortader", "KidneyR", "Spleen", "ROI 7", "Ring 2"]
)
def test_every_contoured_organ_stops_a_needle(name):
    assert stopping(prism(name, 8, (30, 0), interpreted_type="ORGAN")) == {name}


@pytest.mark.parametrize(
    "organ",
    [
        prism("Liver", 40),
        prism("Liver-GTV", 40, holes=[(10, (0, 0), -10, 10)]),
        keyhole("Liver-GTV", 40, 10, -12, 12),
        prism("Mass 3", 15, low=-12, high=12),  # not understood, but the target lies in it
        prism("Body-PTV", 70, holes=[(12, (0, 0), -12, 12)]),
        prism("PTV", 12, low=-12, high=12, interpreted_type="PTV"),
        prism("Ring", 30, holes=[(14, (0, 0), -50, 50)], low=-12, high=12),
    ],
    ids=lambda s: s.name,
)
def test_what_holds_the_target_stops_none(organ):
    assert stopping(organ) == set()


def test_less_than_half_of_the_target_is_not_held():
    """10 of 22.5 mm of the target lie in it, then 12.5 of 22.5 mm."""
    assert stopping(prism("Liver", 40, low=2.5, high=50)) == {"Liver"}
    assert stopping(prism("Liver", 40, low=0.0, high=50)) == set()


def test_an_organ_open_where_the_tumour_was_cut_out_holds_nothing():
    notch = np.array(
        [[-40, -40], [-10, -40], [-10, 12], [10, 12], [10, -40], [40, -40], [40, 40], [-40, 40.0]]
    )
    rings = tuple(np.column_stack([notch, np.full(8, z)]) for z in HEIGHTS)
    assert stopping(Structure("Liver-GTV", rings, slice_spacing_mm=2.5)) == {"Liver-GTV"}


def test_a_role_that_the_protocol_names_stops_even_where_it_holds_the_target():
    assert stopping(prism("Lungs", 40)) == {"Lungs"}
    named = change(PROTOCOL, obstacles={"roles": (*PROTOCOL.obstacles.roles, "liver", "fat")})
    assert stopping(prism("Liver", 40), prism("Subcutaneous fat", 5, (30, 0)), protocol=named) == {
        "Liver",
        "Subcutaneous fat",
    }
    bare = change(PROTOCOL, obstacles={"roles": ()})
    assert stopping(prism("Lungs", 40), prism("Aorta", 5, (30, 0)), protocol=bare) == {"Aorta"}


@pytest.mark.parametrize("name", ["Skin 3mm", "皮下脂肪", "psoas", "Musculus rectus abdominis"])
def test_soft_tissue_stops_none(name):
    assert stopping(prism(name, 8, (30, 0), interpreted_type="ORGAN")) == set()


@pytest.mark.parametrize(
    "kind",
    ["CONTROL", "DOSE_REGION", "TREATED_VOLUME", "IRRAD_VOLUME", "MARKER", "ISOCENTER", "REGISTRATION"],
)
def test_types_without_matter_stop_none_and_are_listed(kind):
    ready = prepare(case(prism("ROI 7", 8, (30, 0), interpreted_type=kind)), PROTOCOL, ["GTV"])
    found = standings(ready.structures, PROTOCOL, [ready.structure("GTV")], {"GTV"})
    (listed,) = [s for s in found if s.roi == "ROI 7"]
    assert not listed.barrier.stops
    assert kind in listed.basis.why


@pytest.mark.parametrize(
    "kind", ["SUPPORT", "FIXATION", "DEVICE", "BRACHY_CHANNEL", "CAVITY", "CONTRAST_AGENT"]
)
def test_every_other_type_stops_a_needle(kind):
    assert stopping(prism("ROI 7", 8, (30, 0), interpreted_type=kind)) == {"ROI 7"}


def test_what_is_freed_stops_none_whatever_it_is():
    vein, organ = prism("PortalVein", 8, (30, 0)), prism("ROI 9", 8, (-30, 0))
    assert stopping(vein, organ) == {"PortalVein", "ROI 9"}
    assert (
        stopping(vein, organ, protocol=change(PROTOCOL, obstacles={"free": ("portalvein", "ROI 9")})) == set()
    )


def test_a_name_that_is_freed_in_vain_is_told():
    ready = prepare(case(), change(PROTOCOL, obstacles={"free": ("Spleen",)}), ["GTV"])
    assert [s for s in ready.assumed if "'Spleen'" in s and "no ROI has that name" in s]


def test_another_target_is_an_obstacle_unless_it_is_part_of_this_one():
    inside = prism("GTV core", 4, low=-4, high=4, interpreted_type="GTV")
    beside = prism("GTV 2", 8, (30, 0), interpreted_type="GTV")
    assert stopping(inside, beside) == {"GTV 2"}
    assert stopping(inside, beside, targets=("GTV", "GTV 2")) == set()


def test_what_holds_one_target_bars_the_way_to_another():
    """Two targets in one plan: the kidney holds the second, and stops the needles of the first alone."""
    kidney = prism("KidneyR", 12, (40, 0), low=-20, high=20)
    second = prism("GTV 2", 8, (40, 0), low=-10, high=10, interpreted_type="GTV")
    ready = prepare(case(kidney, second), PROTOCOL, ["GTV", "GTV 2"])
    names = {"GTV", "GTV 2"}
    assert barrier(ready.structure("KidneyR"), PROTOCOL, ready.structure("GTV"), names).stops
    assert not barrier(ready.structure("KidneyR"), PROTOCOL, ready.structure("GTV 2"), names).stops
    served = [ready.structure("GTV"), ready.structure("GTV 2")]
    (listed,) = [s for s in standings(ready.structures, PROTOCOL, served, names) if s.roi == "KidneyR"]
    assert listed.barrier.stops
    assert "for the needles of GTV" in listed.barrier.why


def test_a_code_says_what_a_name_does_not():
    vein = prism("ROI 7", 8, (30, 0), codes=(RoiCode("SCT", "32764006", "Portal vein"),))
    ready = prepare(case(vein), PROTOCOL, ["GTV"])
    assert ready.structure("ROI 7").role == "vessel"
    assert not any("not understood" in sentence for sentence in ready.assumed)


def test_what_is_not_understood_stands_on_top_and_is_told():
    ready = prepare(case(prism("Heart", 8, (30, 0)), prism("ROI 9", 8, (-30, 0))), PROTOCOL, ["GTV"])
    found = standings(ready.structures, PROTOCOL, [ready.structure("GTV")], {"GTV"})
    assert found[0].roi == "ROI 9"
    assert {s.roi for s in found} == {s.name for s in ready.structures}
    assert not found[0].basis.understood
    assert all(s.basis.understood for s in found[1:])
    (said,) = [s for s in ready.assumed if s.startswith("not understood")]
    assert "ROI 9" in said
    assert "Heart" not in said


def test_rules_are_for_the_protocol_s_roles_and_for_those_that_are_there():
    heart = prism("Heart", 8, (30, 0), role="heart")
    assert rule_roles([heart], PROTOCOL) == [*PROTOCOL.obstacles.roles, "heart"]


@pytest.mark.parametrize("role", ["vesel", "target", "external", "ignore"])
def test_a_role_that_is_no_obstacle_is_refused(role):
    with pytest.raises(ValidationError, match=role):
        ObstacleChoice(roles=("bone", role))


def test_the_outline_does_not_depend_on_where_the_patient_lies():
    shift = np.array([13.3, -7.1, 4.9])
    organ = prism("Liver-GTV", 40, holes=[(10, (3, 1), -10, 10)])
    moved = replace(organ, contours_mm=tuple(c + shift for c in organ.contours_mm))
    points = np.random.default_rng(0).uniform(-50, 50, (500, 3))
    assert (within_outline(organ, points) == within_outline(moved, points + shift)).all()


def test_a_filled_outline_against_plain_geometry():
    """Every point of the outer square's slabs is in, wherever the holes are; nothing beyond is."""
    organ = prism("Liver-GTV", 40, low=-20, high=20, holes=[(10, (3, 1), -10, 10), (4, (-30, 5), -20, 0)])
    points = np.random.default_rng(1).uniform(-60, 60, (4000, 3))
    points = points[
        np.abs(np.abs(points[:, :2]).max(axis=1) - 40) > 2.5
    ]  # farther than the lattice from the edge
    wanted = (np.abs(points[:, :2]).max(axis=1) < 40) & (np.abs(points[:, 2]) < 21.25)
    assert (within_outline(organ, points) == wanted).all()
    assert wanted.sum() > 300
