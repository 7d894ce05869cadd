"""Changes by hand: what a row means, what is refused by its line, and that the rest can be optimised round them."""

import json
import math
import sys

import numpy as np
import pytest

from brachy.cli import app
from brachy.dosimetry.tg43 import dose
from brachy.errors import BrachyError, UsageError
from brachy.optimise import plan_edited
from brachy.optimise.replanning.edits import edited_needles, read_edits
from brachy.optimise.replanning.reopen import loading_of, problem_with, reopen
from brachy.output.plan_folder import write_outputs
from brachy.patient.plan import Plan
from tests.sphere_case import quick_plan, sphere

HEADER = "action,template,hole,seed,depth_mm\n"


@pytest.fixture(scope="module")
def before():
    return quick_plan()


def rows(tmp_path, text):
    file = tmp_path / "edits.csv"
    file.write_text(HEADER + text)
    return file


def places(found, hole):
    (needle,) = [n for n in found.needles if n.hole == hole]
    return [tuple(seed.position_mm) for seed in needle.seeds]


def edited(tmp_path, before, text, **options):
    return plan_edited(before, sphere(), read_edits(rows(tmp_path, text), before), **options)


def test_a_seed_that_is_removed_is_gone_and_nothing_else(tmp_path, before):
    needle = next(n for n in before.needles if len(n.seeds) >= 2)
    found = edited(tmp_path, before, f"remove,1,{needle.hole},1,\n")
    assert found.seed_count == before.seed_count - 1
    assert places(found, needle.hole) == places(before, needle.hole)[1:]
    others = [n for n in before.needles if n.hole != needle.hole]
    for other in others:
        assert next(n for n in found.needles if n.hole == other.hole) == other
    # the tip follows the seed that is now the deepest
    (after,) = [n for n in found.needles if n.hole == needle.hole]
    gap = math.dist(after.tip_mm, after.seeds[0].position_mm)
    assert gap == pytest.approx(math.dist(needle.tip_mm, needle.seeds[0].position_mm), abs=1e-3)
    assert found.parent == before.checksum
    # the dose lacks that one seed
    point = np.array([[0.0, 0.0, 0.0]])
    lost = before.model_copy(update={"needles": (needle.model_copy(update={"seeds": needle.seeds[:1]}),)})
    assert dose(point, before.implants())[0] - dose(point, found.implants())[0] == pytest.approx(
        dose(point, lost.implants())[0], rel=1e-5
    )
    assert any("changed by hand" in sentence for sentence in found.assumed)
    assert list(found.optimiser.changes) == [
        f"needle {needle.hole}: {len(needle.seeds) - 1} seed{'s' if len(needle.seeds) > 2 else ''}, "
        f"was {len(needle.seeds)}"
    ]


def test_moves_and_additions_lie_where_they_are_told(tmp_path, before):
    needle = next(n for n in before.needles if len(n.seeds) >= 2)
    hole, direction = np.array(needle.hole_mm), np.array(needle.direction)
    deep = needle.depth_mm - needle.seeds[0].depth_mm
    text = f"move,1,{needle.hole},1,{deep - 1.5}\nadd,1,{needle.hole},,{deep - 60}\n"
    found = edited(tmp_path, before, text)
    for depth in (deep - 1.5, deep - 60):
        wanted = hole + depth * direction
        assert min(math.dist(wanted, place) for place in places(found, needle.hole)) < 1e-3
    # far outside the target: the plan says which rule is broken, and is made all the same
    assert "seed between first entry and last exit" in {r.rule for r in found.rules if r.broken}


def test_a_whole_needle_moves_and_goes(tmp_path, before):
    one, other = [n for n in before.needles if len(n.seeds) >= 2][:2]
    deep = one.depth_mm - one.seeds[0].depth_mm
    found = edited(tmp_path, before, f"move,1,{one.hole},,{deep - 2}\nremove,1,{other.hole},,\n")
    moved = np.array(places(found, one.hole)) - np.array(places(before, one.hole))
    assert moved == pytest.approx(np.tile(-2 * np.array(one.direction), (len(moved), 1)), abs=1e-3)
    assert other.hole not in {n.hole for n in found.needles}
    assert set(found.optimiser.changes) == {
        f"needle {one.hole}: seeds moved",
        f"needle {other.hole} is left out",
    }


def test_a_new_needle_enters_through_the_skin(tmp_path, before):
    hole = before.needles[0].hole
    gone = edited(tmp_path, before, f"remove,1,{hole},,\n")
    found = edited(tmp_path, gone, f"add,1,{hole},,90\nadd,1,{hole},,80\n")
    (needle,) = [n for n in found.needles if n.hole == hole]
    assert {r.rule: r.met for r in found.rules}["skin entry"]
    assert needle.skin_mm == pytest.approx(before.needles[0].skin_mm, abs=1e-3)
    assert needle.depth_mm == pytest.approx(90 + 2.25, abs=1e-6)
    assert found.optimiser.changes == (f"new needle {hole}: 2 seeds",)


def test_the_rest_is_optimised_round_what_is_fixed(tmp_path, before):
    needle = max(before.needles, key=lambda n: len(n.seeds))
    gone = f"remove,1,{needle.hole},,\n"
    alone = edited(tmp_path, before, gone)
    found = edited(tmp_path, before, gone, optimise_rest=True)
    assert needle.hole not in {n.hole for n in found.needles}
    covered = [p.evaluation.structures["GTV"]["V100_pct"] for p in (alone, found)]
    assert covered[1] > covered[0] + 1
    kept = edited(tmp_path, before, f"move,1,{needle.hole},1,{needle.depth_mm - 10}\n", optimise_rest=True)
    only = edited(tmp_path, before, f"move,1,{needle.hole},1,{needle.depth_mm - 10}\n")
    assert places(kept, needle.hole) == places(only, needle.hole)
    # new seeds keep their distance from the fixed ones
    fixed = np.array(places(kept, needle.hole))
    others = np.array([s.position_mm for n in kept.needles if n.hole != needle.hole for s in n.seeds])
    assert np.linalg.norm(others[:, None] - fixed[None], axis=2).min() >= 5 - 0.01


def test_an_opened_plan_has_its_own_dose_and_value(before):
    opened = reopen(before, sphere())
    problem = problem_with(opened, ())
    loading = loading_of(before.needles, problem.candidates, before)
    assert loading.sum() == before.seed_count
    assert sum(problem.terms_of(loading).values()) == pytest.approx(before.optimiser.objective, rel=1e-4)
    # half of the needles fixed: the same dose, seen from the other side
    half = before.needles[::2]
    split = problem_with(opened, half)
    rest = loading_of(before.needles[1::2], split.candidates, before)
    from brachy.core.loading import exact_dose

    assert exact_dose(split.arrays, rest) == pytest.approx(exact_dose(problem.arrays, loading), rel=1e-4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fly,1,A2,1,\n", "line 2: action 'fly' is none of add, move, remove"),
        ("remove,2,A2,1,\n", "line 2: template '2' is none of 1-1"),
        ("remove,1,Z9,1,\n", "line 2: template 1 has no hole Z9"),
        ("remove,1,A,1,\n", "line 2: 'A' is no hole"),
        ("remove,1,A2,99,\n", "line 2: needle A2 has"),
        ("remove,1,A2,0,\n", "line 2: seed '0' is no number from 1"),
        ("move,1,A2,1,\n", "line 2: move needs depth_mm"),
        ("move,1,A2,1,nan\n", "line 2: depth_mm nan is not between"),
        ("move,1,A2,1,1e9\n", "line 2: depth_mm 1e+09 is not between"),
        ("move,1,A2,1,deep\n", "line 2: depth_mm 'deep' is no number"),
        ("add,1,A2,1,80\n", "line 2: a seed that is added has no number"),
        ("add,1,A2,,\n", "line 2: add needs depth_mm"),
        ("remove,1,A2,1,5\n", "line 2: remove takes no depth_mm"),
        ("remove,1,A2,1\n", "line 2: 4 cells, 5 are needed"),
        ("remove,1,A2,1,\nmove,1,A2,1,80\n", "line 3: seed 1 of A2 is edited in line 2"),
        ("remove,1,A2,,\nmove,1,A2,1,80\n", "line 3: needle A2 is edited in line 2"),
        ("", "has no edit"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_by_its_line(tmp_path, before, text, words):
    with pytest.raises(UsageError) as refused:
        read_edits(rows(tmp_path, text), before)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_seeds_in_one_place_and_a_wrong_header_are_refused(tmp_path, before):
    needle = before.needles[0]
    deep = needle.depth_mm - needle.seeds[0].depth_mm
    with pytest.raises(UsageError, match="two seeds of needle"):
        edited_needles(read_edits(rows(tmp_path, f"add,1,{needle.hole},,{deep:.4f}\n"), before), before)
    (tmp_path / "bad.csv").write_text("a,b\n")
    with pytest.raises(UsageError, match="line 1: the header"):
        read_edits(tmp_path / "bad.csv", before)
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        read_edits(tmp_path / "bad.csv", before)
    with pytest.raises(UsageError, match="cannot read"):
        read_edits(tmp_path / "none.csv", before)


def test_another_case_and_an_empty_plan_are_refused(tmp_path, before):
    edits = read_edits(rows(tmp_path, "remove,1,A2,1,\n"), before)
    other = before.model_copy(update={"case": before.case.model_copy(update={"patient_id": "X"})}).sealed()
    with pytest.raises(BrachyError, match="another case: its patient ID differs"):
        plan_edited(other, sphere(), edits)
    everything = "".join(f"remove,1,{n.hole},,\n" for n in before.needles)
    with pytest.raises(BrachyError, match="no needle is left"):
        edited(tmp_path, before, everything)


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["brachy", *map(str, words)])
    with pytest.raises(SystemExit) as leave:
        app.main()
    return int(leave.value.code or 0)


def test_the_command_makes_a_child_and_leaves_the_parent(tmp_path, before, monkeypatch, capsys):
    parent = write_outputs(before, sphere(), tmp_path / "parent", pictures=False)
    text = (parent / "plan.json").read_bytes()
    needle = next(n for n in before.needles if len(n.seeds) >= 2)
    file = rows(tmp_path, f"remove,1,{needle.hole},1,\n")
    words = ("plan", "sphere-35mm", "--from", parent, "--edit", file, "-o", tmp_path / "child")
    assert run(monkeypatch, *words) == 0
    child = Plan.load(tmp_path / "child")
    assert child.parent == before.checksum
    assert child.seed_count == before.seed_count - 1
    assert json.loads((tmp_path / "child" / "plan.json").read_text())["check"]["verdict"] == "pass"
    assert (parent / "plan.json").read_bytes() == text
    for more, message in (
        (("--pitch", "5"), "--pitch cannot be changed"),
        (("--protocol", "x"), "--protocol cannot be changed"),
    ):
        assert run(monkeypatch, *words[:-1], tmp_path / "no", *more) == 2
        assert message in capsys.readouterr().err
    assert run(monkeypatch, "plan", "sphere-35mm", "--edit", file, "-o", tmp_path / "no") == 2
    assert "go together" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
