"""Reading source files: what is accepted, what is refused and with which words."""

import copy
import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brachy import resources
from brachy.dosimetry.source import Source, available_sources, load_source, source_warnings, unverified_names
from brachy.errors import UsageError
from brachy.writing import rounded

DOCS = Path(__file__).parents[2] / "docs" / "source-files.md"


@pytest.fixture
def table():
    return copy.deepcopy(load_source("amersham_6711").to_dict())


def broken(table, text):
    with pytest.raises(UsageError, match=text) as caught:
        Source.from_dict(table, "seed.toml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("seed.toml: ")


def test_every_number_has_a_source():
    for name in resources.names("sources") + unverified_names():
        data = load_source(name, accept_unverified=True).to_dict()
        for part in ("dose_rate_constant", "active_length", "capsule", "radial_dose_function"):
            assert len(data[part]["source"]) > 10, (name, part)
        assert "Med. Phys." in data["reference"] or "Brachytherapy" in data["reference"]
        assert data["checked"]


def test_shipped_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        load_source("amersham_6711").radial_g[0] = 2.0


def test_the_copy_in_a_plan_is_the_same_source():
    """plan.json carries the file, rounded to six digits, through JSON."""
    source = load_source("bard_stm1251")
    again = Source.from_dict(json.loads(json.dumps(rounded(source.to_dict()))), "plan.json")
    r = np.linspace(0.05, 12, 40)
    np.testing.assert_array_equal(again.dose_rate(r), source.dose_rate(r))
    np.testing.assert_array_equal(again.dose_rate(r, 17.0), source.dose_rate(r, 17.0))


def test_dose_rate_broadcasts_and_checks():
    source = load_source("amersham_6711")
    assert source.dose_rate(np.ones((3, 1)), [0.0, 45.0]).shape == (3, 2)
    assert source.dose_rate([[1.0, 2.0]]).shape == (1, 2)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="negative or not a number"):
            source.dose_rate(wrong)
    with pytest.raises(ValueError, match="not a number"):
        source.dose_rate(1.0, float("nan"))


def test_inside_the_capsule_the_side_stands_for_the_point():
    """6711: half the diameter is 0.04 cm, half the length 0.225 cm."""
    source = load_source("amersham_6711")
    assert source.dose_rate(0.0) == source.dose_rate(0.04)
    assert source.dose_rate(0.0, 0.0) == pytest.approx(float(source.dose_rate(0.04, 90.0)), rel=1e-12)
    side = np.degrees(np.arctan2(0.04, 0.2))
    assert source.dose_rate(0.2, 0.0) == pytest.approx(
        float(source.dose_rate(np.hypot(0.04, 0.2), side)), rel=1e-12
    )
    tip, beyond = source.dose_rate([0.225, 0.2251], 0.0)
    assert tip != pytest.approx(beyond, rel=0.01)  # beyond the capsule's end the axis itself is water
    assert beyond == pytest.approx(
        0.965
        / (2 * np.arctan(0.15) / 0.3)
        / (0.2251**2 - 0.15**2)
        * source.radial_dose_function(0.2251)
        * 0.333,
        rel=1e-9,
    )


def test_nearest_node_of_f_outside_its_radii():
    source = load_source("amersham_6711")
    assert source.anisotropy_function(0.1, 0.0) == 0.333
    assert source.anisotropy_function(30.0, 0.0) == 0.550
    assert source.anisotropy_function(0.75, 25.0) == pytest.approx(
        (0.716 + 0.705 + 0.846 + 0.834) / 4, rel=1e-12
    )
    assert source.anisotropy_factor([0.0, 0.75, 9.0]) == pytest.approx([0.973, (0.973 + 0.944) / 2, 0.944])


def test_unverified_models_are_refused_by_name():
    assert "theragenics_agx100" in unverified_names()
    with pytest.raises(UsageError, match=r"theragenics_agx100 is unverified.*--accept-unverified"):
        load_source("theragenics_agx100")
    assert load_source("theragenics_agx100", accept_unverified=True).status == "unverified"


def test_an_unverified_file_stays_unverified_when_copied(tmp_path):
    shipped = resources.folder("sources") / "unverified" / "theragenics_agx100.toml"
    (tmp_path / "mine.toml").write_bytes(shipped.read_bytes())
    with pytest.raises(UsageError, match="mine is unverified"):
        load_source(tmp_path / "mine.toml")


def test_unknown_name_lists_the_models():
    with pytest.raises(UsageError, match=r"unknown source 'palladium'.*amersham_6711.*best_2301"):
        load_source("palladium")
    with pytest.raises(UsageError, match=r"no file nowhere\.csv"):
        load_source("nowhere.csv")


def test_toml_with_a_slip(tmp_path):
    path = tmp_path / "slip.toml"
    path.write_text("model = \n", "utf-8")
    with pytest.raises(UsageError, match=r"slip\.toml is not valid TOML"):
        load_source(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda t: t["radial_dose_function"]["r_cm"].__setitem__(3, 0.2),
            "radial_dose_function row 4 column r_cm: 0.2",
        ),
        (lambda t: t["radial_dose_function"]["g"].__setitem__(5, 1.01), r"row 6 column g: g\(1 cm\) is 1.01"),
        (
            lambda t: t["radial_dose_function"]["g"].__setitem__(2, -0.1),
            "radial_dose_function row 3 column g: -0.1",
        ),
        (lambda t: t["radial_dose_function"]["g"].__setitem__(2, float("nan")), "row 3 column g: nan"),
        (
            lambda t: t["radial_dose_function"]["g"].__setitem__(2, "1,08"),
            "radial_dose_function row 3 column g: ",
        ),
        (lambda t: t["radial_dose_function"]["g"].pop(), "column g: has 15 rows, r_cm has 16"),
        (
            lambda t: t["anisotropy_function"]["F"][-1].__setitem__(2, 0.9),
            r"row 11 \(90 degrees\) column 3 \(2 cm\)",
        ),
        (
            lambda t: t["anisotropy_function"]["F"][1].__setitem__(0, -1),
            r"row 2 \(5 degrees\) column 1 \(0.5 cm\)",
        ),
        (lambda t: t["anisotropy_function"]["F"][1].__setitem__(0, float("inf")), "F = inf"),
        (
            lambda t: t["anisotropy_function"]["F"][4].pop(),
            "anisotropy_function row 5: has 5 columns, r_cm has 6",
        ),
        (
            lambda t: t["anisotropy_function"]["F"][4].__setitem__(1, None),
            "anisotropy_function.F row 5 column 2: ",
        ),
        (
            lambda t: t["anisotropy_function"]["theta_deg"].__setitem__(-1, 85),
            "theta_deg: ends at 85, must be 90",
        ),
        (
            lambda t: t["anisotropy_1d"]["phi"].__setitem__(0, 0),
            "anisotropy_1d row 1 column phi: 0 must be a positive",
        ),
        (lambda t: t.pop("capsule"), "capsule: is missing"),
        (lambda t: t["capsule"].pop("diameter_mm"), "capsule.diameter_mm: is missing"),
        (
            lambda t: t["capsule"].__setitem__("length_mm", 2.5),
            "capsule.length_mm: 2.5 must be more than the active",
        ),
        (lambda t: t["capsule"].__setitem__("length_mm", -4.5), "capsule.length_mm: .*greater than 0"),
        (lambda t: t.__setitem__("dose_rate_constant_cGy", 1), "dose_rate_constant_cGy: is not a key"),
        (lambda t: t.__setitem__("nuclide", "Pd-103"), "nuclide: "),
    ],
)
def test_broken_tables_are_refused_with_row_and_column(table, change, text):
    change(table)
    broken(table, text)


def csv_of(source):
    """The documented CSV layout, written here by hand."""
    data = source.to_dict()
    lines = [f"model,{data['model']}", f'reference,"{data["reference"]}"', "# a comment", ""]
    for part in ("dose_rate_constant", "active_length", "capsule", "contained_activity"):
        lines += [f'{part}.{key},"{value}"' for key, value in data[part].items()]
    lines += [
        f'{part}.source,"{data[part]["source"]}"' for part in ("radial_dose_function", "anisotropy_function")
    ]
    lines += ["anisotropy_1d.origin,published", "anisotropy_1d.source,table", "caveats,one", "caveats,two"]
    g, f, phi = (data[k] for k in ("radial_dose_function", "anisotropy_function", "anisotropy_1d"))
    lines += [
        "table,radial_dose_function",
        "r_cm,g",
        *(f"{a},{b}" for a, b in zip(g["r_cm"], g["g"], strict=True)),
    ]
    lines += ["table,anisotropy_function", "theta_deg," + ",".join(map(str, f["r_cm"]))]
    lines += [",".join(map(str, (a, *row))) for a, row in zip(f["theta_deg"], f["F"], strict=True)]
    lines += [
        "table,anisotropy_1d",
        "r_cm,phi",
        *(f"{a},{b}" for a, b in zip(phi["r_cm"], phi["phi"], strict=True)),
    ]
    return lines


def test_csv_is_the_same_source(tmp_path):
    source = load_source("amersham_6711")
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(csv_of(source)) + "\n", "utf-8")
    mine = load_source(path)
    r = np.linspace(0.05, 12, 40)
    np.testing.assert_array_equal(mine.dose_rate(r, 33.0), source.dose_rate(r, 33.0))
    np.testing.assert_array_equal(mine.dose_rate(r), source.dose_rate(r))
    assert (mine.name, mine.status, mine.caveats) == ("mine", "user", ("one", "two"))
    assert mine.capsule_length_mm == 4.5
    assert mine.U_per_contained_mCi == 0.741


def test_csv_faults_name_row_and_column(tmp_path):
    lines = csv_of(load_source("amersham_6711"))
    row = lines.index("0.5,1.071")
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([*lines[:row], "0.5,l.071", *lines[row + 1 :]]), "utf-8")
    with pytest.raises(UsageError, match=rf"mine\.csv: row {row + 1} column 2: 'l\.071' is not a number"):
        load_source(path)
    path.write_text("table,radial_dose\n", "utf-8")
    with pytest.raises(
        UsageError, match=r"mine\.csv: row 1 column 2: unknown table 'radial_dose', choose from"
    ):
        load_source(path)


def test_the_documented_example_is_read(tmp_path):
    text = DOCS.read_text("utf-8")
    block = text.split("## CSV")[1].split("```")[1].lstrip("\n")
    path = tmp_path / "example.csv"
    path.write_text(block, "utf-8")
    assert load_source(path).model == "My seed"


def test_the_documented_names_are_those_of_the_table():
    text = DOCS.read_text("utf-8")
    table = tomllib.loads((resources.folder("sources").parent / "vendor_models.toml").read_text("utf-8"))
    assert set(table) == set(resources.names("sources"))
    for model, entry in table.items():
        assert f"| {model} | {', '.join(entry['names'])} |" in text


def test_what_a_plan_says_of_its_seed():
    assert source_warnings(load_source("amersham_6711")) == []
    (said,) = source_warnings(load_source("ibt_1251l", accept_unverified=True))
    assert "UNVERIFIED" in said
    own = replace(load_source("amersham_6711"), name="mine", status="user")
    assert "mine is the user's own" in source_warnings(own)[0]


def test_reading_a_source_imports_no_compiler():
    code = (
        "import sys; from brachy.dosimetry.source import load_source; "
        "load_source('amersham_6711'); print('numba' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("name", [source.name for source in available_sources()])
def test_both_ends_of_a_seed_are_alike(name):
    """F beyond 90 degrees is the mirror image; F = 1 there would make one half-space up to 2.7 times too hot."""
    source = load_source(name, accept_unverified=True)
    r, theta = np.meshgrid([0.4, 1.0, 2.3, 7.0], [0.0, 3.0, 17.0, 42.0, 80.0, 90.0])
    here, there = source.anisotropy_function(r, theta), source.anisotropy_function(r, 180.0 - theta)
    assert here == pytest.approx(there, rel=1e-12)
    assert (
        here[0, 1:].max() < 0.95
    )  # on the axis the end of the capsule absorbs (near two-bead seeds too, beyond 5 mm)
    assert source.dose_rate(r, theta) == pytest.approx(source.dose_rate(r, 180.0 - theta), rel=1e-12)
