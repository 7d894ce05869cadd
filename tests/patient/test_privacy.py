"""`--anonymise`: no byte of what is written names the patient, whatever verb wrote it."""

import json
import zipfile

import pytest
from pydicom import dcmread

from brachy.cli import app
from brachy.patient.case import Identity
from brachy.patient.privacy import PREFIX, scrubbed
from tests.quick_protocol import instead_of_the_shipped
from tests.small_plan import small_case

SECRETS = {
    "PatientName": "Zweistein^Qwendolin",
    "PatientID": "PID-90210-XYZ",
    "PatientBirthDate": "19470423",
    "StudyID": "STUDY77",
    "AccessionNumber": "ACC5551234",
    "ReferringPhysicianName": "Drosselmeyer^Hans",
    "StudyDate": "20260203",
}
WORDS = ("Zweistein", "Qwendolin", "PID-90210-XYZ", "19470423", "STUDY77", "ACC5551234", "Drosselmeyer")


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory):
    """Every plan here with a short search."""
    with pytest.MonkeyPatch.context() as patch:
        instead_of_the_shipped(patch, tmp_path_factory.mktemp("plans"))
        yield


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A DICOM export of a phantom whose files name somebody, as do their own names; and the words to look for."""
    folder = tmp_path_factory.mktemp("patient") / "Zweistein"
    run("phantom", "sphere-35mm", "-o", folder)
    words = set(WORDS)
    for path in sorted(folder.rglob("*.dcm")):
        data = dcmread(path)
        for keyword, value in SECRETS.items():
            setattr(data, keyword, value)
        data.save_as(path)
        words |= {
            data.StudyInstanceUID,
            data.SeriesInstanceUID,
            data.SOPInstanceUID,
            data.FrameOfReferenceUID,
        }
        path.rename(path.with_name(f"Zweistein_{path.name}"))
    return folder, words


def run(*words):
    import sys

    argv, sys.argv = sys.argv, ["brachy", *map(str, words)]
    try:
        with pytest.raises(SystemExit) as left:
            app.main()
    finally:
        sys.argv = argv
    return left.value.code


def found_in(out, words):
    """Words that stand in some file of a folder, or in a name of one, in any case of letters."""
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    assert files
    found = set()
    for path in files:
        content = (path.read_bytes() + str(path.relative_to(out)).encode()).lower()
        found |= {(path.name, word) for word in words if word.lower().encode() in content}
    return found


PLAN = ("--direction", "0", "--anonymise")


@pytest.fixture(scope="module")
def planned(patient, tmp_path_factory):
    out = tmp_path_factory.mktemp("plan") / "plan"
    assert run("plan", patient[0], "-o", out, *PLAN) == 0
    return out


@pytest.fixture(scope="module")
def named(patient, tmp_path_factory):
    """A plan that names its patient."""
    out = tmp_path_factory.mktemp("named") / "plan"
    assert run("plan", patient[0], "-o", out, "--direction", "0") == 0
    return out


def test_without_it_the_names_are_there(patient, named):
    """The search below would find them."""
    found = {word for _, word in found_in(named, patient[1])}
    assert {"PID-90210-XYZ", "Zweistein", "19470423", "ACC5551234", "Drosselmeyer"} <= found


def test_a_plan_names_nobody_and_stands_alone(patient, planned):
    assert not found_in(planned, patient[1])
    made = json.loads((planned / "plan.json").read_text())
    assert made["case"]["patient_id"].startswith(PREFIX)
    assert made["check"]["verdict"] == "pass"
    dose, plan, ct = (dcmread(planned / name) for name in ("RTDOSE.dcm", "RTPLAN.dcm", "ct/CT0001.dcm"))
    assert dose.PatientID == plan.PatientID == ct.PatientID == made["case"]["patient_id"]
    assert ct.PatientName == ct.PatientID
    assert not ct.PatientBirthDate
    assert not ct.StudyDate
    assert run("check", planned) == 0
    assert "all else was anonymised" in (planned / "report.html").read_text()


def test_the_same_ct_has_the_same_name(patient, planned, tmp_path):
    assert run("plan", patient[0], "-o", tmp_path / "again", *PLAN) == 0
    for name in ("plan.json", "RTPLAN.dcm", "RTSTRUCT.dcm"):
        assert (tmp_path / "again" / name).read_bytes() == (planned / name).read_bytes()


def test_what_follows_from_an_anonymous_plan(patient, planned, tmp_path):
    hole = json.loads((planned / "plan.json").read_text())["needles"][0]["hole"]
    placed = tmp_path / "placed.csv"
    placed.write_text(f"template,hole,seed,state,x_mm,y_mm,z_mm\n1,{hole},,planned,,,\n")
    assert run("replan", planned, "--placed", placed, "-o", tmp_path / "re", "--anonymise") == 0
    edit = tmp_path / "edit.csv"
    edit.write_text(f"action,template,hole,seed,depth_mm\nremove,1,{hole},1,\n")
    words = ("plan", patient[0], "--from", planned, "--edit", edit, "-o", tmp_path / "ed", "--anonymise")
    assert run(*words) == 0
    assert run("robust", planned, "--samples", 20, "-o", tmp_path / "ro", "--anonymise") == 0
    assert run("view", planned, "--html", tmp_path / "scene.html", "--anonymise") == 0
    assert run("dose", planned, "--grid", 4, "-o", tmp_path / "dose.dcm", "--anonymise") == 0
    for name in ("re", "ed", "ro", "scene.html", "dose.dcm"):
        assert not found_in(tmp_path / name, patient[1]), name


def test_a_child_of_a_plan_that_names_its_patient_is_refused(named, tmp_path, capsys):
    placed = named / "placed.csv"
    assert run("replan", named, "--placed", placed, "-o", tmp_path / "re", "--anonymise") == 2
    assert "names its patient: plan with --anonymise first" in capsys.readouterr().err
    assert not (tmp_path / "re").exists()


def test_a_dose_of_a_plan_that_names_its_patient(patient, named, tmp_path):
    for what in ("", "RTPLAN.dcm"):
        out = tmp_path / f"dose{what}.dcm"
        assert run("dose", named / what, "--grid", 4, "-o", out, "--anonymise") == 0
        assert not found_in(out, patient[1])


def test_a_verification_names_nobody(patient, named, tmp_path):
    folder, words = patient
    seeds = tmp_path / "Zweistein.csv"
    made = json.loads((named / "plan.json").read_text())
    places = [seed["position_mm"] for needle in made["needles"] for seed in needle["seeds"]]
    lines = ["x_mm,y_mm,z_mm", *(",".join(map(str, place)) for place in places)]
    seeds.write_text("\n".join(lines) + "\n")
    for plan in (named, named / "RTPLAN.dcm"):
        out = tmp_path / f"verified-{plan.name}"
        assert run("verify", plan, folder, "--seeds", seeds, "-o", out, "--anonymise") == 0
        assert not found_in(out, words), plan
        assert json.loads((out / "verification.json").read_text())["case"]["patient_id"].startswith(PREFIX)


def test_a_cohort_names_nobody(patient, tmp_path):
    folder, words = patient
    packed = tmp_path / "Zweistein.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.rglob("*.dcm"):
            archive.write(path, path.name)
    listed = tmp_path / "list.csv"
    listed.write_text(f"case,direction\n{packed},0\n{tmp_path}/Zweistein-missing.dcm,0\n")
    assert (
        run("cohort", listed, "-o", tmp_path / "co", "--workers", 1, "--keep", "--anonymise", "--json") == 1
    )
    assert not found_in(tmp_path / "co", words | {str(tmp_path)})
    assert "case-000002" in (tmp_path / "co" / "cohort.csv").read_text()


def test_words_are_scrubbed_from_sentences_and_numbers_stay():
    who = Identity(patient_id="1", patient_name="Li^Bo", study_uid="1.2.3")
    told = scrubbed("patient 1: 11 seeds of 1.5 mm, study 1.2.3, series 1.2.34", small_case(who))
    assert told == "patient (removed): 11 seeds of 1.5 mm, study (removed), series 1.2.34"
