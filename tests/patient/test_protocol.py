"""Protocols: the shipped ones load, and a broken one is refused by name, field and rule."""

import pytest

from brachy import resources
from brachy.errors import UsageError
from brachy.patient.protocol import change, load_protocol


@pytest.mark.parametrize("name", resources.names("plans"))
def test_every_shipped_protocol_loads_and_cites_each_table(name):
    protocol = load_protocol(name)
    assert protocol.name == name
    cited = {key.split(".")[0] for key in protocol.citations}
    assert {
        "prescription",
        "source",
        "template",
        "needle",
        "seeds",
        "obstacles",
        "goals",
        "objective",
    } <= cited


@pytest.mark.parametrize("name", resources.names("plans"))
def test_every_number_of_a_shipped_protocol_has_a_source(name):
    protocol = load_protocol(name)
    for table in (
        "prescription",
        "source",
        "target",
        "template",
        "needle",
        "seeds",
        "obstacles",
        "direction",
    ):
        for field in getattr(protocol, table).model_fields_set:
            assert f"{table}.{field}" in protocol.citations or table in protocol.citations, f"{table}.{field}"


def test_the_study_s_figures():
    """Figures printed by the study the protocol follows: 110-180 Gy, 0.6-0.8 mCi, 1 cm pitch and margins."""
    protocol = load_protocol("liver-metastasis")
    assert protocol.prescription.allowed_gy == (110, 180)
    assert protocol.source.allowed_mCi == (0.6, 0.8)
    assert protocol.template.pitch_mm == 10
    assert protocol.template.lateral_margin_mm == 10
    assert protocol.seeds.distal_margin_mm == 5
    assert protocol.seeds.skin_margin_mm == 10


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"prescription": {"dose_gy": 200.0}}, "outside allowed_gy 110-180"),
        ({"source": {"activity_mCi": 1.0}}, "outside allowed_mCi 0.6-0.8"),
        ({"template": {"pitch_mm": 0.0}}, "template.pitch_mm"),
        ({"needle": {"max_needle_mm": float("nan")}}, "needle.max_needle_mm"),
        ({"seeds": {"nonsense": 1}}, "seeds.nonsense"),
    ],
)
def test_a_change_outside_the_rules_names_the_field(tables, message):
    with pytest.raises(UsageError, match=message):
        change(load_protocol("liver-metastasis"), **tables)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'x'", "prescription"),
        ("name = ", "not valid TOML"),
        ("name = 'x'\n[citations]\n'no.such' = 'y'", "prescription|citations"),
    ],
)
def test_a_broken_protocol_file_is_one_line(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_protocol(str(file))
    assert "\n" not in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match="liver-metastasis"):
        load_protocol("nothing")
