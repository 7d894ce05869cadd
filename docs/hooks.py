"""Pages of the reference that are made from the program: commands, protocol fields, JSON Schemas."""

import json
import re

import typer
from mkdocs.structure.files import File

from brachy.cli.app import app
from brachy.dosimetry.source_file import SourceFile
from brachy.evaluation.scenarios import Uncertainties
from brachy.io.phantom.file import Phantom
from brachy.patient.plan import Plan
from brachy.patient.protocol import Protocol, load_protocol


def command_page():
    """Every verb with its help, arguments and options."""
    lines = ["# Commands", "", "Written from the program. `brachy VERB --help` prints the same.", ""]
    for name, command in typer.main.get_command(app).commands.items():
        words, _, example = (command.help or "").partition("Example:")
        lines += [f"## brachy {name}", "", " ".join(words.split()), ""]
        if example:
            lines += ["```", " ".join(example.split()), "```", ""]
        lines += ["| | default | |", "|---|---|---|"]
        for parameter in command.params:
            shown = ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
            if parameter.param_type_name == "argument":
                shown = f"`{parameter.metavar or parameter.name.upper()}`"
            elif parameter.metavar:
                shown += f" {escaped(parameter.metavar)}"
            default = parameter.default
            shown_default = (
                escaped(str(default))
                if isinstance(default, (str, int, float)) and default is not False
                else ""
            )
            lines.append(f"| {shown} | {shown_default} | {escaped(parameter.help or '')} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def protocol_page():
    """Every field of a protocol with its meaning, the shipped protocol's value, and where that is from."""
    lines = [
        "# Every field of a protocol", "",
        "Written from the program, with the values of the shipped protocol `liver-metastasis`. A field that a file",
        "leaves out has this program's default: an engineering choice.", "",
        "| field | meaning, unit | liver-metastasis | source |", "|---|---|---|---|",
    ]  # fmt: skip
    for field, *rest in load_protocol("liver-metastasis").fields():
        value, meaning, source = map(escaped, rest)
        lines.append(f"| `{field}` | {meaning} | {value} | {source} |")
    return "\n".join(lines) + "\n"


def schemas():
    """JSON Schema of what programs exchange and people write, by file name."""
    models = {
        "plan": Plan, "protocol": Protocol, "source": SourceFile, "phantom": Phantom, "uncertainty": Uncertainties,
    }  # fmt: skip
    return {
        f"{name}.schema.json": json.dumps(model.model_json_schema(), indent=1) + "\n"
        for name, model in models.items()
    }


def escaped(text):
    """Text that a table of Markdown shows as it is."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", text)


def on_files(files, config):
    """Add the pages that are made."""
    made = {"reference/cli.md": command_page(), "reference/protocol.md": protocol_page()}
    made |= {f"reference/schema/{name}": text for name, text in schemas().items()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files
