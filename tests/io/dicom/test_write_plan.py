"""RT Plan of a permanent implant, read back by pydicom alone."""

import hashlib
import math
import re
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from brachy.errors import BrachyError
from brachy.geometry.structures import Structure
from brachy.io.dicom.write import write_plan
from brachy.io.dicom.write.rtplan import plan_uid
from brachy.patient.case import Identity
from brachy.patient.plan import Plan
from brachy.patient.uids import identified, uid
from tests.small_plan import TILTED, dicom_identity, plan_source, small_case, small_plan


@pytest.fixture(scope="module")
def plan():
    return small_plan()


@pytest.fixture(scope="module")
def read(plan, tmp_path_factory):
    case = small_case(dicom_identity())
    path = tmp_path_factory.mktemp("plan") / "RTPLAN.dcm"
    write_plan(plan, case, path, case.structures)
    return pydicom.dcmread(path)


def channels(read):
    return [(setup, channel) for setup in read.ApplicationSetupSequence for channel in setup.ChannelSequence]


def test_every_seed_is_where_the_plan_has_it(plan, read):
    wanted = {(n.hole, round(s.depth_mm, 3)): s.position_mm for n in plan.needles for s in n.seeds}
    found = {}
    for _, channel in channels(read):
        first, second = channel.BrachyControlPointSequence
        assert list(first.ControlPoint3DPosition) == list(second.ControlPoint3DPosition)
        key = (channel.SourceApplicatorID, round(float(first.ControlPointRelativePosition), 3))
        assert key not in found
        found[key] = [float(x) for x in first.ControlPoint3DPosition]
    assert found.keys() == wanted.keys()
    for key, position in wanted.items():
        assert np.linalg.norm(np.subtract(found[key], position)) < 0.01


def test_a_channel_is_a_seed_that_stays(read):
    for _, channel in channels(read):
        first, second = channel.BrachyControlPointSequence
        assert channel.SourceMovementType == "FIXED"
        assert channel.NumberOfControlPoints == 2
        assert (first.ControlPointIndex, second.ControlPointIndex) == (0, 1)
        assert (first.CumulativeTimeWeight, second.CumulativeTimeWeight) == (0, 100)
        assert channel.FinalCumulativeTimeWeight == 100
        # mean life of 59.4 d, as the convention for permanent implants prints it
        assert float(channel.ChannelTotalTime) == pytest.approx(7404141.8, abs=0.05)
        assert channel.SourceApplicatorType == "RIGID"


def test_orientation_is_the_direction_of_insertion(plan, read):
    directions = {needle.hole: needle.direction for needle in plan.needles}
    for _, channel in channels(read):
        for point in channel.BrachyControlPointSequence:
            assert point.ControlPointOrientation == pytest.approx(
                directions[channel.SourceApplicatorID], abs=1e-6
            )
    tilted = read.ApplicationSetupSequence[1].ChannelSequence[0].BrachyControlPointSequence[0]
    assert tilted.ControlPointOrientation == pytest.approx(TILTED, abs=1e-6)


def test_one_application_setup_for_each_template(plan, read):
    assert [int(s.ApplicationSetupNumber) for s in read.ApplicationSetupSequence] == [1, 2]
    assert [len(s.ChannelSequence) for s in read.ApplicationSetupSequence] == [10, 2]
    for setup in read.ApplicationSetupSequence:
        assert [int(c.ChannelNumber) for c in setup.ChannelSequence] == list(
            range(1, len(setup.ChannelSequence) + 1)
        )
    group = read.FractionGroupSequence[0]
    assert (group.NumberOfBeams, group.NumberOfFractionsPlanned, group.NumberOfBrachyApplicationSetups) == (
        0,
        1,
        2,
    )
    doses = {
        int(item.ReferencedBrachyApplicationSetupNumber): float(item.BrachyApplicationSetupDose)
        for item in group.ReferencedBrachyApplicationSetupSequence
    }
    assert doses == {1: 120.0, 2: 145.0}


def test_mixed_strengths_and_models(plan, read):
    sources = {int(s.SourceNumber): s for s in read.SourceSequence}
    assert [s.SourceModelID for s in sources.values()] == ["OncoSeed 6711", "OncoSeed 6711", "STM1251"]
    assert [float(s.ReferenceAirKermaRate) for s in sources.values()] == [0.889, 0.762, 0.621]
    assert {s.SourceStrengthReferenceDate for s in sources.values()} == {"20260112"}
    assert {float(s.SourceIsotopeHalfLife) for s in sources.values()} == {59.4}
    wanted = sorted(plan.sources[s.source].air_kerma_strength_U for n in plan.needles for s in n.seeds)
    found = sorted(
        float(sources[int(c.ReferencedSourceNumber)].ReferenceAirKermaRate) for _, c in channels(read)
    )
    assert found == wanted


def test_one_source_for_equal_entries_and_none_for_unused(plan, tmp_path):
    same = plan.model_copy(update={"sources": (plan.sources[0], plan.sources[0], plan.sources[2])})
    case = small_case(dicom_identity())
    write_plan(same, case, tmp_path / "same.dcm")
    assert [int(s.SourceNumber) for s in pydicom.dcmread(tmp_path / "same.dcm").SourceSequence] == [1, 2]
    one = plan.model_copy(update={"needles": plan.needles[:1]})
    write_plan(one, case, tmp_path / "one.dcm")
    alone = pydicom.dcmread(tmp_path / "one.dcm")
    assert (len(alone.SourceSequence), len(alone.ApplicationSetupSequence)) == (1, 1)
    assert alone.FractionGroupSequence[0].NumberOfBrachyApplicationSetups == 1


def test_total_reference_air_kerma(read):
    # sum of rate x mean life in hours, by hand: 8 seeds of 0.889 U and 2 of 0.762 U; 2 of 0.621 U
    hours = 59.4 * 24 / math.log(2)
    first, second = (float(s.TotalReferenceAirKerma) for s in read.ApplicationSetupSequence)
    assert first == pytest.approx((8 * 0.889 + 2 * 0.762) * hours, rel=1e-9)
    assert second == pytest.approx(2 * 0.621 * hours, rel=1e-9)


def test_general_plan(read):
    assert (read.BrachyTreatmentTechnique, read.BrachyTreatmentType) == ("PERMANENT", "MANUAL")
    assert read.ApprovalStatus == "UNAPPROVED"
    assert read.RTPlanGeometry == "PATIENT"
    assert read.RTPlanDate == "20260112"
    assert [float(d.TargetPrescriptionDose) for d in read.DoseReferenceSequence] == [120.0, 145.0]
    assert str(read.PatientName) == "Muster^Märta"
    assert (read.StudyDate, read.StudyTime, read.StudyInstanceUID) == ("20260105", "101112", "1.2.3.1")


def test_every_decimal_string_has_at_most_16_characters(read):
    strings = []
    stack = [read]
    while stack:
        for element in stack.pop():
            if element.VR == "SQ":
                stack += element.value
            elif element.VR == "DS" and element.value is not None:
                values = element.value if element.VM > 1 else [element.value]
                strings += [str(value.original_string) for value in values]
    assert len(strings) > 100
    assert max(map(len, strings)) <= 16


def test_same_bytes_again_and_others_for_another_plan(plan, tmp_path):
    case = small_case(dicom_identity())
    digests = []
    for name, each in (
        ("a", plan),
        ("b", Plan.model_validate_json(plan.to_json())),
        ("c", small_plan(assumed=())),
    ):
        write_plan(each, case, tmp_path / name)
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_identifiers_are_made_from_content(plan, read):
    case = small_case(dicom_identity())
    assert re.fullmatch(r"2\.25\.[1-9]\d{0,38}", read.SOPInstanceUID)
    assert read.SOPInstanceUID == plan_uid(plan, case, case.structures)
    assert plan_uid(small_plan(assumed=()), case) != plan_uid(plan, case)
    moved = replace(case, identity=replace(case.identity, study_uid="1.2.3.9"))
    assert plan_uid(plan, moved) != plan_uid(plan, case)
    assert uid("ab", "c") != uid("a", "bc")


def test_no_time_of_writing(read):
    for keyword in (
        "InstanceCreationDate",
        "InstanceCreationTime",
        "ContentDate",
        "SeriesDate",
        "TimezoneOffsetFromUTC",
    ):
        assert keyword not in read
    assert read.RTPlanTime == ""


def test_case_without_any_date_says_so(plan, tmp_path):
    undated = small_plan(sources=tuple(s.model_copy(update={"implant_on": ""}) for s in plan.sources))
    write_plan(undated, small_case(), tmp_path / "plan.dcm")
    read = pydicom.dcmread(tmp_path / "plan.dcm")
    assert {s.SourceStrengthReferenceDate for s in read.SourceSequence} == {"19000101"}
    assert read.RTPlanDate == ""
    assert "1900-01-01" in read.RTPlanDescription


def test_day_of_the_ct_where_no_day_of_implantation_is_given(plan, tmp_path):
    undated = small_plan(sources=tuple(s.model_copy(update={"implant_on": ""}) for s in plan.sources))
    write_plan(undated, small_case(dicom_identity()), tmp_path / "plan.dcm")
    read = pydicom.dcmread(tmp_path / "plan.dcm")
    assert {s.SourceStrengthReferenceDate for s in read.SourceSequence} == {"20260105"}


def test_refers_to_the_structure_set_of_the_case(plan, tmp_path):
    write_plan(plan, small_case(dicom_identity()), tmp_path / "plan.dcm")
    read = pydicom.dcmread(tmp_path / "plan.dcm")
    assert read.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == "1.2.3.5"


def test_odd_text_and_foreign_identifiers_are_no_obstacle(plan, tmp_path, monkeypatch):
    odd = Identity(
        patient_id="a\\b\x00c" + "x" * 90,
        patient_name="李^小龍\\=",
        study_uid="1.2.246.352.91.0000129.20180420",
        study_date="yesterday",
        patient_sex="male",
    )
    write_plan(plan, small_case(odd), tmp_path / "plan.dcm")
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.IGNORE)
    read = pydicom.dcmread(tmp_path / "plan.dcm")
    assert read.PatientID == "a/b c" + "x" * 59
    assert str(read.PatientName).startswith("李^小龍")
    assert (read.StudyDate, read.PatientSex) == ("", "")
    assert read.StudyInstanceUID == "1.2.246.352.91.0000129.20180420"


def test_long_model_names_get_a_short_identifier(plan, tmp_path):
    sources = (*plan.sources[:2], plan_source("nucletron_selectseed_130002", 0.5))
    write_plan(small_plan(sources=sources), small_case(), tmp_path / "plan.dcm")
    last = pydicom.dcmread(tmp_path / "plan.dcm").SourceSequence[2]
    assert (last.SourceModelID, last.SourceDescription) == ("selectSeed", "nucletron_selectseed_130002")


def test_plan_without_seeds_is_refused(plan, tmp_path):
    with pytest.raises(BrachyError, match="without seeds"):
        write_plan(small_plan(needles=()), small_case(), tmp_path / "plan.dcm")
    assert list(tmp_path.iterdir()) == []


def test_plan_of_an_identity_alone(plan, tmp_path):
    write_plan(plan, dicom_identity(), tmp_path / "plan.dcm")
    read = pydicom.dcmread(tmp_path / "plan.dcm")
    assert read.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == "1.2.3.5"
    assert {d.DoseReferenceStructureType for d in read.DoseReferenceSequence} == {"SITE"}


def test_made_up_identifiers_belong_to_the_ct():
    case = small_case()
    named = identified(case).identity
    assert len(named.slices) == 12
    assert len({s.sop_instance_uid for s in named.slices}) == 12
    assert identified(replace(case, structures=(Structure("other", ()),))).identity == named
    other = replace(case, ct_hu=case.ct_hu + 1)
    assert identified(other).identity.study_uid != named.study_uid
    assert identified(small_case(dicom_identity())).identity == dicom_identity()
