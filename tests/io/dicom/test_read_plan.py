"""RT Plan in: the seeds of any vendor's permanent implant; everything else is refused with the reason."""

import json
import tomllib
from datetime import date

import numpy as np
import pytest
from pydicom.dataset import Dataset

from brachy import resources
from brachy.errors import BrachyError, UsageError
from brachy.io.dicom.read import read_plan
from brachy.io.dicom.rtplan import mapped_model
from tests import scanner

MEAN_LIFE_S = 59.4 * 86400 / np.log(2)


def source(number=1, name="I-125 (STM 1251)", strength=0.621, half_life=59.4, **more):
    item = Dataset()
    item.SourceNumber, item.SourceType, item.SourceIsotopeName = number, "LINE", name
    item.SourceIsotopeHalfLife, item.ReferenceAirKermaRate = str(half_life), str(strength)
    item.SourceStrengthReferenceDate, item.SourceStrengthReferenceTime = "20260102", "120000"
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def channel(points, number=1, source=1, axis=None, weights=None, movement="FIXED", applicator=None):
    """A channel of control points at `points`; weights 0 and 100 for a pair, None leaves them out."""
    item = Dataset()
    item.ChannelNumber, item.SourceMovementType, item.ReferencedSourceNumber = number, movement, source
    item.ChannelTotalTime = f"{MEAN_LIFE_S:.1f}"
    if applicator:
        item.SourceApplicatorNumber, item.SourceApplicatorID = number, applicator
    item.BrachyControlPointSequence = []
    for k, point in enumerate(points):
        control = Dataset()
        control.ControlPointIndex, control.ControlPoint3DPosition = k, scanner.decimal(point)
        if weights is not None:
            control.CumulativeTimeWeight = str(weights[k])
        if axis is not None:
            control.ControlPointOrientation = [float(a) for a in axis]
        item.BrachyControlPointSequence.append(control)
    return item


def seed(point, number=1, **options):
    return channel([point, point], number, weights=(0, 100), **options)


def plan_set(setups, sources=None, **more):
    """RTPLAN data set; `setups` is a list of lists of channels."""
    data = scanner.common(scanner.PLAN_CLASS, "RTPLAN", scanner.generate_uid())
    data.RTPlanLabel, data.ApprovalStatus = "P1", "APPROVED"
    data.BrachyTreatmentTechnique, data.BrachyTreatmentType = "PERMANENT", "MANUAL"
    data.SourceSequence = sources or [source()]
    data.ApplicationSetupSequence = []
    group, reference = Dataset(), Dataset()
    group.ReferencedBrachyApplicationSetupSequence = []
    for number, channels in enumerate(setups, start=1):
        setup, named = Dataset(), Dataset()
        setup.ApplicationSetupNumber, setup.ApplicationSetupType, setup.ChannelSequence = (
            number,
            "OTHER",
            channels,
        )
        named.ReferencedBrachyApplicationSetupNumber = number
        data.ApplicationSetupSequence.append(setup)
        group.ReferencedBrachyApplicationSetupSequence.append(named)
    data.FractionGroupSequence = [group]
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
        scanner.STRUCTURE_CLASS,
        scanner.STRUCTURES,
    )
    data.ReferencedStructureSetSequence = [reference]
    for keyword, value in more.items():
        setattr(data, keyword, value)
    return data


def read(tmp_path, data):
    return read_plan(scanner.save(data, tmp_path / "RP.dcm"))


def refused(tmp_path, data, *parts):
    with pytest.raises(BrachyError) as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("RP.dcm", *parts):
        assert part in message, message


# ---- plans of clinics ------------------------------------------------------------------------------------------


def test_day1_plan(shared):
    """VariSeed 8: a setup a seed, no units, no orientation, no prescription."""
    folder = shared / "data" / "prostate_postimplant_day1"
    plan = read_plan(folder / "dicom" / "PL001.dcm")
    truth = np.loadtxt(folder / "truth" / "seeds_mm_LPS.csv", delimiter=",", skiprows=1)
    told = json.loads((folder / "truth" / "truth.json").read_text())
    assert len(plan) == told["n_seeds"] == 54
    np.testing.assert_allclose(plan.positions_mm, truth[:, 1:4], atol=1e-4)
    np.testing.assert_allclose(plan.strength_U, told["air_kerma_strength_U"], atol=1e-6)
    (kind,) = plan.sources
    assert (kind.model_as_written, kind.model) == ("I-125 (STM 1251)", "bard_stm1251")
    assert kind.half_life_days == told["half_life_d"]
    assert str(kind.reference) == "2015-09-16 12:00:00"
    assert plan.axes is None
    assert plan.prescription_gy is None
    assert len(plan.setups) == 54
    assert plan.setups[0].kind == "PERINEAL"
    assert plan.structure_set_uid == "1.2.246.352.91.0000129.20180420152003.36"
    text = " | ".join(plan.assumed)
    assert "no unit" in text
    assert "1D only" in text
    # 1.44 T1/2 instead of T1/2 / ln 2 is 0.2 % off and no other treatment
    assert "mean life" not in text
    (implant,) = plan.implants()
    assert len(implant) == 54
    assert implant.source.name == "bard_stm1251"
    assert implant.half_life_days == 59.4


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hdr_plans/RP.HDR.dcm", ("an HDR plan", "INTRACAVITARY", "GammaMed Plus HDR source 0.9 mm")),
        ("hdr_plans/RP.PDR.dcm", ("a PDR plan", "GammaMed Plus PDR source 0.9 mm")),
        ("hdr_plans/sagiplan/RP.dcm", ("an HDR plan", "INTERSTITIAL")),
        ("dvh_breast/dicom/rtplan.dcm", ("an external-beam plan",)),
    ],
)
def test_other_plans_are_refused_with_the_reason(shared, name, parts):
    with pytest.raises(BrachyError) as caught:
        read_plan(shared / "data" / name)
    message = str(caught.value)
    assert "\n" not in message
    for part in (*parts, "only PERMANENT seed implants are read"):
        assert part in message, message


def test_our_own_plan_comes_back(tmp_path):
    """Two templates, two strengths, tilted needles."""
    from brachy.io.dicom.write import write_plan
    from tests.small_plan import dicom_identity, small_case, small_plan

    plan = small_plan()
    path = tmp_path / "RTPLAN.dcm"
    write_plan(plan, small_case(dicom_identity()), path)
    back = read_plan(path)
    wanted = [
        (n.template, s.position_mm, n.direction, plan.sources[s.source], n.hole)
        for n in plan.needles
        for s in n.seeds
    ]
    assert len(back) == len(wanted) > 4
    order = sorted(range(len(back)), key=lambda k: (back.setup_of[k], *back.positions_mm[k]))
    wanted.sort(key=lambda row: (row[0], *row[1]))
    for k, (template, position, direction, entry, hole) in zip(order, wanted, strict=True):
        assert (back.setup_of[k], back.applicator_of[k]) == (template, hole)
        np.testing.assert_allclose(back.positions_mm[k], position, atol=0.01)
        np.testing.assert_allclose(back.axes[k], direction, atol=1e-5)
        kind = back.sources[back.source_of[k]]
        assert kind.strength_U == pytest.approx(entry.air_kerma_strength_U, rel=1e-6)
        assert kind.half_life_days == pytest.approx(entry.half_life_days)
        assert kind.model is not None
    assert [s.dose_gy for s in back.setups] == [t.prescription_gy for t in plan.targets]
    assert back.approval == "UNAPPROVED"


# ---- ways of writing seeds -------------------------------------------------------------------------------------

A, B, C = (0.0, 0.0, 0.0), (0.0, 0.0, 10.0), (0.0, 0.0, 20.0)


def test_a_channel_a_seed(tmp_path):
    plan = read(tmp_path, plan_set([[seed(A, 1), seed(B, 2)], [seed(C, 1)]]))
    np.testing.assert_array_equal(plan.positions_mm, [A, B, C])
    assert plan.setup_of.tolist() == [0, 0, 1]
    assert (plan.label, plan.approval, plan.patient_id) == ("P1", "APPROVED", "T1")
    assert plan.structure_set_uid == scanner.STRUCTURES
    assert plan.frame_of_reference_uid == scanner.FRAME


@pytest.mark.parametrize(
    ("points", "weights"),
    [
        ([A, A, B, B, C, C], (0, 33.3, 33.3, 66.7, 66.7, 100)),  # pairs, as of a stepping source
        ([A, B, C], (0, 50, 100)),  # a control point a seed
        ([A, B, C], None),
        ([A, A, B, B, C, C], None),
        ([A, A, B, B, C, C], (100, 100, 100, 100, 100, 100)),
    ],
)
def test_a_channel_a_needle(points, weights, tmp_path):
    needle = channel(points, weights=weights, movement="STEPWISE", applicator="C4")
    plan = read(tmp_path, plan_set([[needle]]))
    np.testing.assert_array_equal(plan.positions_mm, [A, B, C])
    np.testing.assert_allclose(plan.strength_U, 0.621)
    assert plan.applicator_of == ("C4", "C4", "C4")
    assert any("several positions" in note for note in plan.assumed)


def test_a_passage_is_no_seed(tmp_path):
    needle = channel([A, A, B, B, C, C], weights=(0, 50, 50, 50, 50, 100))
    np.testing.assert_array_equal(read(tmp_path, plan_set([[needle]])).positions_mm, [A, C])


def test_unequal_weights_are_no_seeds(tmp_path):
    needle = channel([A, A, B, B], weights=(0, 30, 30, 100))
    refused(tmp_path, plan_set([[needle]]), "channel 1", "unequal time weights")


def test_axes(tmp_path):
    axis = (0.0, 0.6, 0.8)
    plan = read(tmp_path, plan_set([[seed(A, 1, axis=axis), seed(B, 2, axis=(0, 0, 2))]]))
    np.testing.assert_allclose(plan.axes, [axis, (0, 0, 1)])
    some = read(tmp_path, plan_set([[seed(A, 1, axis=axis), seed(B, 2)]]))
    assert some.axes is None
    assert any("1 of 2 seeds have no orientation" in note for note in some.assumed)
    refused(tmp_path, plan_set([[seed(A, axis=(0, 0, 0))]]), "channel 1", "no direction")


def test_several_sources(tmp_path):
    sources = [source(5, strength=0.5), source(9, "I-125 (6711)", 0.8)]
    plan = read(
        tmp_path, plan_set([[seed(A, 1, source=9), seed(B, 2, source=5), seed(C, 3, source=9)]], sources)
    )
    np.testing.assert_allclose(plan.strength_U, (0.8, 0.5, 0.8))
    stm, oncoseed = plan.implants()
    assert (stm.source.name, len(stm)) == ("bard_stm1251", 1)
    assert (oncoseed.source.name, len(oncoseed)) == ("amersham_6711", 2)
    np.testing.assert_array_equal(oncoseed.positions_mm, [A, C])
    refused(tmp_path, plan_set([[seed(A, source=4)]], sources), "source 4")


def test_a_channel_without_source_has_the_only_one(tmp_path):
    lone = seed(A)
    del lone.ReferencedSourceNumber
    plan = read(tmp_path, plan_set([[lone]]))
    assert any("only one of the plan" in note for note in plan.assumed)
    refused(tmp_path, plan_set([[lone]], [source(1), source(2)]), "source None")


def test_prescriptions(tmp_path):
    data = plan_set([[seed(A)], [seed(B)]])
    assert read(tmp_path, data).prescription_gy is None
    for item, dose in zip(
        data.FractionGroupSequence[0].ReferencedBrachyApplicationSetupSequence, (145, 145), strict=True
    ):
        item.BrachyApplicationSetupDose = str(dose)
    assert read(tmp_path, data).prescription_gy == 145
    data.FractionGroupSequence[0].ReferencedBrachyApplicationSetupSequence[
        1
    ].BrachyApplicationSetupDose = "110"
    plan = read(tmp_path, data)
    assert plan.prescription_gy is None
    assert [setup.dose_gy for setup in plan.setups] == [145, 110]
    target, organ = Dataset(), Dataset()
    target.DoseReferenceType, target.TargetPrescriptionDose = "TARGET", "120"
    organ.DoseReferenceType, organ.TargetPrescriptionDose = "ORGAN_AT_RISK", "30"
    data.DoseReferenceSequence = [target, organ]
    assert read(tmp_path, data).prescription_gy == 120


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda d: setattr(d, "BrachyTreatmentTechnique", "INTERSTITIAL"), ("INTERSTITIAL", "not PERMANENT")),
        (lambda d: delattr(d, "BrachyTreatmentTechnique"), ("unknown", "not PERMANENT")),
        (lambda d: setattr(d, "BrachyTreatmentType", "HDR"), ("an HDR plan",)),
        (lambda d: setattr(d, "ApplicationSetupSequence", []), ("no application setups",)),
        (lambda d: setattr(d, "SourceSequence", []), ("describes no source",)),
        (
            lambda d: setattr(d.SourceSequence[0], "ReferenceAirKermaRate", "40700"),
            ("40700", "permanent seed"),
        ),
        (lambda d: setattr(d.SourceSequence[0], "ReferenceAirKermaRate", "-1"), ("-1", "permanent seed")),
        (lambda d: delattr(d.SourceSequence[0], "ReferenceAirKermaRate"), ("None", "permanent seed")),
        (
            lambda d: setattr(d.SourceSequence[0], "SourceStrengthUnits", "DOSE_RATE_WATER"),
            ("DOSE_RATE_WATER",),
        ),
        (
            lambda d: setattr(d.SourceSequence[0], "SourceIsotopeHalfLife", "5132160"),
            ("half-life 5132160.0 d",),
        ),
        (lambda d: setattr(channels(d)[0], "SourceMovementType", "OSCILLATING"), ("moves (OSCILLATING)",)),
        (lambda d: delattr(points(d)[0], "ControlPoint3DPosition"), ("no position",)),
        (lambda d: setattr(channels(d)[0], "BrachyControlPointSequence", []), ("no seed",)),
    ],
)
def test_refused(change, parts, tmp_path):
    data = plan_set([[seed(A)]])
    change(data)
    refused(tmp_path, data, *parts)


def channels(data):
    return data.ApplicationSetupSequence[0].ChannelSequence


def points(data):
    return channels(data)[0].BrachyControlPointSequence


def test_another_time_than_the_mean_life_is_told(tmp_path):
    lone = seed(A)
    lone.ChannelTotalTime = "864000"
    plan = read(tmp_path, plan_set([[lone]]))
    assert any("10.0 d, is not the mean life of 85.7 d" in note for note in plan.assumed)


def test_half_life_of_the_plan_goes_before_the_source(tmp_path):
    plan = read(tmp_path, plan_set([[seed(A)]], [source(half_life=61.0)]))
    assert plan.implants()[0].half_life_days == 61.0
    assert plan.implants(half_life_days=59.4)[0].half_life_days == 59.4
    assert any("half-life 61 d is the plan's" in note for note in plan.assumed)


# ---- names of seeds --------------------------------------------------------------------------------------------


def test_unknown_seed_asks_for_the_source(tmp_path):
    plan = read(tmp_path, plan_set([[seed(A)]], [source(name="Wonder 9")]))
    assert plan.sources[0].model is None
    with pytest.raises(BrachyError, match=r"seed model 'Wonder 9' is not in the table.*--source MODEL"):
        plan.implants()
    assert plan.implants("best_2301")[0].source.name == "best_2301"


def test_the_model_is_looked_for_in_every_name(tmp_path):
    kind = source(name="I-125", SourceModelID="STM1251", SourceManufacturer="Bard")
    plan = read(tmp_path, plan_set([[seed(A)]], [kind]))
    assert (plan.sources[0].model_as_written, plan.sources[0].model) == ("STM1251", "bard_stm1251")
    assert plan.sources[0].manufacturer == "Bard"
    kind = source(name="I-125 (6711)", SourceModelID="LOT 77")
    assert read(tmp_path, plan_set([[seed(A)]], [kind])).sources[0].model == "amersham_6711"


@pytest.mark.parametrize(
    ("written", "model"),
    [
        ("I-125 (STM 1251)", "bard_stm1251"),
        ("stm-1251", "bard_stm1251"),
        ("125I 6711", "amersham_6711"),
        ("OncoSeed 6702", "amersham_6702"),
        ("IAI-125A", "isoaid_iai125a"),
        ("selectSeed 130.002", "nucletron_selectseed_130002"),
        ("Best 2301", "best_2301"),
        ("amersham_6711", "amersham_6711"),
        # near, but another seed, and none at all
        ("OncoSeed", None),
        ("OncoSeed 6733", None),
        ("1251L", None),
        ("6711 modified", None),
        ("I-125", None),
        ("", None),
    ],
)
def test_names(written, model):
    assert mapped_model(written) == model


def test_the_table_names_shipped_sources_alone_and_each_once():
    from brachy.io.dicom.rtplan import _VENDOR_MODELS, _plain

    table = tomllib.loads(_VENDOR_MODELS.read_text())
    assert set(table) == set(resources.names("sources"))
    plain = [(model, _plain(name)) for model, entry in table.items() for name in entry["names"]]
    assert len({name for _, name in plain}) == len(plain)
    assert all(name for _, name in plain)


# ---- dates, setups, copies, units of time ----------------------------------------------------------------------


def test_strength_decays_from_its_reference_date_to_the_plans(tmp_path):
    """59 days before the plan: 2^(-59/59.4) = 0.50234 is left; a source stated for the day of the plan keeps all."""
    kinds = [
        source(1, SourceStrengthReferenceDate="20251117"),
        source(2, SourceStrengthReferenceDate="20260115"),
    ]
    data = plan_set([[seed(A), seed(B, 2, source=2)]], kinds, RTPlanDate="20260115")
    plan = read(tmp_path, data).at_implantation()
    np.testing.assert_allclose(plan.strength_U, [0.621 * 0.502339, 0.621], rtol=1e-5)
    (said,) = [note for note in plan.assumed if "decayed" in note]
    assert "2025-11-17" in said
    assert "2026-01-15" in said
    assert "factor 0.502" in said


def test_the_day_that_is_given_goes_before_the_plans(tmp_path):
    data = plan_set([[seed(A)]], [source(half_life=30.0)], RTPlanDate="20260102")
    assert read(tmp_path, data).at_implantation().strength_U[0] == pytest.approx(0.621)
    later = read(tmp_path, data).at_implantation(date(2026, 2, 1))
    assert later.strength_U[0] == pytest.approx(0.3105)  # thirty days of a half-life of thirty
    assert any("as given" in note for note in later.assumed)


def test_a_plan_without_dates_says_so(tmp_path):
    plan = read(tmp_path, plan_set([[seed(A)]]))
    assert "no day of the implantation" in plan.at_implantation().assumed[-1]
    undated = source(SourceStrengthReferenceDate="")
    plan = read(tmp_path, plan_set([[seed(A)]], [undated], RTPlanDate="20260115"))
    assert "no reference date of the strength" in plan.at_implantation().assumed[-1]
    assert plan.at_implantation().strength_U[0] == 0.621


def test_a_day_that_does_not_exist_is_said(tmp_path):
    plan = read(tmp_path, plan_set([[seed(A)]], [source(SourceStrengthReferenceDate="20260231")]))
    assert any("'20260231', which is no date" in note for note in plan.assumed)


@pytest.mark.parametrize(("unit", "seconds"), [("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)])
def test_time_in_another_unit_is_known_by_its_size(unit, seconds, tmp_path):
    lone = seed(A)
    lone.ChannelTotalTime = f"{MEAN_LIFE_S / seconds:.3f}"
    plan = read(tmp_path, plan_set([[lone]]))
    assert any(f"the mean life in {unit}" in note for note in plan.assumed)


def test_a_setup_that_no_fraction_group_refers_to_is_left_out(tmp_path):
    data = plan_set([[seed(A)], [seed(B, 2)]])
    del data.FractionGroupSequence[0].ReferencedBrachyApplicationSetupSequence[0]
    plan = read(tmp_path, data)
    np.testing.assert_array_equal(plan.positions_mm, [B])
    assert any("setup 1 is left out" in note for note in plan.assumed)


def test_where_no_setup_is_referred_to_all_count_and_that_is_said(tmp_path):
    data = plan_set([[seed(A)], [seed(B, 2)]])
    del data.FractionGroupSequence
    plan = read(tmp_path, data)
    assert len(plan) == 2
    assert any("no fraction group" in note for note in plan.assumed)


def test_seeds_inside_each_other_are_said(tmp_path):
    """Positions in cm: seeds 5 mm apart would be 0.5 mm apart."""
    apart = [seed([0.5 * k, 0.0, 0.0], k + 1) for k in range(4)]
    plan = read(tmp_path, plan_set([apart]))
    assert any("3 pairs of seeds are nearer" in note and "cm" in note for note in plan.assumed)
    assert not any("nearer" in note for note in read(tmp_path, plan_set([[seed(A), seed(B, 2)]])).assumed)


@pytest.mark.parametrize(("unit", "seconds"), [("hours", 3600.0), ("seconds", 1.0)])
def test_a_strength_that_the_total_air_kerma_contradicts_is_said(unit, seconds, tmp_path):
    """0.621 U are 0.489 mCi (1.27 U a mCi): written in its place, the total is 1.27 times strength x time."""

    def with_total(strength):
        data = plan_set([[seed(A), seed(B, 2)]], [source(strength=strength)])
        data.ApplicationSetupSequence[0].TotalReferenceAirKerma = f"{2 * 0.621 * MEAN_LIFE_S / seconds:.6g}"
        return read(tmp_path, data).assumed

    (said,) = [note for note in with_total(0.489) if "total reference air kerma" in note]
    assert "1.27 times" in said
    assert not any("total reference air kerma" in note for note in with_total(0.621))


def test_a_prescription_in_cgy_is_left_out_and_said(tmp_path):
    reference = Dataset()
    reference.DoseReferenceType, reference.TargetPrescriptionDose = "TARGET", "14500"
    plan = read(tmp_path, plan_set([[seed(A)]], DoseReferenceSequence=[reference]))
    assert plan.prescription_gy is None
    assert any("14500 Gy" in note and "cGy" in note for note in plan.assumed)


def test_a_seed_twice_at_one_place_is_refused(tmp_path):
    refused(tmp_path, plan_set([[seed(A), seed(A, 2)]]), "twice at one place")


@pytest.mark.parametrize(("strength", "unit"), [(18.5, "MBq"), (0.05, "GBq")])
def test_an_unusual_strength_is_asked_for_its_unit(strength, unit, tmp_path):
    plan = read(tmp_path, plan_set([[seed(A)]], [source(strength=strength)]))
    with pytest.raises(UsageError, match=rf"RP.dcm: {strength:g} U .*{unit}\?.*--accept-strength"):
        plan.implants()
    assert plan.implants(accept_strength=True)[0].strength_U[0] == strength
