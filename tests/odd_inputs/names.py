"""Names: of organs, targets and nobody, in languages and bytes of all sorts."""

from tests.odd_inputs.case import DAY_1, LIVER, observation, put_raw, roi
from tests.odd_inputs.kind import kind

VEINS = ("Pfortader", "门静脉", "veine porte", "vena porta", "воротная вена", "門脈", "Portal Vein")
MISTYPED = {"Pancreas": "Panceras", "Gallbladder": "Galbladdr", "Lungs": "Lunsg", "Spleen": "Spelen"}
SMALL = ("Pancreas", "Duodenum", "IVC", "Gallbladder", "KidneyR", "SpinalCord")
HELD = ("Spleen", "KidneyL", "Stomach", "Aorta")


@kind("names", LIVER, "plan", r"not understood", same=True)
def a_vein_in_another_language(case, rng):
    """The same plan; the vein is a vessel by its name, or it is listed as not understood and stops needles."""
    name = VEINS[rng.integers(len(VEINS))]
    roi(case, "PortalSplenicVein").ROIName = name
    case.structures.SpecificCharacterSet = "ISO_IR 192"
    return f"PortalSplenicVein is called {name}"


@kind("names", LIVER, "plan", r"not understood", same=True)
def organs_by_their_abbreviations(case, rng):
    """The same plan; PV, GB and SC are a vessel, the gallbladder and the cord."""
    for old, new in (("PortalSplenicVein", "PV"), ("Gallbladder", "GB"), ("SpinalCord", "SC")):
        roi(case, old).ROIName = new
    return "PV, GB and SC in place of whole words"


@kind("names", LIVER, "plan", r"not understood|taken from the ROIs' names: .*{name}", same=True)
def a_name_with_a_typing_error(case, rng):
    """The organ is understood all the same, or it is listed as not understood; it stops needles either way."""
    old = sorted(MISTYPED)[rng.integers(len(MISTYPED))]
    roi(case, old).ROIName = MISTYPED[old]
    return f"{old} is called {MISTYPED[old]}"


@kind("names", LIVER, "plan", r"not understood", same=False)
def an_organ_that_has_a_number_for_a_name(case, rng):
    """Listed as not understood; it stops needles."""
    old = SMALL[rng.integers(len(SMALL))]
    roi(case, old).ROIName = f"ROI {rng.integers(30, 90)}"
    return f"{old} is called by a number"


@kind("names", LIVER, "plan", r"has no name")
def a_blank_name(case, rng):
    """It is called by its number, that is said, and it stops needles."""
    old = HELD[rng.integers(len(HELD))]
    roi(case, old).ROIName = ""
    return f"the name of {old} is blank"


@kind("names", LIVER, "plan", r"2 ROIs have this name")
def two_rois_of_one_name(case, rng):
    """Both are kept, and it is said."""
    roi(case, "KidneyR").ROIName = "Kidney"
    roi(case, "KidneyL").ROIName = "Kidney"
    return "both kidneys are called Kidney"


@kind("names", LIVER, "plan", r"target", same=True)
def the_target_in_another_language(case, rng):
    """The same plan: its type says that it is the target."""
    name = ("Läsion", "靶区", "tumeur", "опухоль")[rng.integers(4)]
    roi(case, "GTV").ROIName = name
    return f"GTV is called {name}, type GTV"


@kind("names", LIVER, "plan", r"no ROI is a target")
def a_target_that_nothing_names(case, rng):
    """Refused: which ROI is the target is asked for."""
    observation(case, "GTV").RTROIInterpretedType = ""
    roi(case, "GTV").ROIName = "Contour 20"
    return "GTV is called Contour 20 and has no type"


@kind("names", LIVER, "plan", r"GTV_2")
def an_organ_called_like_a_second_target(case, rng):
    """Two targets are planned and both are named, or one is asked for."""
    observation(case, "Pancreas").RTROIInterpretedType = ""
    roi(case, "Pancreas").ROIName = "GTV_2"
    return "Pancreas is called GTV_2, without a type"


@kind("names", LIVER, "plan", r"not in a character set")
def chinese_names_in_undeclared_gb18030(case, rng):
    """The names cannot be known: that is said, and the organs stop needles."""
    del case.structures.SpecificCharacterSet
    for item, name in zip(
        case.structures.StructureSetROISequence[2:6], ("脾", "右肾", "左肾", "胆囊"), strict=True
    ):
        put_raw(item, "ROIName", name.encode("gb18030"))
    return "four names in GB18030, no character set declared"


@kind("names", LIVER, "plan", r"not in a character set")
def german_names_in_undeclared_latin_1(case, rng):
    """Read as Latin-1, and said; the cord and the bone keep their roles."""
    del case.structures.SpecificCharacterSet
    cord, bone = roi(case, "SpinalCord"), roi(case, "Vertebrae")
    put_raw(cord, "ROIName", "Rückenmark".encode("latin-1"))
    put_raw(bone, "ROIName", "Wirbelkörper".encode("latin-1"))
    return "Rückenmark and Wirbelkörper in Latin-1, no character set declared"


@kind("names", LIVER, "plan", r"not understood|not in a character set")
def chinese_names_declared_as_latin_1(case, rng):
    """Unreadable names are listed as not understood; the organs stop needles."""
    case.structures.SpecificCharacterSet = "ISO_IR 100"
    vein, lungs = roi(case, "PortalSplenicVein"), roi(case, "Lungs")
    put_raw(vein, "ROIName", "门静脉".encode("gb18030"))
    put_raw(lungs, "ROIName", "双肺".encode("gb18030"))
    return "门静脉 and 双肺 in GB18030, declared as Latin-1"


@kind("names", LIVER, "plan", r"not understood", same=True)
def names_in_another_spelling(case, rng):
    """The same plan: case, blanks, underscores and copies' numbers do not matter."""
    for old, new in (("Liver", "LIVER_1"), ("Aorta", "aorta (copy)"), ("KidneyR", "kidney_right")):
        roi(case, old).ROIName = new
    return "LIVER_1, aorta (copy), kidney_right"


@kind("names", LIVER, "plan", r"2 outlines of the patient")
def an_organ_typed_as_the_outline(case, rng):
    """The larger outline is used, and that is said."""
    observation(case, "Liver").RTROIInterpretedType = "EXTERNAL"
    return "the type of Liver is EXTERNAL"


@kind("names", LIVER, "plan", r"skin|outline|external", same=True)
def an_outline_without_a_type(case, rng):
    """The same plan: the outline is known by its name, or the skin is taken from the CT and that is said."""
    name = ("Skin", "Körperkontur", "体表", "contour externe")[rng.integers(4)]
    observation(case, "BODY").RTROIInterpretedType = ""
    roi(case, "BODY").ROIName = name
    return f"BODY is called {name} and has no type"


@kind("names", LIVER, "plan", r"type|not understood|Ribs", same=True)
def bone_typed_as_an_avoidance(case, rng):
    """The same plan, or the type that was believed is said."""
    observation(case, "Ribs").RTROIInterpretedType = "AVOIDANCE"
    return "the type of Ribs is AVOIDANCE"


@kind("names", DAY_1, "verify", r"taken as the target", same=True)
def the_gland_in_another_language(case, rng):
    """The same metrics: the target is known by its name, or the one that is taken is said."""
    name = ("Prostata", "prostata", "PROSTATE J1")[rng.integers(3)]
    roi(case, "Prostate").ROIName = name
    return f"Prostate is called {name}"


@kind("names", DAY_1, "verify", r"target")
def a_gland_that_has_a_number_for_a_name(case, rng):
    """Refused: which ROI is the target is asked for."""
    roi(case, "Prostate").ROIName = "ROI 7"
    return "Prostate is called ROI 7"


@kind("names", DAY_1, "dose", r"--source MODEL")
def a_seed_that_nobody_knows(case, rng):
    """Refused: which seed it is is asked for."""
    name = ("Seed type 7", "籽源", "I-125", "STM-1521")[rng.integers(4)]
    case.plan.SpecificCharacterSet = "ISO_IR 192"
    case.plan.SourceSequence[0].SourceIsotopeName = name
    return f"the source is called {name}"


@kind("names", DAY_1, "dvh", r"2 ROIs have this name")
def two_rois_of_one_name_in_a_table(case, rng):
    """Both have a row, or it is said which one is left."""
    roi(case, "Rectum").ROIName = "Prostate"
    return "Rectum is called Prostate"


@kind("names", DAY_1, "dvh", r"cut to 128 characters", same=True)
def a_very_long_name(case, rng):
    """Cut, and said; or kept whole."""
    put_raw(roi(case, "Rectum"), "ROIName", b"Rectum " * 40)
    return "the name of Rectum has 280 characters"
