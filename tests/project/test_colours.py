"""Every colour stands in brachy/patient/palette.py: no other file of the package holds one."""

import ast
import re

import pytest

from brachy.output.report import rendering
from brachy.patient import palette
from tests.project.test_house import PACKAGE

PALETTE = PACKAGE / "patient" / "palette.py"

HEX = re.compile(r"(?<![&\w])#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})\b")
FUNCTION = re.compile(r"\b(?:rgba?|hsla?)\(")
NAMES = {
    "black",
    "white",
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "grey",
    "gray",
    "cyan",
    "magenta",
}
CSS_NAME = re.compile(rf":\s*(?:{'|'.join(sorted(NAMES))})\s*[;}}]")
KEYWORDS = {"color", "colors", "facecolor", "edgecolor", "text_color", "color_on", "mfc", "mec", "fc", "ec"}
KEYWORDS |= {"markerfacecolor", "markeredgecolor", "background"}


def colours_in_python(text):
    """Colours of a source text: hex and rgb() in strings, names given as a colour, triples called a colour."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += HEX.findall(node.value) + FUNCTION.findall(node.value)
        if isinstance(node, ast.keyword) and node.arg in KEYWORDS and isinstance(node.value, ast.Constant):
            found += [node.value.value] if node.value.value not in ("none", None) else []
        if isinstance(node, (ast.Assign, ast.Return)) and "colo" in ast.unparse(node).lower():
            found += [ast.unparse(each) for each in ast.walk(node) if is_triple(each)]
    return found


def is_triple(node):
    """Whether a node is a tuple of three whole numbers of a byte, one of them over 30."""
    if not isinstance(node, ast.Tuple) or len(node.elts) != 3:
        return False
    values = [each.value for each in node.elts if isinstance(each, ast.Constant)]
    return len(values) == 3 and all(type(v) is int and 0 <= v <= 255 for v in values) and max(values) > 30


@pytest.mark.parametrize(
    "text",
    [
        'INK = "#222"',
        'style = "td{background:#fbe3d6}"',
        'x = {"fillcolor": "rgba(0,0,0,0)"}',
        'axes.plot(x, y, color="0.9")',
        '_COLOURS = {"bone": (240, 230, 200)}',
        "def colour():\n    return known_colour or (200, 200, 80)",
    ],
)
def test_a_colour_is_seen(text):
    assert colours_in_python(text)


def test_what_is_no_colour_is_passed():
    text = 'shape = (128, 128, 3)\nlink = "#dose"\nentity = "&#160;"\naxes.plot(x, y, mfc="none", color=BLUE)'
    assert colours_in_python(text) == []


def test_no_module_but_the_palette_holds_a_colour():
    files = [path for path in PACKAGE.rglob("*.py") if path != PALETTE]
    found = {path.relative_to(PACKAGE).as_posix(): colours_in_python(path.read_text()) for path in files}
    assert {name: colours for name, colours in found.items() if colours} == {}
    assert colours_in_python(PALETTE.read_text())


def test_no_page_or_style_sheet_holds_a_colour():
    found = {}
    for path in (each for kind in ("css", "html", "js", "toml") for each in PACKAGE.rglob(f"*.{kind}")):
        text = path.read_text()
        found[path.name] = HEX.findall(text) + FUNCTION.findall(text) + CSS_NAME.findall(text)
    assert "page.css" in found
    assert {name: colours for name, colours in found.items() if colours} == {}


def test_every_variable_of_the_style_sheet_has_a_colour_and_every_colour_is_used():
    sheet = (PACKAGE / "output" / "report" / "page" / "page.css").read_text()
    assert set(re.findall(r"var\(--([\w-]+)\)", sheet)) == set(palette.PAGE)


def test_a_colour_changed_in_the_palette_is_changed_on_the_page(monkeypatch):
    monkeypatch.setitem(palette.PAGE, "link", "#123456")
    page = rendering.render("scene.html", title="", footer="", scene={"data": [], "layout": {}})
    assert "--link: #123456;" in page
