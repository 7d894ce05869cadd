"""Roles of structures: names as clinics, AAPM TG-263 and segmentation programs write them."""

import pydicom
import pytest

from brachy.errors import UsageError
from brachy.patient.roles import ROLES, check_overrides, guess_role

# Names of AAPM TG-263 (Mayo et al., IJROBP 100, 1057 (2018)), of TotalSegmentator's list of classes, of the real data
# beside this checkout, and synonyms in use. The role is what a planner would say.
NAMES = {
    "target": """GTV, gtv, GTVp, GTVn, CTVp1, GTV_1, GTV_liver, PTV60, PTV_High, IGTV, iGTV, ITV, Tumour, Tumor 2,
        liver_tumor, LiverMet, Metastasis, metastases S7, Lesion3, HCC, PVTT, Target, pGTV, CTV 1cm""",
    "external": """BODY, Body, External, EXTERNAL, Skin, Outline, Patient Outline, body_trunc, AutoContour Body,
        Outer contour body, Body_CT""",
    "bone": """Ribs, Rib, Rib01_L, rib_left_1, rib_right_12, Rib 8 R, 12th rib, costal_cartilages, CostalCartilages,
        Vertebrae, vertebrae_L1, vertebrae_T12, vertebrae_body, VB_L2, Sternum, Spine, scapula_left, clavicula_right,
        hip_left, sacrum, femur_left, humerus_right, skull, Bone, bones, Femoral Head Lt, RibCage, Bone (from CT)""",
    "vessel": """Aorta, IVC, SVC, PortalSplenicVein, portal_vein_and_splenic_vein, inferior_vena_cava, PortalVein,
        superior_vena_cava, pulmonary_vein, iliac_artery_left, iliac_vena_right, HepaticArtery, hepatic vein,
        A_Hepatic, V_Portal, V_Venacava_I, A_Aorta, GreatVes, liver_vessels, Vessels, brachiocephalic_trunk,
        celiac trunk, femoral artery, vertebral artery, SMA""",
    "lung": "Lung_L, Lungs, lung_upper_lobe_left, Left Lung, Lt Lung, Lungs-GTV, LungsMinusPTV, Pleura",
    "bile_duct": "BileDuct_Common, common hepatic duct, Bile ducts, CBD, biliary tree",
    "gallbladder": "Gallbladder, GallBladder, gall bladder, gallbladder",
    "bowel": """Duodenum, Colon, Stomach, SmallBowel, small_bowel, Bowel_Small, Bowel_Large, Spc_Bowel, esophagus,
        Oesophagus, Rectum, Colon_Sigmoid, hepatic flexure, Caecum, Cecum, jejunum""",
    "liver": "Liver, LIVER, liver, Liver-GTV, Liver - PTV, Liver minus GTV, Liver_sub_PTV, liver_segment_3, Hepar",
    "organ": """SpinalCord, spinal_cord, SpinalCanal, Spleen, KidneyR, kidney_left, Pancreas, Body of pancreas, Heart,
        adrenal_gland_left, urinary_bladder, prostate, Urètre, autochthon_left, Areola, Borders, Chestwall, PTV-GTV,
        Body-PTV, renal pelvis, Ring, Skin 3mm, Diaphragm, gluteus_maximus_left, 肝, foie, PEAU""",
}
CASES = [(name.strip(), role) for role, names in NAMES.items() for name in names.split(",")]


@pytest.mark.parametrize(("name", "role"), CASES)
def test_a_name_says_what_a_structure_is(name, role):
    guess = guess_role(name)
    assert guess.role == role
    assert guess.source == ("default" if role == "organ" else "name")


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
        "Spleen": "organ",
        "KidneyR": "organ",
        "KidneyL": "organ",
        "Pancreas": "organ",
        "SpinalCord": "organ",
    }


@pytest.mark.parametrize(
    ("name", "interpreted_type", "role", "source"),
    [
        ("anything", "GTV", "target", "type"),
        ("Liver", "ptv", "target", "type"),
        ("outline of all", "EXTERNAL", "external", "type"),
        ("GTV old", "ORGAN", "organ", "default"),  # drawn as an organ: never the target
        ("Body", "AVOIDANCE", "organ", "default"),
        ("Skin", "ORGAN", "organ", "default"),
        ("Rib 8", "ORGAN", "bone", "name"),
        ("Couch", "SUPPORT", "ignore", "type"),
        ("applicator", "BRACHY_CHANNEL", "ignore", "type"),
        ("Aorta", "MARKER", "ignore", "type"),
    ],
)
def test_the_type_goes_before_the_name(name, interpreted_type, role, source):
    guess = guess_role(name, interpreted_type)
    assert (guess.role, guess.source) == (role, source)


def test_the_protocol_goes_before_both():
    guess = guess_role("GTV", "GTV", {"gtv": "ignore"})
    assert (guess.role, guess.source) == ("ignore", "protocol")


def test_an_unknown_role_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="gallbladder") as caught:
        guess_role("Liver", "", {"Liver": "hepar"})
    assert "'hepar'" in str(caught.value)
    assert set(NAMES) <= set(ROLES)


def test_overrides_without_a_structure_are_told():
    assert check_overrides({"liver": "organ", "Kidney": "organ"}, ["Liver", "GTV"]) == ["Kidney"]
