"""`make odd-inputs`: every kind of odd input is run; thirty drawn by a fixed seed stand in the table of the docs.

`python -m tests.odd_inputs.run [--data DIR] [--only PART]`; with --only the page is left alone.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.odd_inputs import dates, frames, names, paddings, units  # noqa: F401  they enter their kinds
from tests.odd_inputs.case import Case, load
from tests.odd_inputs.kind import KINDS, Kind

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
FROM, TO = "<!-- written by `make odd-inputs`: from here -->\n", "<!-- to here, odd inputs -->\n"
DATA = ROOT.parent / "shared" / "data"

SEED, DRAWN = 17, 30
"""Of the draw: the number of the issue that asked for it, and thirty."""

WITHIN = 0.005
"""Numbers nearer than this part of them are the same (engineering choice: 0.5 % is less than any metric is worth)."""
WITHIN_MM = 0.05

SEARCH = {"starts": 1, "moves": 2000, "fine_moves": 0, "scan_moves": 200, "directions": 1, "layouts": 1}
"""A short search: what is understood is asked here, not how good a plan is."""


@dataclass(frozen=True)
class Ran:
    """What one run of the command left: exit code, sentences, and the numbers of its result."""

    code: int
    sentences: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    kind: Kind
    changed: str
    code: int
    said: str
    verdict: str

    @property
    def silent(self) -> bool:
        return self.verdict.startswith("SILENT") or self.verdict.startswith("crash")


def drawn() -> list[tuple[Kind, int]]:
    """The thirty kinds of the fixed seed, in the order they are written, each with the seed of its own choices."""
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(len(KINDS), size=DRAWN, replace=False)
    return [(KINDS[k], int(k)) for k in sorted(int(k) for k in chosen)]


# ---- running ---------------------------------------------------------------------------------------------------


def protocol(folder: Path) -> Path:
    """The protocol of the liver with a short search and no goals to raise weights for."""
    text = (ROOT / "plans" / "liver-metastasis.toml").read_text("utf-8")
    head, _, _ = text.partition("[[goals]]")
    cited = text[text.index("\n[citations]") :].replace('\n"goals"', '\n#"goals"')
    search = "\n".join(f"{name} = {value}" for name, value in SEARCH.items())
    file = folder / "short.toml"
    file.write_text(f"{head}[search]\n{search}\n{cited}", "utf-8")
    return file


def command(verb: str, folder: Path) -> list[str]:
    """Words of the command on a case in `folder`."""
    structures, dose, plan = (str(folder / f"{name}.dcm") for name in ("RTSTRUCT", "RTDOSE", "RTPLAN"))
    if verb == "plan":
        return ["plan", structures, "--protocol", str(protocol(folder)), "--direction", "256", "--json"]
    if verb == "dvh":
        return ["dvh", dose, structures, "--prescription", "145", "--json"]
    if verb == "dose":
        return ["dose", plan, "--like", dose]
    seeds = ["--seeds", str(folder / "seeds.csv")] if verb == "verify" else []
    return ["verify", plan, str(folder), *seeds, "--json"]


def run(verb: str, case: Case, data: Path) -> Ran:
    """Write a case, run the command on it, and read what came out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.write(folder)
        (folder / "seeds.csv").write_text(
            (data / "prostate_postimplant_day1" / "truth" / "seeds_mm_LPS.csv").read_text("utf-8"), "utf-8"
        )
        words = [sys.executable, "-m", "brachy", *command(verb, folder)]
        done = subprocess.run(
            words, capture_output=True, text=True, encoding="utf-8", cwd=folder, check=False
        )
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode != 0 and not done.stdout.strip().startswith("{"):
        return Ran(done.returncode, tuple(lines), ())
    if verb == "dose":
        return Ran(done.returncode, (*lines, *done.stdout.splitlines()), tuple(numbers_of_dose(done.stdout)))
    found = json.loads(done.stdout)
    return Ran(done.returncode, (*lines, *texts(found)), tuple(values(verb, found)))


def numbers_of_dose(shown: str) -> Iterator[float]:
    """Seeds, maximum and ratios to the file's dose, from the lines that hold them."""
    for line in shown.splitlines():
        if re.match(r"\d+ seeds|over \d", line):
            yield from (float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", line))


HIDDEN = {"protocol", "sources", "data", "checksum", "software", "case", "inputs"}
"""Parts of a JSON that no reader takes as a remark."""


def texts(found: Any) -> Iterator[str]:
    """Every text of a JSON that may say something."""
    if isinstance(found, str):
        if len(found) > 12:
            yield found
    elif isinstance(found, dict):
        for key, value in found.items():
            if key not in HIDDEN:
                yield from texts(value)
    elif isinstance(found, list):
        for value in found:
            yield from texts(value)


RESULT = {
    "plan": ("targets", "needles", "evaluation", "rules"),
    "verify": ("evaluation", "shifts", "goals", "targets"),
}
"""Parts of a JSON that are the result."""


def values(verb: str, found: dict[str, Any]) -> Iterator[Any]:
    """Numbers and verdicts of a result in a fixed order, and of a plan the role of every structure."""
    parts = [found[name] for name in RESULT.get("verify" if verb == "find" else verb, found)]
    yield from flat(parts)
    if verb == "plan":
        listed = found["structures"]
        yield from sorted(f"{s['role']} {'obstacle' if s['obstacle'] else 'none'}" for s in listed)


def flat(found: Any) -> Iterator[Any]:
    if isinstance(found, dict):
        for value in found.values():
            yield from flat(value)
    elif isinstance(found, list):
        for value in found:
            yield from flat(value)
    elif not isinstance(found, str):
        yield found


def alike(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two results are the same within `WITHIN`."""
    if len(one) != len(other):
        return False
    for mine, theirs in zip(one, other, strict=True):
        if isinstance(mine, (str, bool)) or mine is None or theirs is None or isinstance(theirs, str):
            if mine != theirs:
                return False
        elif abs(mine - theirs) > max(WITHIN_MM, WITHIN * abs(theirs)):
            return False
    return True


# ---- judging ---------------------------------------------------------------------------------------------------


def masked(sentence: str) -> str:
    return re.sub(r"\d+(?:\.\d+)?", "0", sentence)


def verdict(kind: Kind, before: Ran, after: Ran) -> tuple[str, str]:
    """The verdict and the sentence that names the thing; a sentence that stands in the untouched case's output, apart
    from its numbers, names nothing."""
    if any("Traceback" in sentence for sentence in after.sentences) or after.code < 0:
        return "crash", after.sentences[-1]
    known = {masked(sentence) for sentence in before.sentences}
    named = [s for s in after.sentences if masked(s) not in known and re.search(kind.words, s)]
    sentence = named[0] if named else ""
    if not after.values:
        if named:
            return "refused, named", sentence
        return "refused", after.sentences[-1] if after.sentences else ""
    same = alike(after.values, before.values)
    if named:
        return ("said, result unchanged" if same else "said, result changed"), sentence
    if same and kind.same:
        return "right: result unchanged", ""
    return ("SILENT: result changed" if not same else "SILENT: result unchanged"), ""


def scrubbed(sentence: str, hidden: list[str]) -> str:
    """The sentence without dates, identifiers and folders of the real case, in one cell of a table."""
    for value in hidden:
        sentence = sentence.replace(value, "ID")
    sentence = re.sub(r"\d+(?:\.\d+){4,}", "UID", sentence)
    sentence = re.sub(r"\d{4}-\d{2}-\d{2}", "DATE", sentence)
    sentence = re.sub(r"\b\d{8}\b", "DATE", sentence)
    sentence = re.sub(r"X\d{3,6}", "ID-2", sentence)
    sentence = re.sub(r"/\S*/", "", sentence).removeprefix("brachy: ").replace("|", "/")
    return sentence if len(sentence) <= 220 else f"{sentence[:217]}..."


def judged(chosen: list[tuple[Kind, int]], data: Path) -> Iterator[Row]:
    """A row for each kind; each untouched case runs once."""
    before: dict[tuple[str, str, Any], Ran] = {}
    for kind, number in chosen:
        case = load(kind.case, data)
        hidden = sorted({str(d.PatientID) for d in case.everything()} - {""}, key=len, reverse=True)
        key = (kind.case, kind.verb, kind.base)
        if key not in before:
            original = load(kind.case, data)
            if kind.base is not None:
                kind.base(original)
            before[key] = run(kind.verb, original, data)
            if before[key].code != 0:
                raise SystemExit(f"the untouched case is refused: {before[key].sentences}")
        if kind.base is not None:
            kind.base(case)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changed = kind.change(case, np.random.default_rng([SEED, number]))
        after = run(kind.verb, case, data)
        result, sentence = verdict(kind, before[key], after)
        yield Row(kind, changed, after.code, scrubbed(sentence, hidden), result)


# ---- the page --------------------------------------------------------------------------------------------------

HEADER = ("kind", "what was changed", "command", "exit", "what it said", "verdict")


def cells(row: Row) -> tuple[str, ...]:
    verb = "verify" if row.kind.verb == "find" else row.kind.verb
    called = f"{row.kind.group}: {row.kind.name}"
    return called, f"{row.kind.case}: {row.changed}", f"`{verb}`", str(row.code), row.said, row.verdict


def table(rows: list[Row]) -> str:
    lines = [HEADER, ("---",) * len(HEADER), *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def summary(rows: list[Row]) -> str:
    """One line on all kinds, drawn or not; the silent ones by name."""
    counts = {
        word: sum(row.verdict.startswith(word) for row in rows) for word in ("refused", "said", "right")
    }
    silent = [f"{row.kind.group}: {row.kind.name}" for row in rows if row.silent]
    named = f" ({', '.join(silent)})" if silent else ""
    return (
        f"All {len(rows)} kinds: {counts['refused']} refused, {counts['said']} said, {counts['right']} right without a "
        f"word, {len(silent)} silent{named}.\n"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--only", default="")
    given = options.parse_args()
    rows = []
    for row in judged(
        [(k, n) for n, k in enumerate(KINDS) if given.only in f"{k.group}: {k.name}"], given.data
    ):
        rows.append(row)
        print(" | ".join(cells(row)), flush=True)
    if not given.only:
        chosen = [rows[number] for _, number in drawn()]
        before, _, rest = PAGE.read_text("utf-8").partition(FROM)
        _, _, after = rest.partition(TO)
        PAGE.write_text(f"{before}{FROM}\n{table(chosen)}\n{summary(rows)}\n{TO}{after}", "utf-8")
    print(summary(rows))
    sys.exit(any(row.silent for row in rows))


if __name__ == "__main__":
    main()
