"""The ten usual changes of CONTRIBUTING.md: their files exist, and none takes more than three."""

import re
from pathlib import Path

import pytest

from brachy.patient.palette import PASSABLE
from brachy.patient.palette import ROLES as STYLES
from brachy.patient.protocol import Protocol, load_protocol
from brachy.patient.roles import OBSTACLES, ROLES, SOFT_OBSTACLES
from tests.project.test_house import PACKAGE

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("seed model", "metric", "skin rule", "optimiser", "output file", "image format", "colour", "option of `plan`",
         "uncertainty", "obstacle role")  # fmt: skip


def rows():
    """Change and cell of files of each row."""
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Ten usual changes")[1].split("\n## ")[0]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in section.splitlines()
            if line.startswith("| ") and not line.startswith("| change |")]  # fmt: skip


def files_of(cell):
    """Files that a cell names; of alternatives joined by "or" the first counts."""
    return re.findall(r"(?<!or )`([\w./-]+/[\w./-]+)`", cell)


def test_there_are_ten():
    assert [change for change, _ in rows() if any(word in change for word in WORDS)] == [
        row[0] for row in rows()
    ]
    assert len(rows()) == len(WORDS)


@pytest.mark.parametrize(("change", "cell"), rows())
def test_every_file_exists_and_none_is_the_fourth(change, cell):
    assert 1 <= len(files_of(cell)) <= 3, change
    for name in re.findall(r"`([\w./-]+/[\w./-]+)`", cell):
        assert (ROOT / name).is_file(), name


def test_only_two_modules_know_an_obstacle_by_its_role():
    """The palette draws it and `roles` defines it: no other module lists obstacles."""
    named = [path.name for path in PACKAGE.rglob("*.py") if '"gallbladder"' in path.read_text()]
    assert sorted(named) == ["palette.py", "roles.py"]
    drawn_as_organ = {"other_target", "device"}
    assert set(ROLES) == (set(STYLES) - {"soft"}) | set(PASSABLE) | drawn_as_organ
    assert set(OBSTACLES) <= set(STYLES)
    assert set(SOFT_OBSTACLES) | set(OBSTACLES) < set(ROLES)
    assert set(OBSTACLES) - set(SOFT_OBSTACLES) == {"bone"}
    default = Protocol.model_fields["obstacles"].default.roles
    assert set(load_protocol("liver-metastasis").obstacles.roles) == set(default) == set(OBSTACLES)


def test_only_its_record_and_its_meaning_name_an_option_of_plan():
    """`--pitch` as an example: the command line, the list of a cohort and the help come from the record."""
    named = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"--pitch\b|\bneedle\.pitch\b", path.read_text())
    ]
    assert sorted(named) == ["patient/options.py", "patient/overrides.py"]
