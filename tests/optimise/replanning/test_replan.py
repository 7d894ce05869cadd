"""The plan changed in the room: what is placed stays, what is said is done, and a file that cannot be is refused."""

import csv
import json
import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from brachy.check import check_plan
from brachy.cli import app
from brachy.dosimetry.source import load_source
from brachy.dosimetry.tg43 import dose
from brachy.errors import BrachyError, UsageError
from brachy.evaluation.rules import check_rules
from brachy.optimise import plan, replan
from brachy.optimise.replanning.implanted_so_far import PLACED_HEADER, Placed, read_placed
from brachy.optimise.replanning.replan import joined, no_worse
from brachy.optimise.replanning.state import opened_for, stand
from brachy.output.csv_tables import placed_csv
from brachy.output.plan_folder import write_outputs
from brachy.patient import lineage
from brachy.patient.optimiser_record import BlockedHole
from brachy.patient.plan import Plan
from brachy.patient.protocol import change
from brachy.patient.target import Target
from tests import small_plan
from tests.sphere_case import QUICK, quick_plan, sphere

NOTHING = Placed({}, frozenset(), frozenset(), {})


@pytest.fixture(scope="module")
def before():
    return quick_plan()


def seeds_of(found):
    return [tuple(seed.position_mm) for needle in found.needles for seed in needle.seeds]


def placed_of(found):
    return sorted(tuple(s.position_mm) for n in found.needles for s in n.seeds if s.placed)


def all_of(needle):
    return {
        (needle.template, needle.hole, k): tuple(
            np.round(np.add(seed.position_mm, (0.4, -1.3, 0.7)), 3).tolist()
        )
        for k, seed in enumerate(sorted(needle.seeds, key=lambda s: s.depth_mm), 1)
    }


def test_placed_seeds_stand_to_the_last_digit_and_the_dose_has_them(before):
    seeds = all_of(before.needles[0]) | all_of(before.needles[1])
    found = replan(before, sphere(), Placed(seeds, frozenset(), frozenset(), {}))
    assert placed_of(found) == sorted(seeds.values())
    assert found.parent == before.checksum
    # now: the dose of what is in, against a direct sum at points that are the search's own
    opened = opened_for(before, sphere())
    standing = stand(before, opened, Placed(seeds, frozenset(), frozenset(), {}))
    from brachy.optimise.replanning.reopen import problem_with

    problem = problem_with(standing.opened, standing.fixed, standing.closed, standing.present)
    points = (
        np.concatenate([p.points_mm[: p.counts[problem.level]] for p in problem.samples])
        + opened.prepared.anchor_mm
    )
    inside = found.model_copy(
        update={
            "needles": tuple(
                n.model_copy(update={"seeds": tuple(s for s in n.seeds if s.placed)}) for n in found.needles
            )
        }
    )
    exact = dose(points[:500], inside.implants(), method="exact")
    assert problem.arrays.base[:500] == pytest.approx(exact, rel=0.02)


def test_new_seeds_keep_their_distance_and_the_target_is_made_up_for(before):
    # half of the needles go 4 mm to one side
    seeds = {}
    for needle in before.needles[::2]:
        for name, place in all_of(needle).items():
            seeds[name] = tuple(np.add(place, (4.0, 0, 0)).tolist())
    found = replan(before, sphere(), Placed(seeds, frozenset(), frozenset(), {}))
    told = found.optimiser.replan
    assert told.now["GTV"]["V100_pct"] < told.old["GTV"]["V100_pct"]
    assert found.optimiser.carried_on or no_worse(told.new, told.old)
    fixed = np.array(placed_of(found))
    new = np.array([s.position_mm for n in found.needles for s in n.seeds if not s.placed])
    if not found.optimiser.carried_on:
        assert np.linalg.norm(new[:, None] - fixed[None], axis=2).min() >= 5 - 0.01
        gaps = np.linalg.norm(new[:, None] - new[None], axis=2)[np.triu_indices(len(new), 1)]
        assert gaps.min() >= 5 - 0.01
    # what is told of the new plan on the samples is what its evaluation says, within the samples' own error
    assert told.new["GTV"]["V100_pct"] == pytest.approx(
        found.evaluation.structures["GTV"]["V100_pct"], abs=1.0
    )


def test_a_blocked_needle_is_out_with_its_neighbours(before):
    hole = before.needles[0].hole
    blocked = Placed({}, frozenset(), frozenset({(0, hole)}), {})
    found = replan(before, sphere(), blocked)
    assert hole not in {n.hole for n in found.needles}
    assert any(hole in words for words in found.optimiser.changes)
    wide = before.model_copy(
        update={"protocol": change(before.protocol, replan={"blocked_radius_mm": 10.0})}
    ).sealed()
    standing = stand(wide, opened_for(wide, sphere()), blocked)
    layout = standing.opened.candidates.templates[0].layout
    from brachy.needles.template import parse_hole

    middle = layout.hole_mm(*parse_hole(hole))
    for _, closed in standing.closed:
        assert math.dist(layout.hole_mm(*parse_hole(closed)), middle) <= 10.0 + 1e-6
    assert len(standing.closed) >= 3
    # planned needles beside it are not carried on either
    assert not standing.closed & {(n.template, n.hole) for n in standing.rest}


def test_replanning_again_with_nothing_new_changes_nothing(before, tmp_path):
    """Holes near a blocked one are out; those near these are not, however often the plan is replanned."""
    wide = before.model_copy(
        update={"protocol": change(before.protocol, replan={"blocked_radius_mm": 10.0})}
    ).sealed()
    first, second, *_ = wide.needles
    blocked = frozenset({(0, first.hole)})
    tip, entry = np.add(second.tip_mm, (2.0, 1.0, -1.5)), np.add(second.skin_mm, (-1.0, 0.0, 2.0))
    line = {(0, second.hole): (tuple(tip.tolist()), tuple(entry.tolist()))}
    one = {(0, second.hole, 1): tuple(np.add(second.seeds[0].position_mm, 0.3).tolist())}
    reported = Placed(one, frozenset(), blocked, line)
    start = replan(wide, sphere(), reported)
    assert start.optimiser.blocked == (BlockedHole(template=0, hole=first.hole),)
    closed = stand(start, opened_for(start, sphere()), NOTHING).closed
    assert closed == stand(wide, opened_for(wide, sphere()), reported).closed
    chain = [start]
    for _ in range(3):
        again = tmp_path / "placed.csv"  # filled in by the program, and the hole reported once more
        again.write_text(placed_csv(chain[-1]) + f"1,{first.hole},,blocked,,,\n")
        told = read_placed(again, chain[-1]) if len(chain) == 2 else NOTHING
        chain.append(replan(chain[-1], sphere(), told))
    for old, new in pairwise(chain):
        assert new.parent == old.checksum
        for part in ("needles", "sources", "templates", "evaluation", "rules", "assumed", "protocol"):
            assert getattr(new, part) == getattr(old, part), part
        assert new.optimiser.blocked == old.optimiser.blocked
        assert (new.optimiser.changes, new.optimiser.carried_on) == ((), True)
    texts = [plan.to_json().splitlines() for plan in chain[1:]]
    for text in texts[1:]:
        differing = [a.split(":")[0].strip() for a, b in zip(texts[0], text, strict=True) if a != b]
        assert differing == ['"parent"', '"checksum"']


def test_seeds_along_a_measured_line_keep_their_distance(before):
    """The line ends short of where two seeds were planned: both would lie at its end."""
    needle = max(before.needles, key=lambda n: len(n.seeds))
    unit = np.array(needle.direction)
    first = min(needle.seeds, key=lambda s: s.depth_mm)
    inside = {(0, needle.hole, 1): tuple(np.round(first.position_mm, 3).tolist())}
    for short in (0.0, 8.0, 14.0, 20.0):
        tip = np.array(needle.tip_mm) - short * unit
        line = {(0, needle.hole): (tuple(tip.tolist()), needle.skin_mm)}
        for seeds in ({}, inside):
            standing = stand(
                before, opened_for(before, sphere()), Placed(seeds, frozenset(), frozenset(), line)
            )
            places = [
                s.position_mm
                for n in (*standing.rest, *standing.fixed)
                if n.hole == needle.hole
                for s in n.seeds
            ]
            gaps = [math.dist(a, b) for k, a in enumerate(places) for b in places[:k]]
            assert min(gaps, default=9.0) >= 5.0 - 0.01, (short, seeds)


def test_a_replan_that_ends_early_says_so(before):
    found = replan(before, sphere(), NOTHING, time_limit=1e-9)
    assert any("time limit" in words for words in found.assumed)
    assert found.optimiser.time_limit_s == 1e-9


def test_seeds_to_come_through_a_needle_that_is_begun_are_judged(before):
    """One seed of a needle is in; another of it is moved out of the target, and only the latter breaks the rules."""
    needle = max(before.needles, key=lambda n: len(n.seeds))
    target = Target(sphere().structure(before.targets[0].planned_roi), 120.0)
    structures = tuple(opened_for(before, sphere()).prepared.case.structures)
    source = load_source("amersham_6711")

    def judged(moved, placed):
        ordered = sorted(needle.seeds, key=lambda s: s.depth_mm)
        ordered[0] = ordered[0].model_copy(update={"placed": True})
        far = np.add(ordered[-1].position_mm, -40.0 * np.array(needle.direction))
        if moved:
            ordered[-1] = ordered[-1].model_copy(
                update={"position_mm": tuple(far.tolist()), "placed": placed}
            )
        other = needle.model_copy(update={"seeds": tuple(ordered)})
        found = check_rules([other], before.templates, [target], structures, before.protocol, source)
        return {r.rule: r.met for r in found}["seed between first entry and last exit"]

    assert judged(moved=False, placed=False)
    assert not judged(moved=True, placed=False)
    assert judged(moved=True, placed=True)


def test_a_lost_seed_is_not_there(before):
    needle = next(n for n in before.needles if len(n.seeds) >= 2)
    name = (needle.template, needle.hole, 1)
    rest = {k: v for k, v in all_of(needle).items() if k != name}
    found = replan(before, sphere(), Placed(rest, frozenset({name}), frozenset(), {}))
    assert placed_of(found) == sorted(rest.values())


def test_a_needle_on_a_measured_line_gives_its_seeds_along_it(before):
    needle = max(before.needles, key=lambda n: len(n.seeds))
    tip, entry = np.add(needle.tip_mm, (2.0, 1.0, -1.5)), np.add(needle.skin_mm, (-1.0, 0.0, 2.0))
    line = Placed({}, frozenset(), frozenset(), {(0, needle.hole): (tuple(tip), tuple(entry))})
    found = replan(before, sphere(), line)
    (after,) = [n for n in found.needles if n.hole == needle.hole]
    assert after.in_place
    assert after.tip_mm == pytest.approx(tip, abs=1e-3)
    unit = (tip - entry) / np.linalg.norm(tip - entry)
    for seed in after.seeds:
        way = np.subtract(seed.position_mm, entry)
        assert np.linalg.norm(way - (way @ unit) * unit) < 2e-3
        assert not seed.placed
    # filled in again, the file says the same
    assert ",line," in placed_csv(found)


def test_a_needle_in_the_patient_gets_seeds_of_its_own_strength_alone():
    """Solution by the property test: with two strengths in stock, two seeds lay at each place of a measured needle."""
    mixed = plan(sphere(), change(QUICK, source={"activities_mCi": (0.8, 0.6)}), direction=(0, 0))
    lines = {
        (n.template, n.hole): (tuple(np.add(n.tip_mm, (1.0, 0.5, 0.0))), n.skin_mm)
        for n in mixed.needles[::2]
    }
    found = replan(mixed, sphere(), Placed({}, frozenset(), frozenset(), lines))
    assert not found.optimiser.carried_on
    places = np.array(seeds_of(found))
    gaps = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(len(places), 1)]
    assert gaps.min() >= 5.0 - 0.01
    planned = {n.hole: mixed.sources[n.seeds[0].source].air_kerma_strength_U for n in mixed.needles[::2]}
    for needle in found.needles:
        strengths = {found.sources[seed.source].air_kerma_strength_U for seed in needle.seeds}
        (strength,) = strengths
        assert strength == pytest.approx(planned.get(needle.hole, strength), rel=1e-5)


def test_a_hole_that_is_used_again_has_the_axis_of_the_new_needle():
    """Found by the property test: the new seeds were told on the line of a measured needle that had been withdrawn."""
    ahead, aslant = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.8, 0.6])
    new = small_plan.needle("A1", 0, (0, 0, 0), ahead, 100.0, (2.25, 12.25), (0, 0))
    deep, shallow, measured = (
        small_plan.needle("A1", 0, (0, 0, 0), way, length, (2.25,), (0,))
        for way, length in ((ahead, 110.0), (ahead, 90.0), (aslant, 110.0))
    )
    for old, tip in ((deep, deep.tip_mm), (shallow, new.tip_mm), (measured, new.tip_mm)):
        inside = old.model_copy(
            update={"seeds": tuple(s.model_copy(update={"placed": True}) for s in old.seeds)}
        )
        (found,) = joined([inside], [new])
        assert found.tip_mm == tip
        assert found.direction == new.direction
        assert sorted(s.position_mm for s in found.seeds if s.placed) == [old.seeds[0].position_mm]
        for seed in found.seeds:
            assert seed.depth_mm == pytest.approx(math.dist(seed.position_mm, tip))


def test_the_chain_leads_back_and_every_state_can_be_written_again(tmp_path, before):
    first = write_outputs(before, sphere(), tmp_path / "1", pictures=False)
    placed = Placed(all_of(before.needles[0]), frozenset(), frozenset(), {})
    second_plan = replan(before, sphere(), placed)
    second = write_outputs(
        second_plan, sphere(), tmp_path / "2", pictures=False, ancestors=lineage.ancestors_for_child(first)
    )
    assert check_plan(second).verdict == "pass"
    third_plan = replan(Plan.load(second), sphere(), NOTHING)
    third = write_outputs(
        third_plan, sphere(), tmp_path / "3", pictures=False, ancestors=lineage.ancestors_for_child(second)
    )
    assert placed_of(Plan.load(third)) == placed_of(Plan.load(second))  # what is in stays in
    chain = lineage.chain_of(third)
    assert [p.checksum for p in chain] == [p.checksum for p in (Plan.load(third), Plan.load(second), before)]
    again = write_outputs(chain[-1], sphere(), tmp_path / "again", pictures=False)
    for name in ("plan.json", "RTPLAN.dcm", "RTDOSE.dcm", "needles.csv", "placed.csv"):
        assert (again / name).read_bytes() == (first / name).read_bytes(), name
    (third / "chain" / f"{before.checksum}.json").unlink()
    with pytest.raises(BrachyError, match="ancestors are not all here"):
        lineage.chain_of(third)


def test_an_approved_plan_is_never_replaced(tmp_path, before):
    folder = write_outputs(before, sphere(), tmp_path / "1", pictures=False)
    lineage.approve(folder, "A. Physicist")
    assert lineage.approval(folder)["by"] == "A. Physicist"
    with pytest.raises(UsageError, match="is approved and is not replaced"):
        write_outputs(before, sphere(), folder, pictures=False, force=True)
    with pytest.raises(UsageError, match="approved already"):
        lineage.approve(folder, "B")
    with pytest.raises(UsageError, match="--by"):
        lineage.approve(tmp_path / "1", "  ")
    (folder / "approval.json").write_text(json.dumps({"plan": "x", "by": "y"}))
    with pytest.raises(BrachyError, match="another plan"):
        lineage.approval(folder)


def test_the_cache_is_used_if_it_is_the_right_one_and_may_be_deleted_or_damaged(
    tmp_path, before, monkeypatch
):
    from brachy.optimise.candidates import SeedTable
    from brachy.optimise.replanning import cache

    placed = Placed(all_of(before.needles[0]), frozenset(), frozenset(), {})
    first = replan(before, sphere(), placed, cache=tmp_path)
    file = tmp_path / cache.NAME
    good = file.read_bytes()
    sizes = []
    computed = SeedTable.rows

    def counting(self, points, positions, axes):
        sizes.append(len(positions))
        return computed(self, points, positions, axes)

    monkeypatch.setattr(SeedTable, "rows", counting)
    assert replan(before, sphere(), placed, cache=tmp_path).to_json() == first.to_json()
    used = list(sizes)
    for bad in (good[:-1], good[:100] + b"x" + good[101:], b"x" + good[1:], b""):
        sizes.clear()
        file.write_bytes(bad)
        assert replan(before, sphere(), placed, cache=tmp_path).to_json() == first.to_json()
        assert sum(sizes) > sum(used)  # all candidates again
        assert file.read_bytes() == good
    file.unlink()
    assert replan(before, sphere(), placed).to_json() == first.to_json()


# ---- files --------------------------------------------------------------------------------------------------------


def written(tmp_path, text):
    file = tmp_path / "placed.csv"
    file.write_text(",".join(PLACED_HEADER) + "\n" + text)
    return file


def test_the_form_of_a_new_plan_says_that_nothing_is_placed(tmp_path, before):
    file = tmp_path / "placed.csv"
    file.write_text(placed_csv(before))
    assert read_placed(file, before) == NOTHING
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert len(rows) == before.seed_count + len(before.needles)
    for row in rows:
        row["state"] = "planned" if row["seed"] else ""
    as_json = tmp_path / "placed.json"
    as_json.write_text(json.dumps([{**row, "seed": int(row["seed"] or 0) or None} for row in rows]))
    found = read_placed(as_json, before)
    assert sorted(found.seeds.values()) == sorted(seeds_of(before))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,{hole},1,put,,,\n", "line 2: state 'put' is none of empty, planned, measured, lost"),
        ("1,{hole},,lost,,,\n", "line 2: state 'lost' is none of empty, planned, blocked, line"),
        ("3,{hole},1,planned,,,\n", "line 2: template '3' is none of 1-1"),
        ("1,Z9,1,planned,,,\n", "line 2: template 1 has no hole Z9"),
        ("1,{hole},40,planned,,,\n", "line 2: needle {hole} has"),
        ("1,{hole},1,measured,,,\n", "line 2: state measured needs x_mm"),
        ("1,{hole},1,measured,1,2,\n", "line 2: x_mm, y_mm and z_mm are not three numbers"),
        ("1,{hole},1,measured,1,2,nan\n", "line 2: x_mm, y_mm and z_mm are not three finite"),
        ("1,{hole},1,measured,9000,0,0\n", "line 2: the place is"),
        ("1,{hole},1,lost,1,2,3\n", "line 2: a place is given for state 'lost'"),
        ("1,{hole},1,planned,,,\n1,{hole},1,lost,,,\n", "line 3: seed 1 of {hole} is in line 2 already"),
        ("1,{hole},,blocked,,,\n1,{hole},1,planned,,,\n", "line 3: needle {hole} is blocked in line 2"),
        ("1,{hole},,planned,,,\n1,{hole},1,lost,,,\n", "line 3: needle {hole} is planned in line 2"),
        ("1,{hole},,planned,,,\n1,{hole},,blocked,,,\n", "line 3: needle {hole} is in line 2 already"),
        ("1,{hole},,line,0,0,0\n", "needs two rows, the tip and the entry"),
        ("1,{hole},,line,0,0,0\n1,{hole},,line,0,0,1\n", "are one place"),
        ("1,{hole},1,planned\n", "line 2: 4 cells, 7 are needed"),
    ],
)
def test_a_file_that_contradicts_the_plan_is_refused_by_its_line(tmp_path, before, text, words):
    hole = before.needles[0].hole
    with pytest.raises(UsageError) as refused:
        read_placed(written(tmp_path, text.replace("{hole}", hole)), before)
    assert words.replace("{hole}", hole) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_are_none_are_refused(tmp_path, before):
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b\n")
    with pytest.raises(UsageError, match="line 1: the header"):
        read_placed(bad, before)
    bad.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        read_placed(bad, before)
    for content in ("{", "3", '[{"hole": "A1", "colour": 3}]', "[3]"):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UsageError, match=r"bad\.json"):
            read_placed(tmp_path / "bad.json", before)
    with pytest.raises(UsageError, match="cannot read"):
        read_placed(tmp_path / "none.csv", before)


def test_the_command_makes_a_child_or_writes_nothing(tmp_path, before, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["brachy", *map(str, words)])
        with pytest.raises(SystemExit) as leave:
            app.main()
        return int(leave.value.code or 0), capsys.readouterr()

    folder = write_outputs(before, sphere(), tmp_path / "plan", pictures=False)
    hole = before.needles[0].hole
    bad = written(tmp_path, f"1,{hole},1,put,,,\n")
    code, shown = run("replan", folder, "--placed", bad, "-o", tmp_path / "child")
    assert (code, (tmp_path / "child").exists()) == (2, False)
    assert len(shown.err.strip().splitlines()) == 1
    good = written(tmp_path, f"1,{hole},,blocked,,,\n")
    code, shown = run("replan", folder, "--placed", good, "-o", tmp_path / "child")
    assert code == 0, shown.err
    assert "old plan" in shown.out
    assert hole not in {n.hole for n in Plan.load(tmp_path / "child").needles}
    assert (tmp_path / "child" / "ct").is_dir()
    assert run("approve", tmp_path / "child", "--by", "A. B.")[0] == 0
    code, shown = run("replan", folder, "--placed", good, "-o", tmp_path / "child", "--force")
    assert code == 2
    assert "approved" in shown.err


# ---- any sequence of events ---------------------------------------------------------------------------------------


@settings(
    max_examples=4, deadline=None, derandomize=True, phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4), st.floats(-3, 3)), min_size=2, max_size=4))
def test_placed_seeds_never_move_vanish_or_double(before, events):
    quick = change(before.protocol, replan={"moves": 300})
    now = before.model_copy(update={"protocol": quick}).sealed()
    known: list[tuple[float, ...]] = []
    for pick, kind, off in events:
        open_ = [n for n in now.needles if not all(s.placed for s in n.seeds)]
        if not open_:
            break
        needle = open_[pick % len(open_)]
        key = (needle.template, needle.hole)
        ordered = sorted(needle.seeds, key=lambda s: s.depth_mm)
        names = [(*key, k) for k, s in enumerate(ordered, 1) if not s.placed]
        places = {
            name: tuple(
                np.round(np.add(ordered[name[2] - 1].position_mm, (off, 0.5 * off, -off)), 2).tolist()
            )
            for name in names
        }
        begun = any(s.placed for s in ordered)
        if kind == 0:
            event = Placed(places, frozenset(), frozenset(), {})
        elif kind == 1:
            event = Placed({names[0]: places[names[0]]}, frozenset(), frozenset(), {})
        elif kind == 2:
            event = Placed({}, frozenset(names[:1]), frozenset(), {})
        elif kind == 3 and not begun:
            event = Placed({}, frozenset(), frozenset({key}), {})
        else:
            line = tuple(np.add(needle.tip_mm, off)), tuple(np.add(needle.skin_mm, -off))
            event = Placed({}, frozenset(), frozenset(), {key: line})
        known += list(event.seeds.values())
        now = replan(now, sphere(), event, threads=1)
        assert placed_of(now) == sorted(known)
        every = seeds_of(now)
        assert len(set(every)) == len(every)
