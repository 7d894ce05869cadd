"""plan.json: round trip, checksum, rounding, and what is refused."""

import json
import math
import os
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from brachy.errors import BrachyError
from brachy.patient import plan as plan_file
from brachy.patient.optimiser_record import OptimiserRecord
from brachy.patient.plan import Plan, PlanSeed, checksum_of
from brachy.writing import canonical, rounded, write_bytes_whole
from tests.small_plan import small_plan

FINITE = st.floats(allow_nan=False, allow_infinity=False)
STEADY = settings(deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def plan():
    return small_plan()


@pytest.fixture
def file(plan, tmp_path):
    plan.save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


def rewritten(file, change, seal=True):
    """Change a plan.json by hand, with or without a checksum that fits."""
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    if seal:
        data["checksum"] = checksum_of(data)
    file.write_text(json.dumps(data, indent=2), encoding="utf-8")


def refused(path):
    with pytest.raises(BrachyError) as caught:
        Plan.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert 20 < len(message) < 400
    return message


def test_round_trip(plan, file):
    read = Plan.load(file)
    assert read == plan.sealed()
    assert read.to_json() == file.read_text(encoding="utf-8")
    assert Plan.load(file.parent) == read
    assert read.seed_count == 12


def test_same_bytes_again(plan, tmp_path):
    plan.save(tmp_path / "a")
    small_plan().save(tmp_path / "b")
    Plan.load(tmp_path / "a").save(tmp_path / "c")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_implants_by_source(plan):
    implants = plan.implants()
    assert [len(i) for i in implants] == [8, 2, 2]
    assert [i.source.name for i in implants] == ["amersham_6711", "amersham_6711", "bard_stm1251"]
    assert [i.strength_U[0] for i in implants] == [0.889, 0.762, 0.621]
    assert implants[2].positions_mm[0] == pytest.approx(plan.needles[5].seeds[0].position_mm)
    assert implants[2].axes[0] == pytest.approx(plan.needles[5].direction)


def test_top_level_is_what_the_format_says(file):
    data = json.loads(file.read_text(encoding="utf-8"))
    assert (data["format"], data["version"], data["parent"]) == ("brachy-plan", 2, None)
    assert len(data["checksum"]) == 64
    wanted = {
        "case",
        "protocol",
        "assumed",
        "sources",
        "targets",
        "structures",
        "templates",
        "needles",
        "evaluation",
        "rules",
    }
    assert wanted | {"check", "optimiser", "software"} <= data.keys()
    assert data["needles"][0]["seeds"][0].keys() == {"position_mm", "depth_mm", "source"}


def as_version_1(data):
    """A plan.json as it was written before structures were listed."""
    data["version"] = 1
    del data["structures"]
    for goal in data["evaluation"]["goals"]:
        del goal["uncertainty"], goal["reason"]
    rules = (
        ("needle to lung", None, "not checked: no such structure", True),
        ("target edge", 14.0, "reported: at (1, 2, 3): hole A1", True),
        ("needle to bone", 5.5, "needle A2, Ribs: 3", True),
        ("between seeds", 0.5, "", False),
    )
    data["rules"] = [
        {"rule": name, "limit": ">= 2 mm", "worst": worst, "unit": "mm", "where": where, "met": met}
        for name, worst, where, met in rules
    ]


def test_a_plan_of_version_1_is_read_and_written_again_to_the_byte(file):
    rewritten(file, as_version_1)
    data = json.loads(file.read_text(encoding="utf-8"))
    read = Plan.load(file)
    assert (read.version, read.structures) == (1, ())
    assert [(rule.status, rule.met, rule.where) for rule in read.rules] == [
        ("not checked", None, "no such structure"),
        ("reported", None, "at (1, 2, 3): hole A1"),
        ("kept", True, "needle A2, Ribs: 3"),
        ("broken", False, ""),
    ]
    assert read.checksum == data["checksum"]
    assert json.loads(read.to_json()) == data
    read.save(file.with_name("again.json"))
    assert Plan.load(file.with_name("again.json")) == read


def test_every_float_has_six_digits(file):
    numbers = []
    json.loads(file.read_text(encoding="utf-8"), parse_float=numbers.append)
    digits = [len(Decimal(number).normalize().as_tuple().digits) for number in numbers]
    assert len(numbers) > 200
    assert max(digits) == 6


@STEADY
@given(FINITE)
def test_rounding_is_that_of_decimal_arithmetic(value):
    # a second way: exact decimal value of the double, rounded half even at 6 digits
    exact = Context(prec=6, rounding=ROUND_HALF_EVEN).create_decimal(Decimal(value))
    assert rounded(value) == float(exact)


@STEADY
@given(st.recursive(FINITE | st.integers() | st.text() | st.booleans() | st.none(), st.lists))
def test_rounding_twice_changes_nothing_more(value):
    once = rounded(value)
    assert rounded(once) == once


@STEADY
@given(st.dictionaries(st.text(), FINITE | st.integers() | st.lists(FINITE, max_size=3), max_size=5))
def test_any_numbers_survive_the_way_through_json(values):
    data = rounded({"values": values})
    assert json.loads(canonical(data)) == data


def test_what_rounding_knows():
    assert rounded(-0.0) == 0.0
    assert math.copysign(1, rounded(-0.0)) == 1
    assert rounded({"a": np.float64(1.23456789), "b": np.arange(2), 3: True}) == {
        "a": 1.23457,
        "b": [0, 1],
        "3": True,
    }
    with pytest.raises(TypeError, match="set"):
        rounded({1, 2})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_number_that_is_none(plan, tmp_path, bad):
    with pytest.raises(ValueError, match="not finite"):
        rounded({"a": [1.0, bad]})
    with pytest.raises(ValidationError):
        PlanSeed(position_mm=(0.0, bad, 0.0), depth_mm=1.0)
    with pytest.raises(ValidationError):
        OptimiserRecord(objective=bad)
    unchecked = OptimiserRecord.model_construct({"objective"}, objective=bad)
    with pytest.raises(ValueError, match="not finite"):
        small_plan(optimiser=unchecked).save(tmp_path / "plan.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["needles"][0]["seeds"][0]["position_mm"].__setitem__(0, 0.5),
        lambda data: data["targets"][0].update(prescription_gy=110.0),
        lambda data: data["assumed"].append("more"),
        lambda data: data.update(checksum="0" * 64),
        lambda data: data.pop("checksum"),
        lambda data: data["optimiser"].update(seed=2),
    ],
)
def test_a_changed_plan_is_refused_by_name(file, change):
    rewritten(file, change, seal=False)
    message = refused(file)
    assert "plan.json was changed" in message
    assert "checksum" in message


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda data: data.update(version=3), "version 3"),
        (lambda data: data.update(version=True), "version True"),
        (lambda data: data.update(version="x" * 1_000_000), "version"),
        (lambda data: data.update(format="other"), "not a brachy plan"),
        (lambda data: data.update(more=1), "more"),
        (lambda data: data.pop("targets"), "targets"),
        (lambda data: data["needles"][0].update(template=7), "template 7"),
        (lambda data: data["needles"][0].update(template=-1), "template"),
        (lambda data: data["needles"][0]["seeds"][0].update(source=9), "source"),
        (lambda data: data["protocol"]["prescription"].update(dose_gy=500.0), "500"),
        (lambda data: data["needles"][0].update(depth_mm="deep"), "depth_mm"),
    ],
)
def test_a_broken_plan_is_refused_by_name(file, change, word):
    rewritten(file, change)
    message = refused(file)
    assert "plan.json" in message
    assert word in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": "brachy-plan", "version": NaN}',
        b'{"format": "brachy-plan", "version": 1, "checksum": "x", "optimiser": 1e999}',
        b'{"format": "brachy-plan", "version": 1, "checksum": "x", "software": "\\ud800"}',
        b'{"format": "brachy-plan", "version": 1, "optimiser": ' + b"[" * 990 + b"]" * 990 + b"}",
        b'{"format": "brachy-plan", "version": 1, "optimiser": ' + b"9" * 5000 + b"}",
    ],
    ids=range(11),
)
def test_what_is_no_plan_is_refused(tmp_path, content):
    (tmp_path / "plan.json").write_bytes(content)
    assert "plan.json" in refused(tmp_path)


def test_nothing_there(tmp_path):
    assert "no plan at" in refused(tmp_path)
    assert "no plan at" in refused(tmp_path / "nowhere")
    assert "no plan at" in refused("a\0b")


def test_a_file_that_may_not_be_read(file, monkeypatch):
    monkeypatch.setattr(
        Path, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    assert "Permission denied" in refused(file)


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(plan_file, "MAX_BYTES", 1000)
    (tmp_path / "plan.json").write_bytes(b" " * 1001)
    assert "larger than" in refused(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes_whole(path, b"first")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(BrachyError, match="No space left"):
        write_bytes_whole(path, b"second")
    assert path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(BrachyError, match="cannot write"):
        write_bytes_whole(tmp_path / "nowhere" / "file", b"x")


def test_a_file_keeps_to_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        write_bytes_whole(tmp_path / "file", b"x")
    finally:
        os.umask(old)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


FIGURES = {"GTV": {"D90_gy": 120.5, "V100_pct": 95.5}}
MEASURE = {"measure": 0.9, "share_with_d90": 0.5, "seeds": 20}
TRIED = {
    "azimuth_deg": 0.0, "tilt_deg": 0.0, "offset_mm": [1.0, 0.0], "needles_offered": 9, "blocked": {"Ribs": 2},
    "edge_points_out_of_reach": 0, "score": None, "optimised": 6.5, "outcome": "chosen",
}  # fmt: skip
SEARCHED = {"seed": 1, "directions": [{"target": "GTV", "tried": [TRIED]}]}


@pytest.mark.parametrize(
    "optimiser",
    [
        {},
        {
            "objective": 5.5, "terms": {"underdose": 5.5}, "raised_for_goals": 1.15,
            "robust": {"scenarios": 40, "measure": "D90", "before": MEASURE, "after": MEASURE,
                       "rounds": 3, "reached": True},
            "seed": 1, "starts": 4, "moves": 1000, "candidates": 400, "samples": 3000,
            "out_of_reach": [{"roi": "GTV", "volume_cc": 0.5, "centre_mm": [1.0, 2.0, 3.0]}],
            "directions": SEARCHED["directions"], "lower_bound": 5.0, "gap_absolute": 0.5, "gap_relative": 0.1,
            "certificate": "no loading is below", "time_limit_s": 5.0, "interrupted": True,
        },
        {
            **SEARCHED, "blocked": [{"template": 0, "hole": "A2"}], "objective": 5.5, "terms": {"underdose": 5.5},
            "raised_for_goals": 1.0, "changes": ["needle A1: 2 seeds, was 3"],
        },
        {
            **SEARCHED, "raised_for_goals": 1.0, "replan": {"now": FIGURES, "old": FIGURES, "new": FIGURES},
            "carried_on": False, "blocked": [], "short_by": {"GTV": {"V100_pct": 1.5, "D90_gy": 2.5}},
            "helps_most": "a further seed in hole A1", "time_limit_s": 5.0, "changes": [],
        },
    ],
    ids=["none", "planned", "edited", "replanned"],
)  # fmt: skip
def test_a_plan_of_an_earlier_release_loads_and_is_written_again_with_the_same_bytes(file, optimiser):
    """Keys and their order as version 0.1.0 wrote them; keys that were not written stay away."""
    data = {**json.loads(file.read_text(encoding="utf-8")), "optimiser": optimiser}
    file.write_text(canonical({**data, "checksum": checksum_of(data)}), encoding="utf-8")
    loaded = Plan.load(file)
    assert loaded.to_json() == file.read_text(encoding="utf-8")
    assert json.dumps(loaded.optimiser.model_dump(mode="json")) == json.dumps(optimiser)
