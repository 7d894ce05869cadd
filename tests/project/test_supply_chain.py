"""What the product must not do, looked for in its syntax trees: run code from data, reach a network, start a shell."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "brachy").rglob("*.py"))

FORBIDDEN_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop", "runpy", "pty",
    "socket", "ssl", "socketserver", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "ftplib", "smtplib",
    "telnetlib", "webbrowser", "xmlrpc", "yaml",
}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
FORBIDDEN_ATTRIBUTES = {
    "system", "popen", "execv", "execve", "execvp", "spawnl", "spawnv", "save_pickle", "read_pickle",
}  # fmt: skip
CHILDREN = {"brachy/postimplant/registration/files.py", "brachy/io/dicom/pixels.py", "brachy/core/warm.py"}
"""They start a Python of their own: for libraries that a damaged file may end, and to compile kernels."""


def faults_of(source, name):
    """Places where a module does what it must not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            used = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used = {(node.module or "").split(".")[0]}
        else:
            used = set()
        if "subprocess" in used and name not in CHILDREN:
            found.append(f"{name}:{node.lineno} starts processes")
        found += [f"{name}:{node.lineno} imports {module}" for module in used & FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in FORBIDDEN_CALLS:
                found.append(f"{name}:{node.lineno} calls {called.id}")
            if isinstance(called, ast.Attribute) and called.attr in FORBIDDEN_ATTRIBUTES:
                found.append(f"{name}:{node.lineno} calls {called.attr}")
            for keyword in node.keywords:
                if (
                    keyword.arg in ("shell", "allow_pickle")
                    and getattr(keyword.value, "value", None) is not False
                ):
                    found.append(f"{name}:{node.lineno} says {keyword.arg}")
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"https?://", node.value)
        ):
            found.append(f"{name}:{node.lineno} holds an address")
    return found


def test_no_code_from_data_and_no_network():
    assert len(MODULES) > 100
    found = [
        fault
        for path in MODULES
        for fault in faults_of(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert not found


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle", "from urllib.request import urlopen", "import subprocess", "eval('1')",
        "import os\nos.system('x')", "import numpy as np\nnp.load('x', allow_pickle=True)", "f(shell=True)", "a = 'https://example.org'",
    ],
)  # fmt: skip
def test_the_search_finds_them(bad):
    assert faults_of(bad, "brachy/x.py")


def pins(lock):
    """Hashes by name and version of a lock, each line of which is an entry's or a comment."""
    text = (ROOT / lock).read_text("utf-8")
    hashes_of = r"((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)"
    pinned = re.findall(rf"^([a-z0-9][a-z0-9._-]*)==([^\s]+)(?: ; [^\\\n]*)? \\\n{hashes_of}", text, re.M)
    lines = sum(1 + hashes.count("--hash") for _, _, hashes in pinned)
    assert lines == sum(not line.lstrip().startswith("#") for line in text.splitlines())
    return {(name, version): hashes for name, version, hashes in pinned}


def needed(*extras):
    """Names of the packages that the project asks for, also by some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])
    return {re.split(r"[\[<>=~! ]", line)[0].lower() for line in lines} - {project["name"]}


@pytest.mark.parametrize(
    ("lock", "extras", "least"),
    [
        ("requirements.lock", ("dev", "view", "cohort", "docs", "editable"), 100),
        ("requirements-run.lock", ("editable",), 30),
    ],
)
def test_every_dependency_is_locked_with_a_hash(lock, extras, least):
    names = {name for name, _ in pins(lock)}
    assert needed(*extras) <= names
    assert len(names) > least


def test_the_installer_is_locked_and_nothing_beside_it():
    assert [name for name, _ in pins("requirements-uv.lock")] == ["uv"]


def test_planning_and_development_use_the_same_versions():
    """What is installed for planning is what was tested."""
    run, dev = pins("requirements-run.lock"), pins("requirements.lock")
    assert run.items() <= dev.items()
    assert not {"pyvista", "vtk", "pytest"} & {name for name, _ in run}


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-run.lock", "requirements-uv.lock", "tools/set_up.py"]
)
def test_no_index_is_named(name):
    text = (ROOT / name).read_text("utf-8")
    assert "http" not in text
    # no option of an installer but the hashes stands at the start of a line
    assert re.findall(r"^\s*-(?!-hash=sha256:)", text, re.M) == []


def test_files_for_people_say_that_it_is_no_medical_device():
    for name in ("README.md", "SECURITY.md", "docs/reliability.md", "brachy/output/report/page/base.html"):
        assert re.search(r"not a medical device", (ROOT / name).read_text("utf-8"), re.I), name
