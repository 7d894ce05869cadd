"""The table of names: sound in itself, its codes as published, and read whatever the spelling."""

import tomllib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts

from brachy import resources
from brachy.patient import roi_names
from brachy.patient.roi_names import LANGUAGES, read, table, table_of
from brachy.patient.roles import ROLES

DATA = tomllib.loads(resources.data_file("roi_names.toml").read_text(encoding="utf-8"))
BLOCKS = [
    (role, thing, block)
    for role, things in DATA.items()
    if role not in ("sources", "words", "characters")
    for thing, block in things.items()
]
TERMS = [
    (role, language, name.removeprefix("*"))
    for role, _, block in BLOCKS
    for language in (*LANGUAGES, "short")
    for name in block.get(language, ())
]


@pytest.mark.parametrize(
    ("role", "thing", "block"), BLOCKS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_entry_of_a_block_has_its_source(role, thing, block):
    assert role in ROLES
    assert set(block) <= {*LANGUAGES, "short", "codes", "kind", "from"}
    covered = set()
    for part in block["from"].split(";"):
        words = part.split()
        named = [word for word in words if word in (*LANGUAGES, "short", "codes")]
        sources = [word for word in words if word in DATA["sources"]]
        assert set(words) == set(named) | set(sources)
        assert named
        assert sources
        covered |= set(named)
    assert covered == set(block) - {"kind", "from"}


@pytest.mark.parametrize(("role", "language", "name"), TERMS)
def test_every_name_of_the_table_says_its_own_role(role, language, name):
    """A name that another block also fits would be undecided: none is, drawn as an organ or not."""
    found = read(name, organ=role not in ("target", "external"))
    assert found.role == role or (role == "skin" and read(name).role == "external")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_names_the_organs_of_the_abdomen(language):
    roles = {role for role, spoken, _ in TERMS if spoken == language}
    wanted = {"liver", "bone", "vessel", "lung", "bile_duct", "gallbladder", "bowel", "heart", "spinal_cord"}
    assert wanted | {"kidney", "spleen", "pancreas", "muscle", "skin"} <= roles


def meanings():
    """Code to what DICOM says it means, lower case."""
    found = {}
    for entries in concepts["SCT"].values():
        for value, (meaning, _) in entries.items():
            found.setdefault(value, set()).add(meaning.lower())
    return found


# by the concept map of HL7 CodeX Radiation Therapy, TG-263 to SNOMED CT
CODEX = {
    "119186007": "bone",
    "3711007": "great blood vessel",
    "113276009": "intestinal",
    "34381000": "anal canal",
    "7173007": "cauda equina",
    "50403003": "cortex of kidney",
}


def test_snomed_codes_mean_what_dicom_says():
    """PS3.16 as in pydicom's dictionary: what a code means there is read as the role that the table gives it."""
    known = meanings()
    wrong = []
    for role, thing, block in BLOCKS:
        for code in block.get("codes", ()):
            scheme, value = code.split(" ")
            if scheme != "SCT":
                continue
            meant = known.get(value) or {CODEX[value]}
            short = {word.split(" (")[0] for word in meant}
            if not any(read(word, organ=role != "target").role in (role, "external") for word in short):
                wrong.append((thing, code, meant))
    assert wrong == []


def test_no_code_stands_twice():
    codes = [code for _, _, block in BLOCKS for code in block.get("codes", ())]
    assert len(codes) == len(set(codes)) == len(table().codes)


def test_characters_stand_in_pairs_that_end():
    pairs = DATA["characters"]
    assert len(pairs["traditional"]) == len(pairs["simplified"]) == len(set(pairs["traditional"]))
    assert set(pairs["traditional"]) & set(pairs["simplified"]) == set()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("门静脉", "門靜脈"),
        ("肾", "腎"),
        ("Ｐｏｒｔａｌ Ｖｅｉｎ", "portal vein"),
        ("ﾘﾝﾊﾟ節", "リンパ節"),
        ("Rückenmark", unicodedata.normalize("NFD", "Rückenmark")),
        ("Liver–GTV", "Liver-GTV"),
        ("KIDNEY_R", "R_Kidney"),
        ("Gefäße", "GEFAESSE"),
        ("cœur", "COEUR"),
    ],
)
def test_spellings_of_one_name_are_one(name, other):
    assert read(name).role == read(other).role != ""


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    st.sampled_from(
        [t for t in TERMS if t[1] in ("en", "de", "fr", "es") and t[0] not in ("target", "skin")]
    ),
    st.sampled_from(
        ["{} L", "{}_R", "R_{}", "left {}", "{} 2", "{}_07", "{} re", "{} (new)", "{}-GTV", "{} minus PTV"]
    ),
    st.sampled_from([str, str.upper, str.lower, str.title]),
)
def test_sides_numbers_and_case_change_no_role(term, form, case):
    role, _, name = term
    assert read(case(form.format(name))).role == role


def test_an_empty_table_understands_nothing(monkeypatch):
    monkeypatch.setattr(roi_names, "table", lambda: table_of({}))
    assert {read(name).role for _, _, name in TERMS} == {""}
