"""Roles of structures: by the protocol, DICOM types and codes, and names as clinics of seven languages write them."""

import pydicom
import pytest

from brachy.errors import UsageError
from brachy.geometry.structures import RoiCode
from brachy.patient.roles import ROLES, check_overrides, guess_role

# Names of AAPM TG-263 (Mayo et al., IJROBP 100, 1057 (2018)), of TotalSegmentator's list of classes, of the real data
# beside this checkout, and synonyms in use. The role is what a planner would say.
NAMES = {
    "target": """GTV, gtv, GTVp, GTVn, CTVp1, GTV_1, GTV_liver, PTV60, PTV_High, IGTV, iGTV, ITV,
        Tumour, Tumor 2, liver_tumor, LiverMet, Metastasis, metastases S7, Lesion3, HCC, PVTT, Target,
        pGTV, CTV 1cm, 靶区, 靶区1, 肝癌, 肝转移灶, 门静脉癌栓, Zielvolumen, Lebermetastase, tumeur,
        tumor hepático, 腫瘍, GTV肝右叶""",
    "external": """BODY, Body, External, EXTERNAL, Skin, Outline, Patient Outline, body_trunc,
        AutoContour Body, Outer contour body, Body_CT, 体表, 外轮廓, 皮膚, Körper, KOERPER,
        Außenkontur, PEAU, contour externe, piel, 体輪郭""",
    "bone": """Ribs, Rib, Rib01_L, rib_left_1, rib_right_12, Rib 8 R, 12th rib, costal_cartilages,
        CostalCartilages, Vertebrae, vertebrae_L1, vertebrae_T12, vertebrae_body, VB_L2, Sternum,
        Spine, scapula_left, clavicula_right, hip_left, sacrum, femur_left, humerus_right, skull, Bone,
        bones, Femoral Head Lt, RibCage, Bone (from CT), 肋骨, 第8肋骨, 右侧肋骨, 椎体, 肋软骨, 髂骨,
        Rippen, Rippenknorpel, Lendenwirbel, Brustwirbelkörper, Beckenknochen, côtes, cotes, vertèbres,
        costillas, vértebras, 脊椎, 肋軟骨, Costae""",
    "vessel": """Aorta, IVC, SVC, PortalSplenicVein, portal_vein_and_splenic_vein, inferior_vena_cava,
        PortalVein, superior_vena_cava, pulmonary_vein, iliac_artery_left, iliac_vena_right,
        HepaticArtery, hepatic vein, A_Hepatic, V_Portal, V_Venacava_I, A_Aorta, GreatVes,
        liver_vessels, Vessels, brachiocephalic_trunk, celiac trunk, femoral artery, vertebral artery,
        SMA, portalvein, PORTALVEIN, Splenic artery, Kidney vein, 门静脉, 門靜脈, 门静脉主干, 肝动脉,
        肝静脉, 下腔静脉, 腹主动脉, 胃十二指肠动脉, 脾静脉, Pfortader, Lebervenen, Leberarterie,
        Hohlvene, Bauchaorta, Blutgefäße, veine porte, artère hépatique, aorte, vena porta,
        arteria hepática, 門脈, 下大静脈, 大動脈, Vena portae, A. hepatica, Vv. hepaticae, PV, pv,
        PV_R, HA, VCI, SMV, GDA""",
    "lung": """Lung_L, Lungs, lung_upper_lobe_left, Left Lung, Lt Lung, Lungs-GTV, LungsMinusPTV,
        Pleura, 双肺, 左肺下叶, Lunge, poumons, pulmones, 肺, Pulmo dexter, LL""",
    "bile_duct": """BileDuct_Common, common hepatic duct, Bile ducts, CBD, biliary tree, 胆总管,
        肝内胆管, Gallengang, voies biliaires, colédoco, 総胆管, Ductus choledochus""",
    "gallbladder": """Gallbladder, GallBladder, gall bladder, gallbladder, GALLBLADDER, GB, 胆囊, 膽囊,
        Gallenblase, vésicule biliaire, vesicula biliar, 胆嚢""",
    "bowel": """Duodenum, Colon, Stomach, SmallBowel, small_bowel, Bowel_Small, Bowel_Large, Spc_Bowel,
        esophagus, Oesophagus, Rectum, Colon_Sigmoid, hepatic flexure, splenic flexure, Caecum, Cecum,
        jejunum, 结肠, 胃, 胃壁, 十二指肠, 小腸, 大腸, 食管, Magen, Dünndarm, Duenndarm, Dunndarm,
        Zwölffingerdarm, Dickdarm, Speiseröhre, estomac, intestin grêle, côlon, estómago,
        intestino delgado, DUO, ESO""",
    "liver": """Liver, LIVER, liver, Liver-GTV, Liver - PTV, Liver minus GTV, Liver_sub_PTV,
        liver_segment_3, Hepar, 肝, 肝脏, 肝右叶, 肝脏-GTV, 肝减靶区, 正常肝, 肝臓, Leber, Leber-GTV,
        Leber ohne GTV, Restleber, foie, foie sans GTV, hígado, HIGADO""",
    "heart": """Heart, 心脏, 心, 心包, 心臓, Herz, cœur, coeur, corazón, Cor, Pericardium,
        Heart muscle, atrial_appendage_left""",
    "spinal_cord": """SpinalCord, spinal_cord, SpinalCanal, SPINALCORD, SpinalCord_PRV05, SC, 脊髓,
        椎管, Rückenmark, Rueckenmark, Spinalkanal, moelle épinière, médula espinal, 脊髄,
        Medulla spinalis, CaudaEquina""",
    "nerve": """BrachialPlex_L, femoral nerve, 臂丛神经, Nervus vagus, N. phrenicus""",
    "kidney": """KidneyR, kidney_left, kidneyr, LTKIDNEY, renal pelvis, Kidney_Cortex_L, 右肾, 左腎,
        腎臓, Niere rechts, rein gauche, riñón derecho, Ren dexter, LK""",
    "spleen": """Spleen, 脾, 脾脏, Milz, rate, bazo, 脾臓, Lien""",
    "pancreas": """Pancreas, Body of pancreas, Pancreas_Head, 胰腺, 胰头, Bauchspeicheldrüse, páncreas,
        膵臓""",
    "organ": """adrenal_gland_left, urinary_bladder, prostate, Urètre, Chestwall, Diaphragm, 肾上腺,
        膈肌, Nebenniere links, LN_Portahepatis, 淋巴结, Harnblase""",
    "muscle": """autochthon_left, gluteus_maximus_left, psoas, 腰大肌, Psoasmuskel, músculo psoas""",
    "fat": """Subcutaneous fat, 皮下脂肪, Unterhaut""",
    "skin": """Skin 3mm""",
    "device": """Couch, CouchSurface, 治疗床""",
}
CASES = [(name.strip(), role) for role, names in NAMES.items() for name in names.split(",")]

NOT_UNDERSTOOD = """Areola, Borders, PTV-GTV, Body-PTV, Ring, Dose 50[%], ROI 1, ROI19, z_opt, Stent,
    轮廓3, Heart and lung, gallbladder in liver, 非肿瘤肝, X, Struktur7"""


@pytest.mark.parametrize(("name", "role"), CASES)
def test_a_name_says_what_a_structure_is(name, role):
    guess = guess_role(name)
    assert (guess.role, guess.source, guess.understood) == (role, "name", True)


@pytest.mark.parametrize("name", [name.strip() for name in NOT_UNDERSTOOD.split(",")])
@pytest.mark.parametrize("kind", ["", "ORGAN", "AVOIDANCE"])
def test_what_is_not_understood_is_an_organ_and_says_so(name, kind):
    guess = guess_role(name, kind)
    assert (guess.role, guess.source, guess.understood) == ("organ", "default", False)
    assert guess.why


def test_two_organs_in_one_name_are_both_named():
    why = guess_role("Heart and lung").why
    assert "heart" in why
    assert "lung" in why


def test_the_real_case_s_structures(shared):
    """Types and names as they stand in the real liver case; the roles were written down by hand."""
    data = pydicom.dcmread(shared / "data" / "liver_abdomen" / "RTSTRUCT.dcm")
    types = {o.ReferencedROINumber: o.RTROIInterpretedType for o in data.RTROIObservationsSequence}
    roles = {r.ROIName: guess_role(r.ROIName, types[r.ROINumber]).role for r in data.StructureSetROISequence}
    assert roles == {
        "BODY": "external",
        "GTV": "target",
        "Liver": "liver",
        "Ribs": "bone",
        "Vertebrae": "bone",
        "CostalCartilages": "bone",
        "Aorta": "vessel",
        "IVC": "vessel",
        "PortalSplenicVein": "vessel",
        "Lungs": "lung",
        "Gallbladder": "gallbladder",
        "Stomach": "bowel",
        "SmallBowel": "bowel",
        "Duodenum": "bowel",
        "Colon": "bowel",
        "Spleen": "spleen",
        "KidneyR": "kidney",
        "KidneyL": "kidney",
        "Pancreas": "pancreas",
        "SpinalCord": "spinal_cord",
    }


@pytest.mark.parametrize(
    ("name", "interpreted_type", "role", "source"),
    [
        ("anything", "GTV", "target", "type"),
        ("Liver", "ptv", "target", "type"),
        ("outline of all", "EXTERNAL", "external", "type"),
        ("GTV old", "ORGAN", "organ", "default"),  # drawn as an organ: never the target
        ("Body", "AVOIDANCE", "organ", "default"),
        ("Skin", "ORGAN", "skin", "name"),
        ("Rib 8", "ORGAN", "bone", "name"),
        ("Couch", "SUPPORT", "device", "type"),
        ("applicator", "BRACHY_CHANNEL", "device", "type"),
        ("Ring", "CONTROL", "region", "type"),
        ("Isodose 120", "DOSE_REGION", "region", "type"),
        ("Iso", "ISOCENTER", "ignore", "type"),
    ],
)
def test_the_type_goes_before_the_name(name, interpreted_type, role, source):
    guess = guess_role(name, interpreted_type)
    assert (guess.role, guess.source) == (role, source)


@pytest.mark.parametrize(
    ("name", "kind", "role"), [("Aorta", "MARKER", "ignore"), ("门静脉", "CONTROL", "region")]
)
def test_a_type_that_the_name_contradicts_is_told(name, kind, role):
    guess = guess_role(name, kind)
    assert (guess.role, guess.source, guess.understood) == (role, "type", False)
    assert "its name says vessel" in guess.why


@pytest.mark.parametrize(
    ("code", "role"),
    [
        (RoiCode("SCT", "32764006", "Portal vein"), "vessel"),
        (RoiCode("FMA", "7088", "Heart"), "heart"),
        (RoiCode("99VMS_STRUCTCODE", "GTVp", "GTV Primary"), "target"),
        (RoiCode("99OTHER", "4711", "Left kidney"), "kidney"),  # an unknown code by its meaning
    ],
)
def test_a_code_goes_before_the_name(code, role):
    guess = guess_role("ROI 7", "", None, [code])
    assert (guess.role, guess.source, guess.understood) == (role, "code", True)
    assert code.value in guess.why


def test_a_code_and_a_name_that_contradict_each_other_are_told():
    guess = guess_role("门静脉", "ORGAN", None, [RoiCode("FMA", "7197", "Liver")])
    assert (guess.role, guess.source, guess.understood) == ("liver", "code", False)
    # what only a code calls soft is not passed by needles
    guess = guess_role("Pfortader", "ORGAN", None, [RoiCode("SCT", "71616004", "Muscle")])
    assert (guess.role, guess.understood) == ("organ", False)


def test_an_organ_is_no_target_by_its_code():
    guess = guess_role("ROI 3", "ORGAN", None, [RoiCode("99VMS_STRUCTCODE", "GTVp", "GTV Primary")])
    assert guess.role == "organ"


def test_an_unknown_code_says_nothing():
    assert (
        guess_role("Ring", "", None, [RoiCode("99VMS_STRUCTCODE", "NormalTissue", "Undefined")]).source
        == "default"
    )
    assert (
        guess_role("Herz", "", None, [RoiCode("99VMS_STRUCTCODE", "NormalTissue", "Undefined")]).role
        == "heart"
    )


def test_the_protocol_goes_before_type_code_and_name():
    guess = guess_role("GTV", "GTV", {"gtv": "ignore"}, [RoiCode("FMA", "7197", "Liver")])
    assert (guess.role, guess.source, guess.understood) == ("ignore", "protocol", True)


def test_an_unknown_role_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="gallbladder") as caught:
        guess_role("Liver", "", {"Liver": "hepar"})
    assert "'hepar'" in str(caught.value)
    assert set(NAMES) <= set(ROLES)


def test_overrides_without_a_structure_are_told():
    assert check_overrides({"liver": "organ", "Kidney": "organ"}, ["Liver", "GTV"]) == ["Kidney"]
