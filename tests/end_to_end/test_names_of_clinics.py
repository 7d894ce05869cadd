"""ROI names as clinics of other languages write them, from the files to the plan: the same roles, the same plan.

The names were written down by hand. The case in Chinese is made here as a planning system exports it, in GB18030.
"""

from dataclasses import replace

import numpy as np
import pytest

from brachy.check import check_plan
from brachy.errors import BrachyError
from brachy.io.dicom.read import read_case
from brachy.io.load import load_case
from brachy.optimise import plan
from brachy.output.plan_folder import write_outputs
from brachy.patient import roi_names
from brachy.patient.anatomy import prepare
from brachy.patient.plan import Plan
from brachy.patient.protocol import change
from tests import scanner
from tests.cli.test_cli import refused, run
from tests.quick_protocol import AXIAL

PROTOCOL = AXIAL
# a short search and no goals to raise weights for: what needles may do is asked here, not how good they are
QUICK = change(
    PROTOCOL,
    search={"starts": 1, "moves": 2000, "fine_moves": 0, "scan_moves": 200, "directions": 1, "layouts": 1},
).model_copy(update={"goals": ()})

# the 19 organs of the real case and its target
NAMES = {
    "BODY": ("体表", "Körperkontur", "BODY"),
    "Liver": ("肝脏", "Leber", "Liver"),
    "Spleen": ("脾", "Milz", "SPL"),
    "KidneyR": ("右肾", "Niere re", "RK"),
    "KidneyL": ("左腎", "Niere_links", "LK"),
    "Gallbladder": ("胆囊", "Gallenblase", "GB"),
    "Stomach": ("胃", "Magen", "ST"),
    "Pancreas": ("胰腺", "Bauchspeicheldrüse", "PANC"),
    "SmallBowel": ("小肠", "Dünndarm", "SB"),
    "Duodenum": ("十二指肠", "Zwölffingerdarm", "DUO"),
    "Colon": ("结肠", "Dickdarm", "COL"),
    "Aorta": ("腹主动脉", "Bauchaorta", "AO"),
    "IVC": ("下腔静脉", "Untere Hohlvene", "VCI"),
    "PortalSplenicVein": ("門靜脈", "Pfortader_Milzvene", "PV"),
    "SpinalCord": ("脊髓", "Rückenmark", "SC"),
    "CostalCartilages": ("肋软骨", "Rippenknorpel", "Cartlg"),
    "Lungs": ("双肺", "Lungen", "LL"),
    "Ribs": ("肋骨", "Rippen", "Rib"),
    "Vertebrae": ("椎体", "Wirbelkörper", "VB"),
    "GTV": ("靶区", "Tumor", "GTV"),
}
LANGUAGES = ("Chinese", "German", "abbreviations")


@pytest.fixture(scope="module")
def english(shared):
    return load_case(str(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm"))


def renamed(case, names):
    return case.with_structures([replace(s, name=names[s.name]) for s in case.structures])


def in_language(case, language):
    return renamed(case, {name: others[LANGUAGES.index(language)] for name, others in NAMES.items()})


def untyped(case):
    """Without types: names alone say what is what."""
    return case.with_structures([replace(s, interpreted_type="") for s in case.structures])


def roles(case):
    return [s.role for s in case.structures if s.name != "Bone (from CT)"]


def same_roles(english, language):
    """Roles by name, as of the English case; none by default. The CT is emptied: bone is not looked for."""
    english = replace(english, ct_hu=np.zeros_like(english.ct_hu))
    found = prepare(untyped(in_language(english, language)), PROTOCOL)
    assert roles(found) == roles(prepare(english, PROTOCOL))
    assert {s.basis.source for s in found.structures} == {"name"}
    assert all(s.basis.understood for s in found.structures)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_role_of_each_roi_is_that_of_the_english_name(english, language):
    same_roles(english, language)


def test_without_the_table_of_names_no_language_is_understood(english, monkeypatch):
    monkeypatch.setattr(roi_names, "table", lambda: roi_names.table_of({}))
    for language in LANGUAGES:
        with pytest.raises((AssertionError, BrachyError)):
            same_roles(english, language)


@pytest.fixture(scope="module")
def made(english):
    return plan(english, QUICK, direction=(256.0, 0.0))


def content(made):
    """What a plan says of the patient, apart from names of ROIs."""
    return made.needles, made.evaluation.formalism, [(r.rule, r.worst, r.met) for r in made.rules]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_plan_is_the_same_in_every_language(english, made, language):
    again = plan(in_language(english, language), QUICK, direction=(256.0, 0.0))
    assert content(again) == content(made)
    assert [(s.role, s.obstacle) for s in again.structures] == [(s.role, s.obstacle) for s in made.structures]
    # BODY and GTV are typed; the couch is found on the CT
    assert {s.source for s in again.structures if s.role != "device"} == {"type", "name"}
    assert all(s.understood for s in again.structures)


def test_organs_without_names_are_obstacles_and_listed(english):
    """BODY and GTV keep their types; the liver holds the target; every other ROI stops needles and stands on top."""
    numbered = renamed(english, {s.name: f"ROI {k}" for k, s in enumerate(english.structures, 1)})
    made = plan(numbered, QUICK, direction=(256.0, 0.0))
    listed = {s.roi: s for s in made.structures}
    assert len(listed) == 22  # with the couch, and the bone, as no ROI is known to be bone, found on the CT
    assert listed["ROI 1"].role == "external"
    assert listed["ROI 20"].role == "target"
    assert not listed["ROI 2"].obstacle
    assert "holds" in listed["ROI 2"].obstacle_why
    unknown = [f"ROI {k}" for k in range(2, 20)]
    assert [s.roi for s in made.structures[:18]] == unknown
    assert not any(listed[name].understood for name in unknown)
    assert all(listed[name].obstacle for name in unknown[1:])
    (said,) = [s for s in made.assumed if s.startswith("not understood")]
    assert "ROI 19" in said
    rule = next(r for r in made.rules if r.rule == "needle to organ")
    assert rule.worst >= 2.0


# ---- Chinese names in GB18030, the portal vein and the ribs in the way from the front --------------------------

PIXEL = 2.5
HEIGHTS = PIXEL * (np.arange(40) - 19.5)


def ellipse(a, b, centre=(0.0, 0.0)):
    t = 2 * np.pi * np.arange(72) / 72
    return np.column_stack([centre[0] + a * np.cos(t), centre[1] + b * np.sin(t)])


def stack(outline, low=-60.0, high=60.0):
    return [np.column_stack([outline, np.full(72, z)]) for z in HEIGHTS if low < z < high]


def ball(radius, centre=(0.0, 0.0)):
    return [
        np.column_stack([ellipse(r := np.sqrt(radius**2 - z**2), r, centre), np.full(72, z)])
        for z in HEIGHTS
        if abs(z) < radius
    ]


CHINESE = {"body": "体表", "gtv": "靶区", "vein": "门静脉", "ribs": "肋骨", "colon": "结肠"}
ENGLISH = {"body": "Body", "gtv": "GTV", "vein": "PortalVein", "ribs": "Ribs", "colon": "Colon"}


def written(folder, names, charset):
    """A CT of an elliptic cylinder and its structure set; organs are of type ORGAN."""
    corner = (-PIXEL * 31.5, -PIXEL * 31.5, float(HEIGHTS[0]))
    slices = scanner.ct_slices(shape=(40, 64, 64), spacing=(PIXEL, PIXEL, PIXEL), corner=corner)
    x = PIXEL * (np.arange(64) - 31.5)
    inside = (x[None] / 70) ** 2 + (x[:, None] / 60) ** 2 <= 1
    for each in slices:
        scanner.pixels(each, np.where(inside, 1064, 24).astype(np.uint16))
    scanner.save_all(slices, folder)
    rois = {
        names["body"]: stack(ellipse(70, 60)),
        names["gtv"]: ball(15),
        names["vein"]: stack(ellipse(4, 4, (3, -6))),
        names["ribs"]: stack(ellipse(12, 3, (0, -45)), -15, 15),
        names["colon"]: ball(12, (-35, 0)),
    }
    data = scanner.structure_set(rois, slices)
    data.SpecificCharacterSet = charset
    for observation, kind in zip(
        data.RTROIObservationsSequence, ("EXTERNAL", "GTV", *["ORGAN"] * 3), strict=True
    ):
        observation.RTROIInterpretedType = kind
    return scanner.save(data, folder / "RS.dcm")


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    return written(tmp_path_factory.mktemp("chinese"), CHINESE, "GB18030")


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    return written(tmp_path_factory.mktemp("english"), ENGLISH, "ISO_IR 192")


def test_a_vein_and_ribs_in_chinese_are_in_the_way_as_in_english(chinese, twin):
    refusals = []
    for file, names in ((chinese, CHINESE), (twin, ENGLISH)):
        with pytest.raises(BrachyError, match="no clear needle path") as caught:
            plan(read_case(file), QUICK, direction=(0.0, 0.0))
        assert names["vein"] in str(caught.value) or names["ribs"] in str(caught.value)
        assert "--free" in str(caught.value)
        refusals.append(str(caught.value))
    for key, name in CHINESE.items():
        refusals[0] = refusals[0].replace(name, ENGLISH[key])
    assert refusals[0] == refusals[1]


def test_from_elsewhere_no_needle_meets_them_and_the_folder_says_so(chinese, tmp_path):
    case = read_case(chinese)
    made = plan(case, QUICK, direction=(90.0, 0.0))
    assert {s.roi: s.role for s in made.structures} == {
        "体表": "external",
        "靶区": "target",
        "门静脉": "vessel",
        "肋骨": "bone",
        "结肠": "bowel",
    }
    for needle in made.needles:
        path = np.linspace(needle.hole_mm, needle.tip_mm, 400)
        for name in ("门静脉", "肋骨", "结肠"):
            assert case.structure(name).distance_mm(path).min() >= 0.65 + 2.0 - 1e-3
    verdicts = {rule.rule: rule.status for rule in made.rules}
    assert (verdicts["needle to vessel"], verdicts["needle to bone"]) == ("kept", "kept")
    assert verdicts["needle to lung"] == "not checked"
    folder = write_outputs(made, case, tmp_path / "out")
    assert check_plan(folder).verdict == "pass"
    assert "门静脉" in (folder / "report.html").read_text(encoding="utf-8")


def test_free_lets_needles_pass_and_is_recorded(chinese, tmp_path, capsys, monkeypatch):
    words = ("plan", str(chinese), "-v", "--direction", "0", "--free", "门静脉", "--free", "肋骨")
    code, shown, _ = run(capsys, monkeypatch, *words, "-o", str(tmp_path / "out"))
    assert code == 0
    assert "Structures and their roles" in shown
    assert "freed" in shown
    made = Plan.load(tmp_path / "out")
    assert made.protocol.obstacles.free == ("门静脉", "肋骨")
    assert {s.roi for s in made.structures if s.obstacle} == {"结肠"}
    rule = next(r for r in made.rules if r.rule == "needle to vessel")
    assert (rule.status, rule.where) == ("not checked", "freed: 门静脉")
    assert check_plan(tmp_path / "out").verdict == "pass"


def test_free_of_no_roi_is_refused(chinese, capsys, monkeypatch):
    words = ("plan", str(chinese), "--free", "Spleen", "--json")
    refused(run(capsys, monkeypatch, *words), 2, "--free Spleen", "门静脉")


def test_the_check_finds_an_obstacle_that_a_plan_kept_quiet(chinese, tmp_path):
    """A plan made as if the vein were free, with a plan.json that hides it: the independent check fails."""
    case = read_case(chinese)
    freed = change(QUICK, obstacles={"free": ("门静脉", "肋骨")})
    quiet = plan(case, freed, direction=(0.0, 0.0))
    told = tuple(s.model_copy(update={"obstacle_why": "no organ"}) for s in quiet.structures)
    hidden = quiet.model_copy(update={"protocol": QUICK, "structures": told}).sealed()
    folder = write_outputs(hidden, case, tmp_path / "out")
    failed = {item.name for item in check_plan(folder).failures}
    assert {"obstacles, as the contours say", "rule: needle to vessel", "rule: needle to bone"} <= failed
