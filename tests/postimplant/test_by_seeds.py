"""Registration by the seeds: known motions, brute force, Monte Carlo, and everything that must be refused."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment, minimize
from scipy.spatial.transform import Rotation

from brachy.errors import BrachyError
from brachy.postimplant.matching import rigid_fit
from brachy.postimplant.registration import by_seeds
from brachy.postimplant.registration.poses import find_poses, turns_within
from brachy.postimplant.registration.seeds import _expected_error
from tests.postimplant.implants import KINDS, Kind, error_by_seeds, farthest, implant
from tests.postimplant.rigid import motion, moved

ISSUE = motion((2.0, -1.5, 4.0), (7.0, -5.0, 6.0))
LATTICE = np.array([[10.0 * x, 10.0 * y, 5.0 * z] for x in range(3) for y in range(3) for z in range(4)])


def refused(planned, found, reason):
    with pytest.raises(
        BrachyError, match=rf"registration by the seeds failed: .*{reason}.*; register by"
    ) as caught:
        by_seeds(planned, found)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.name)
def test_lost_and_migrated_seeds_do_not_turn_the_patient(kind):
    """Within 1.5 mm at every seed or refused, at most one in ten; `make registration` has 200 of each kind."""
    errors = [error_by_seeds(implant(seed, kind)) for seed in range(8)]
    taken = [error for error in errors if error is not None]
    assert len(taken) >= 7
    assert max(taken) < 1.5


def test_the_motion_that_was_taken_for_27_degrees():
    kind = Kind("", turn_deg=0.0)
    for seed in range(6):
        one = implant(seed, kind)
        made = by_seeds(one.planned, moved(ISSUE @ np.linalg.inv(one.matrix), one.found))
        assert (
            np.linalg.norm(moved(made.transform, one.planned) - moved(ISSUE, one.planned), axis=1).max() < 1.5
        )
        assert made.residual_mm < 1.4
        assert made.uses_seeds


@pytest.mark.parametrize("shift", [(0, 0, 0), (300, -200, 1500)])
def test_an_exact_copy_is_found_exactly(shift):
    planned = implant(3, KINDS[0]).planned
    matrix = motion((-6.0, 5.0, 8.0), shift, planned.mean(axis=0))
    made = by_seeds(planned, moved(matrix, planned)[::-1])
    assert np.abs(moved(made.transform, planned) - moved(matrix, planned)).max() < 1e-6
    assert made.residual_mm < 1e-6


def test_objects_that_are_no_seeds_change_nothing():
    rng = np.random.default_rng(5)
    one = implant(1, KINDS[0])
    clutter = rng.uniform(-60, 60, (15, 3)) + one.found.mean(axis=0)
    assert farthest(one, by_seeds(one.planned, np.concatenate([clutter, one.found])).transform) < 1.5


def gain_of(matrix, planned, found, radius):
    near = np.maximum(0, 1 - ((moved(matrix, planned)[:, None] - found) ** 2).sum(axis=2) / radius**2)
    return near[linear_sum_assignment(-near)].sum()


@pytest.mark.parametrize("seed", range(4))
def test_no_pose_of_three_seeds_on_three_others_gains_more(seed):
    """Brute force: every rigid fit of three planned seeds on three found ones within 15 degrees."""
    rng = np.random.default_rng(seed)
    planned = rng.uniform(-15, 15, (7, 3))
    found = moved(motion((3, -4, 5), (20, 5, -9)), planned) + rng.normal(size=planned.shape)
    found[:2] = rng.uniform(-20, 20, (2, 3))
    best = 0.0
    for some in combinations(range(7), 3):
        for others in permutations(range(7), 3):
            matrix = rigid_fit(planned[list(some)], found[list(others)])
            if Rotation.from_matrix(matrix[:3, :3]).magnitude() <= np.radians(15):
                best = max(best, gain_of(matrix, planned, found, 3.4))
    poses = find_poses(planned, found, 3.4, 15.0)
    assert poses[0].gain == pytest.approx(gain_of(poses[0].matrix, planned, found, 3.4), abs=1e-9)
    assert poses[0].gain >= best - 1e-6


def test_turns_leave_no_gap():
    """Every turn within the limit is within 0.56 steps of one that is tried (a body-centred lattice)."""
    tried = Rotation.from_matrix(turns_within(15.0, 6.0))
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(300, 3))
    axes *= np.radians(15.0) * rng.random((300, 1)) ** (1 / 3) / np.linalg.norm(axes, axis=1, keepdims=True)
    nearest = [np.degrees((tried * Rotation.from_rotvec(-axis)).magnitude().min()) for axis in axes]
    assert max(nearest) < 6.0  # at the border the lattice ends
    inner = np.linalg.norm(axes, axis=1) < np.radians(11.0)
    assert np.array(nearest)[inner].max() < 0.56 * 6.0 + 0.2


# ---- refused ----------------------------------------------------------------------------------------------------


def test_a_lattice_that_lost_a_face_may_lie_in_two_ways():
    whole = by_seeds(LATTICE, moved(ISSUE, LATTICE))
    assert np.abs(moved(whole.transform, LATTICE) - moved(ISSUE, LATTICE)).max() < 1e-6
    for axis in range(3):
        rest = LATTICE[LATTICE[:, axis] > 0]  # as well without the opposite face, moved by a pitch
        refused(LATTICE, moved(ISSUE, rest), "two poses .* explain the seeds nearly equally well")


def test_a_turn_beyond_the_prior_is_no_patient():
    planned = implant(0, KINDS[0]).planned
    matrix = motion((0, 0, 14.0), (0, 0, 0))
    assert np.abs(by_seeds(planned, moved(matrix, planned)).transform - matrix).max() < 1e-6
    refused(
        planned, moved(motion((0, 0, 18.0), (0, 0, 0)), planned), "would be turned by 18 degrees, 15 at most"
    )
    for degrees in (40.0, 180.0):
        refused(planned, moved(motion((0.0, 0.0, degrees), (0, 0, 0)), planned), "")


def test_seeds_of_another_implant():
    one, other = implant(0, KINDS[0]), implant(1, KINDS[0])
    refused(one.planned, other.found, "")
    refused(one.planned, one.found[:3], "planned seeds find a partner within 3.4 mm, 9 are needed")
    refused(one.planned, np.zeros((0, 3)), "0 of 18 planned seeds")
    refused(one.planned, np.zeros((2, 3)), "0 of 18 planned seeds")
    refused(np.zeros((0, 3)), one.found, "0 of 0 planned seeds")


def test_few_seeds_and_seeds_near_one_line_fix_no_turn():
    rng = np.random.default_rng(2)
    line = np.array([[0.5 * (k % 2), 0.0, 5.0 * k + rng.uniform(0, 1.5)] for k in range(9)])
    refused(line, line + [3.0, 2.0, 1.0], "lie near one line")
    planned = implant(0, KINDS[0]).planned
    refused(planned[:3], planned[:3], "3 of 3 planned seeds find a partner within 3.4 mm, 4 are needed")
    close = np.array([[0.0, 0, 0], [8, 0, 0], [0, 8, 0], [0, 0, 8.0], [30, 40, 30]])
    refused(close, close[:4], "leave .* mm open at a planned seed")


def test_a_scatter_like_chance_is_refused_and_never_a_confident_guess():
    errors = [error_by_seeds(implant(seed, KINDS[6])) for seed in range(4)]
    assert sum(error is None for error in errors) >= 3


# ---- how good ---------------------------------------------------------------------------------------------------


def test_the_expected_error_is_that_of_many_implants():
    planned = implant(2, KINDS[0]).planned
    known, at, sd = planned[:13], planned, 0.8
    rng = np.random.default_rng(1)
    squared = np.zeros(len(at))
    for _ in range(1500):
        matrix = rigid_fit(known, known + sd * rng.normal(size=known.shape))
        squared += ((moved(matrix, at) - at) ** 2).sum(axis=1) / 1500
    # residuals of a fit of six numbers are smaller than the errors: (3 n - 6) / 3 n; no prior, no pull
    rms = sd * np.sqrt(3.0)
    found = _expected_error(known, at, rms, sd, 1e3)
    pulled = np.sqrt((3 * 13 + 6) / (3 * 13))  # six more observations of the same SD, divided by 3 n
    assert found / pulled == pytest.approx(np.sqrt(squared.max()), rel=0.04)


def test_stiffness_is_a_normal_prior_of_the_turn():
    """The closed form against a minimiser of the squared distances and turn that knows nothing of it."""
    rng = np.random.default_rng(4)
    start = rng.uniform(-15, 15, (8, 3))
    end = moved(motion((4, -5, 6), (1, 2, 3)), start) + rng.normal(size=start.shape)
    sd, turn_sd = 1.0, np.radians(4.0)

    def cost(x):
        turn = Rotation.from_rotvec(x[:3])
        apart = turn.apply(start - start.mean(axis=0)) + x[3:] - end
        # the matrix Fisher prior: tr R = 1 + 2 cos(angle), quadratic in the angle where it is small
        return (apart**2).sum() / (2 * sd**2) + (1 - np.cos(turn.magnitude())) / turn_sd**2

    best = minimize(cost, np.r_[np.zeros(3), end.mean(axis=0)], tol=1e-14)
    made = rigid_fit(start, end, stiffness_mm2=sd**2 / (2 * turn_sd**2))
    assert made[:3, :3] == pytest.approx(Rotation.from_rotvec(best.x[:3]).as_matrix(), abs=1e-5)
    free = rigid_fit(start, end)
    assert np.trace(made[:3, :3]) > np.trace(free[:3, :3])
