"""Every code block of the documentation: run, read by what reads such files, or held against the program's options."""

import contextlib
import csv
import io
import json
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest
import typer

from brachy.cli import app
from brachy.dosimetry.source import load_source
from brachy.evaluation.scenarios import load_uncertainties
from brachy.io.phantom.file import load_phantom
from brachy.patient.protocol import Goal, load_protocol
from tests.quick_protocol import instead_of_the_shipped

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)
COMMANDS = typer.main.get_command(app.app).commands


def blocks(page):
    return [match.groups() for match in FENCE.finditer(page.read_text("utf-8"))]


def run(words):
    """A command, in this process, of at most twenty scenarios; what it printed on stderr if it failed."""
    words = [
        "20" if before == "--samples" else word for before, word in zip(["", *words], words, strict=False)
    ]
    argv, sys.argv = sys.argv, ["brachy", *words]
    told, out = io.StringIO(), contextlib.redirect_stdout(io.StringIO())
    try:
        with out, contextlib.redirect_stderr(told), pytest.raises(SystemExit) as left:
            app.main()
    finally:
        sys.argv = argv
    assert left.value.code in (0, None), f"{' '.join(words)}: {told.getvalue()}"


def lines_of(text):
    """Commands of a block, without comments."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            words = shlex.split(line, comments=True)
            if words:
                found.append(words)
    return found


def program(words):
    return words[1:] if words and words[0].split("/")[-1] == "brachy" else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_of(page, tmp_path, monkeypatch):
    for folder in ("phantoms", "plans"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    instead_of_the_shipped(monkeypatch, tmp_path / "quick-plans")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "documentation"}
    for language, title, text in blocks(page):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(text, str(page), "exec"), names)
        elif language == "sh":
            for words in lines_of(text):
                given = program(words)
                assert given is not None, f"no command of brachy: {words}"
                run(given)
        elif language == "toml":
            read_toml(text, tmp_path)
        elif language == "csv":
            read_csv(text, tmp_path)
        else:
            assert language in ("", "text"), f"{page.name}: nothing reads a block of {language}"
            for words in lines_of(text):
                options_exist(words)


def read_toml(text, folder):
    """A whole protocol, phantom, file of uncertainties, or an entry of one."""
    data = tomllib.loads(text)
    file = folder / "block.toml"
    file.write_text(text, encoding="utf-8")
    if "scan" in data:
        load_phantom(file)
    elif "needle" in data and "entry_mm" in data["needle"]:
        load_uncertainties(file)
    elif list(data) == ["goals"]:
        assert [Goal.model_validate(goal) for goal in data["goals"]]
    else:
        load_protocol(file)


def read_csv(text, folder):
    from brachy.cohort.listing import read_list
    from brachy.cohort.outcomes import read_outcomes

    file = folder / "block.csv"
    file.write_text(text, encoding="utf-8")
    header = next(csv.reader(io.StringIO(text)))
    if "case" in header:
        read_list(str(file), "plan")
    elif "patient_id" in header:
        read_outcomes(file)
    else:
        load_source(str(file))


def options_exist(words):
    """A synopsis names verbs, options and make targets that there are."""
    if words[0] == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text("utf-8"), words
    given = program(words)
    if given is None:
        return
    assert given[0] in COMMANDS, words
    known = {option for parameter in COMMANDS[given[0]].params for option in parameter.opts} | {
        "-h",
        "--help",
    }
    for word in given[1:]:
        if word.startswith("-") and not re.fullmatch(r"-\d.*", word):
            assert word.split("=")[0] in known, f"{words}: there is no {word}"


def test_a_synopsis_with_an_unknown_option_is_noticed():
    options_exist(["brachy", "plan", "CASE", "--out", "x"])
    with pytest.raises(AssertionError, match="there is no --nonsense"):
        options_exist(["brachy", "plan", "CASE", "--nonsense"])


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_an_example_that_it_takes_and_every_option_its_help(verb):
    help_text = " ".join(COMMANDS[verb].help.split())
    _, found, example = help_text.partition("Example: ")
    assert found
    words = shlex.split(example)
    assert words[:2] == ["brachy", verb]
    options_exist(words)
    for parameter in COMMANDS[verb].params:
        assert parameter.help or parameter.param_type_name == "argument", parameter.name


def test_links_between_files_resolve():
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
            made = target.startswith("reference/schema/") or target.split("/")[-1] in (
                "cli.md",
                "protocol.md",
            )
            if not target.startswith("http") and not made:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_schemas_fit_what_is_written(tmp_path):
    from tests.small_plan import small_plan

    hooks = load_hooks()
    found = {name: json.loads(text) for name, text in hooks.schemas().items()}
    jsonschema.validate(json.loads(small_plan().sealed().to_json()), found["plan.schema.json"])
    protocol = json.loads(
        json.dumps(tomllib.loads((ROOT / "plans/liver-metastasis.toml").read_text("utf-8")), default=str)
    )
    jsonschema.validate(protocol, found["protocol.schema.json"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**protocol, "nonsense": 1}, found["protocol.schema.json"])


def test_pages_that_are_made_hold_every_option_and_field():
    hooks = load_hooks()
    commands, fields = hooks.command_page(), hooks.protocol_page()
    for verb, command in COMMANDS.items():
        assert f"## brachy {verb}" in commands
        for parameter in command.params:
            assert all(f"`{option}`" in commands for option in parameter.opts if option.startswith("-"))
    for name, *_ in load_protocol("liver-metastasis").fields():
        assert f"`{name}`" in fields


def load_hooks():
    import importlib.util

    spec = importlib.util.spec_from_file_location("documentation_hooks", ROOT / "docs/hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
