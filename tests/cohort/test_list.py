"""The list of a cohort: what is read, and what is refused in one line."""

import pytest

from brachy.cohort.listing import read_list
from brachy.errors import UsageError


def listed(tmp_path, text):
    file = tmp_path / "list.csv"
    file.write_text(text)
    return str(file)


def test_options_are_columns_and_paths_lie_beside_the_list(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "own.toml").write_text("")
    text = (
        "case,protocol,Needle_Length,target\na,own.toml,120,GTV=130;PTV\n\nliver-metastasis,,,\nno/such,,,\n"
    )
    rows = read_list(listed(tmp_path, text), "plan")
    assert [row.case for row in rows] == [str(tmp_path / "a"), "liver-metastasis", str(tmp_path / "no/such")]
    assert dict(rows[0].options) == {
        "protocol": str(tmp_path / "own.toml"), "needle-length": "120", "target": "GTV=130;PTV",
    }  # fmt: skip
    assert rows[1].options == ()
    assert len({row.key("plan") for row in rows} | {row.key("robust") for row in rows}) == 6


def test_a_pattern_lists_what_it_finds(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
    rows = read_list(str(tmp_path / "[ab]"), "robust")
    assert [row.case for row in rows] == [str(tmp_path / "a"), str(tmp_path / "b")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column is named 'case'"),
        ("case\n", "no row below its header"),
        ("patient\nx\n", "no column is named 'case'"),
        ("case,colour\na,red\n", "'colour' is no option of plan"),
        ("case,seed,seed\na,1,2\n", "stands twice"),
        ("case,seed\na\n", "line 2: 1 cells, the header has 2"),
        ("case,seed\n,1\n", "line 2: the cell 'case' is empty"),
        ("case\na\nb\na\n", "rows 1 and 3 are the same"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        read_list(listed(tmp_path, text), "plan")


def test_other_mistakes(tmp_path):
    with pytest.raises(UsageError, match="choose plan, verify, robust"):
        read_list("x", "paint")
    with pytest.raises(UsageError, match="is one folder"):
        read_list(str(tmp_path), "plan")
    (tmp_path / "list.csv").write_bytes(b"case\n\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_list(str(tmp_path / "list.csv"), "plan")
