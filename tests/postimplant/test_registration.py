"""Registration of plan and CT after the implant: known motions are found, what cannot be trusted is refused."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.case import Case
from brachy.postimplant.matching import moved_by
from brachy.postimplant.registration import by_file, by_frame, by_image, by_seeds, image
from tests.postimplant.rigid import motion


def implant(seed=0, n=60):
    dice = np.random.default_rng(seed)
    holes = np.array([[10.0 * c, 0, 10.0 * r] for c in range(5) for r in range(4)])
    return np.array([hole + [0, 5.0 * s + dice.uniform(0, 5), 0] for hole in holes for s in range(n // 20)])


@pytest.mark.parametrize(
    ("degrees", "shift"),
    [((0, 0, 0), (120, -30, 400)), ((5, -7, 9), (3, 4, 5)), ((-11, 6, -4), (-200, 8, 30))],
)
def test_by_seeds_finds_a_known_motion_with_lost_and_migrated_seeds(degrees, shift):
    planned = implant()
    matrix = motion(degrees, shift, (20.0, 10.0, 15.0))
    found = moved_by(matrix, planned)
    found[[3, 40]] += [[0, 0, 150], [90, 0, 0]]
    found = np.delete(found, [10, 20, 30], axis=0)
    made = by_seeds(planned, found[::-1])
    assert np.abs(moved_by(made.transform, planned) - moved_by(matrix, planned)).max() < 1e-6
    assert made.residual_mm < 1e-6


def test_by_seeds_tells_the_scatter_as_its_residual():
    dice = np.random.default_rng(5)
    planned = implant()
    found = planned + [50, 60, 70] + dice.normal(size=planned.shape)
    made = by_seeds(planned, found)
    # three components of SD 1, less the six degrees of freedom of the fit
    assert made.residual_mm == pytest.approx(np.sqrt(3 - 6 / 60), rel=0.12)
    assert np.abs(moved_by(made.transform, planned) - planned - [50, 60, 70]).max() < 1.0


def test_seeds_of_another_implant_are_refused():
    dice = np.random.default_rng(6)
    with pytest.raises(BrachyError, match="registration by the seeds failed"):
        by_seeds(implant(), dice.uniform(-100, 100, (60, 3)))
    with pytest.raises(BrachyError, match="registration by the seeds failed: 0 of 60"):
        by_seeds(implant(), np.zeros((2, 3)))


def test_frames():
    assert by_frame("1.2", "1.2").residual_mm is None
    for mine, theirs in (("1.2", "1.3"), ("", ""), ("1.2", "")):
        with pytest.raises(BrachyError, match="another frame of reference"):
            by_frame(mine, theirs)


def test_files_of_every_kind_say_the_same(tmp_path):
    matrix = motion((4, 5, 6), (10, -20, 30), (1.0, 2.0, 3.0))
    transform = sitk.Euler3DTransform()
    transform.SetCenter((1.0, 2.0, 3.0))
    transform.SetRotation(*np.radians((4, 5, 6)))
    transform.SetTranslation((10, -20, 30))
    sitk.WriteTransform(transform, str(tmp_path / "t.tfm"))
    (tmp_path / "t.txt").write_text("\n".join(" ".join(repr(float(v)) for v in row) for row in matrix))
    (tmp_path / "t.json").write_text(json.dumps(matrix.tolist()))
    (tmp_path / "v.json").write_text(json.dumps({"registration": {"transform": matrix.tolist()}}))
    for name in ("t.tfm", "t.txt", "t.json", "v.json"):
        assert np.allclose(by_file(tmp_path / name).transform, matrix, atol=1e-9), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2 3", "is no transform"),
        ("{}", "is no transform"),
        ("2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1", "is not rigid"),
        ("-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "is not rigid"),
        ("1 0 0 nan 0 1 0 0 0 0 1 0 0 0 0 1", "is not rigid"),
        ("", "is no transform"),
    ],
)
def test_files_that_are_no_rigid_transform(tmp_path, content, message):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(UsageError, match=message):
        by_file(tmp_path / "t.txt")


def test_a_file_that_is_not_there_names_the_choices():
    with pytest.raises(UsageError, match="auto, frame, image, seeds"):
        by_file("sideways")


def ball(name, centre, radius):
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    rings = []
    for z in np.arange(-radius + 1, radius, 2.0):
        r = np.sqrt(radius**2 - z**2)
        rings.append(
            np.asarray(centre) + np.stack([r * np.cos(angle), r * np.sin(angle), 0 * angle + z], axis=1)
        )
    return Structure(name, rings)


def textured(seed, shape=(40, 56, 60), spacing=(2.0, 2.0, 2.5)):
    """A CT of smooth random tissue with blobs: nothing symmetric, nothing periodic."""
    dice = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(dice.normal(size=shape), 3.0)
    return (40 + 60 * noise / noise.std()).astype(np.float32), Grid((-60, -55, -48), spacing, shape)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_by_image_finds_a_known_motion_and_ignores_the_metal(seed, monkeypatch):
    monkeypatch.setattr(image, "SAMPLING_SEED", seed)
    hu, grid = textured(1)
    matrix = motion((3, -4, 5), (4.0, -3.0, 6.0), (0.0, 0.0, 0.0))
    # value of the moved image at a place is that of the first at the place it came from
    points = moved_by(np.linalg.inv(matrix), grid.centres_mm())
    index = grid.mm_to_index(points)[:, ::-1].T
    moved = ndimage.map_coordinates(hu, index, order=3, mode="nearest").reshape(grid.shape)
    moved[18:22, 20:34:4, 22:36:5] = 3000.0
    organ = ball("GTV", (0, 0, 0), 20.0)
    made = by_image(Case(hu, grid), Case(moved, grid), organ)
    box = organ.bounds_mm
    corners = np.array([[box[(i >> k) & 1, k] for k in range(3)] for i in range(8)])
    assert np.linalg.norm(moved_by(made.transform, corners) - moved_by(matrix, corners), axis=1).max() < 0.7
    assert made.residual_mm < 1.0


def test_by_image_is_the_same_every_time():
    hu, grid = textured(1)
    once, again = (by_image(Case(hu, grid), Case(hu, grid), ball("GTV", (0, 0, 0), 20.0)) for _ in range(2))
    assert (once.transform == again.transform).all()


def test_a_start_in_a_local_optimum_is_outvoted_and_two_equal_ones_are_refused(monkeypatch):
    hu, grid = textured(1)
    far = motion((0, 0, 0), (40.0, 0.0, 0.0))
    organ = ball("GTV", (0, 0, 0), 20.0)
    for lost, trusted in ((0.6, True), (0.97, False)):
        ends = iter([(lost, far), (0.98, np.eye(4)), (0.97, np.eye(4))])
        monkeypatch.setattr(image, "_registered", lambda *_, ends=ends: next(ends))
        if trusted:
            assert "2 of 3 starts agree" in by_image(Case(hu, grid), Case(hu, grid), organ).note
        else:
            with pytest.raises(BrachyError, match=r"ends 40\.0 mm apart"):
                by_image(Case(hu, grid), Case(hu, grid), organ)


def test_by_image_of_another_patient_is_refused():
    (one, grid), (other, _) = textured(1), textured(2)
    with pytest.raises(BrachyError, match="registration by image failed"):
        by_image(Case(one, grid), Case(other, grid), ball("GTV", (0, 0, 0), 20.0))


def test_by_image_needs_an_organ_on_the_planning_ct():
    hu, grid = textured(1)
    with pytest.raises(BrachyError, match="lies outside the planning CT"):
        by_image(Case(hu, grid), Case(hu, grid), ball("GTV", (500, 0, 0), 20.0))
