"""Which registration is taken, what the others say of it, and what is said where none can be trusted."""

from dataclasses import replace

import numpy as np
import pytest

from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.errors import BrachyError, UsageError
from brachy.geometry.grid import Grid
from brachy.geometry.structures import Structure
from brachy.patient.case import Case, Identity
from brachy.postimplant.planned import Planned
from brachy.postimplant.registration import Question, choice, disagreements, register
from brachy.postimplant.registration.transform import Registration, RegistrationError
from tests.postimplant import implants
from tests.postimplant.rigid import motion, moved
from tests.postimplant.test_by_organ import body

PLACES = implants.implant(0, implants.KINDS[0]).planned
LIVER = body("Liver", (60, 45, 55), 3)
GRID = Grid((-80, -80, -80), (5, 5, 5), (33, 33, 33))


def plan(structures=(LIVER,), frame="1.2.3"):
    count = len(PLACES)
    return Planned(
        labels=tuple(str(k) for k in range(count)), needles=("",) * count, positions_mm=PLACES, axes=None,
        implants=(Implant(load_source("amersham_6711"), PLACES, strength_U=0.5),),
        kind_of=np.zeros(count, dtype=np.int64),
        prescriptions={"GTV": 100.0}, margins={}, structures=structures, frame_of_reference_uid=frame,
    )  # fmt: skip


def post(structures=(), frame="1.2.4"):
    return Case(
        np.zeros(GRID.shape, dtype=np.float32), GRID, structures, Identity(frame_of_reference_uid=frame)
    )


def ask(planned, case, matrix, planning=None):
    return Question(planned, case, moved(matrix, PLACES), lambda: planning)


PATIENT = motion((2.0, -1.5, 4.0), (7.0, -5.0, 6.0))
IMPLANT = PATIENT @ motion((0, 0, 0), (0, 0, 5.0))
"""The patient moved, and the implant by 5 mm in it."""


def apart(made, matrix):
    return np.linalg.norm(moved(made.transform, PLACES) - moved(matrix, PLACES), axis=1).max()


def test_an_organ_s_contours_are_preferred_and_the_seeds_that_disagree_are_said():
    case = post((body("LIVER", (60, 45, 55), 3, PATIENT, 0.7),))
    made = register(ask(plan(), case, IMPLANT), "auto")
    assert (made.method, made.uses_seeds) == ("organ", False)
    assert apart(made, PATIENT) < 0.7
    (seeds, image) = made.agreement
    assert (seeds.method, image.method) == ("seeds", "image")
    assert seeds.apart_mm == pytest.approx(5.0, abs=0.7)
    assert image.apart_mm is None
    assert "needs the planning CT" in image.note
    (line,) = disagreements(made)
    assert line.startswith("registrations disagree: by seeds a planned seed lies up to ")
    assert "the implant moved as a whole within the organ" in line
    assert disagreements(register(ask(plan(), case, PATIENT), "auto")) == []


def test_only_the_seeds():
    made = register(ask(plan(()), post(), IMPLANT), "auto")
    assert (made.method, made.uses_seeds) == ("seeds", True)
    assert apart(made, IMPLANT) < 1e-6
    assert [each.method for each in made.agreement] == ["organ", "image"]


def test_a_common_frame_is_kept_unless_an_organ_contradicts_it():
    still = register(ask(plan(), post((LIVER,), "1.2.3"), np.eye(4)), "auto")
    assert (still.method, still.transform.tolist()) == ("frame", np.eye(4).tolist())
    assert {each.method: each.apart_mm is not None for each in still.agreement} == {
        "organ": True, "seeds": True, "image": False,
    }  # fmt: skip
    assert disagreements(still) == []
    breath = motion((0, 0, 0), (0, 0, 8.0))
    made = register(ask(plan(), post((body("Liver", (60, 45, 55), 3, breath),), "1.2.3"), breath), "auto")
    assert made.method == "organ"
    assert apart(made, breath) < 0.5
    (line,) = disagreements(made)
    assert "by frame a planned seed lies up to 8.0 mm from where the registration by organ puts it" in line
    assert "organs moved between the CTs" in line


def test_seeds_never_overrule_a_common_frame():
    made = register(ask(plan(()), post((), "1.2.3"), motion((0, 0, 0), (0, 0, 6.0))), "auto")
    assert made.method == "frame"
    (line,) = disagreements(made)
    assert "by seeds a planned seed lies up to 6.0 mm" in line


def test_the_plan_s_own_ct_has_nothing_to_register(monkeypatch):
    def never(*given, **keys):
        raise AssertionError("called")

    monkeypatch.setattr(choice, "by_organ", never)
    monkeypatch.setattr(choice, "by_image", never)
    planned = replace(plan(frame=""), structure_set_uid="1.2.9")
    case = post((LIVER,))
    case = replace(case, identity=replace(case.identity, structure_set_uid="1.2.9"))
    made = register(ask(planned, case, np.eye(4)), "auto")
    assert made.method == "frame"
    assert [each.method for each in made.agreement] == ["seeds"]


def test_the_images_come_before_the_seeds_and_start_from_the_organ(monkeypatch):
    starts = []

    def by_image(before, after, organ, start=None, post_organ=None):
        starts.append((organ.name, start, post_organ is not None))
        return Registration("image", PATIENT, 0.4, "as it is")

    monkeypatch.setattr(choice, "by_image", by_image)
    target = body("GTV", (17.5, 17.5, 17.5), 3)
    planning = post((target, LIVER))
    made = register(ask(plan((target, LIVER)), post(), IMPLANT, planning), "auto")
    assert made.method == "image"
    assert starts[0][0] == "GTV"
    assert np.abs(moved(starts[0][1], PLACES) - moved(IMPLANT, PLACES)).max() < 1e-6
    after = body("Liver", (60, 45, 55), 3, PATIENT)
    made = register(ask(plan((target, LIVER)), post((after,)), IMPLANT, planning), "auto")
    assert made.method == "organ"
    assert (starts[1][0], starts[1][2]) == ("Liver", True)
    assert np.abs(moved(starts[1][1], PLACES) - moved(PATIENT, PLACES)).max() < 0.7
    assert {each.method for each in made.agreement} == {"image", "seeds"}


def test_what_fails_everywhere_is_one_line_with_every_reason():
    other = implants.implant(1, implants.KINDS[0]).found
    with pytest.raises(BrachyError, match="no registration can be trusted") as caught:
        register(Question(plan(()), post(), other, lambda: None), "auto")
    line = str(caught.value)
    for words in (
        "by organ: ",
        "by image: ",
        "by seeds: ",
        "contour one organ on both CTs",
        "--planning-ct CASE",
    ):
        assert words in line
    assert "\n" not in line


def test_an_organ_that_is_refused_gives_way_to_the_next(monkeypatch):
    tried = []

    def by_organ(before, after, at_mm=None, start=None):
        tried.append((before.name, after.name))
        raise RegistrationError(f"registration by organ '{before.name}'", "no", "help")

    monkeypatch.setattr(choice, "by_organ", by_organ)
    structures = tuple(
        Structure(name, LIVER.contours_mm, interpreted_type=kind)
        for name, kind in (
            ("BODY", "EXTERNAL"),
            ("Kidney", ""),
            ("GTV", "GTV"),
            ("Liver", ""),
            ("Spleen", ""),
        )
    )
    with pytest.raises(BrachyError, match="registration by organ 'Liver' failed: no; help"):
        register(ask(plan(structures), post(structures), PATIENT), "organ")
    assert tried == [("Liver", "Liver"), ("GTV", "GTV"), ("Kidney", "Kidney")]


def test_livers_of_other_names_and_organs_far_away():
    far = Structure("Kidney", LIVER.moved(motion((0, 0, 0), (0, 0, 300.0))).contours_mm)
    mine = (Structure("Liver", LIVER.contours_mm), far)
    theirs = (Structure("Liver_2", LIVER.contours_mm), far)
    pairs = choice.common_organs(mine, theirs, ("GTV",), PLACES)
    assert [(one.name, other.name) for one, other in pairs] == [("Liver", "Liver_2")]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("organ", "needs one organ .* the plan has: Liver; the CT after the implant: none"),
        ("image", "--planning-ct CASE"),
        ("sideways", "no such file"),
    ],
)
def test_what_a_method_needs(how, message):
    with pytest.raises(UsageError, match=message):
        register(ask(plan(), post(), PATIENT), how)


def test_a_frame_that_is_not_shared():
    with pytest.raises(BrachyError, match="another frame of reference"):
        register(ask(plan(), post(), PATIENT), "frame")
