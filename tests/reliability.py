"""`make reliability`: mutated inputs, killed runs, Ctrl-C and full disks, and the table of docs/reliability.md.

`python -m tests.reliability [--fuzz FILE] [--runs 25]`; FILE is what `python -m tests.fuzz.run --out FILE` wrote.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests import killing

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
FROM, TO = "<!-- written by `make reliability`: from here -->\n", "<!-- to here -->\n"


def table(header, rows):
    lines = ["| " + " | ".join(map(str, cells)) + " |" for cells in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines) + "\n"


def fuzz_table(found):
    rows = []
    for name, entry in found.items():
        read, refused, failed = entry["result"], entry["refused"], len(entry["failures"])
        rows.append(
            [
                name,
                entry["tried"],
                read,
                refused,
                f"{entry['slowest_s']:.1f}",
                f"{entry['peak_MB']:.0f}",
                failed,
            ]
        )
    tried, failed = sum(row[1] for row in rows), sum(row[6] for row in rows)
    rows.append(["**all**", tried, sum(row[2] for row in rows), sum(row[3] for row in rows), "", "", failed])
    header = ["reader", "inputs", "read", "refused in a line", "slowest, s", "most memory, MB", "failures"]
    return table(header, rows), failed


def runs_table(runs):
    rows, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        commands = killing.prepare(base)
        for title, how in (
            ("SIGKILL at a random moment", signal.SIGKILL),
            ("Ctrl-C at a random moment", signal.SIGINT),
        ):
            found = killing.series(base, commands, runs, how, seed=11)
            problems += found["problems"]
            what = f"{title}, `plan` and `verify`"
            rows.append(
                [what, found["runs"], found["ended"], f"{found['longest_s']:.2f}", len(found["problems"])]
            )
        found = killing.full_disk(base, commands, max(2, runs // 5), seed=12)
        problems += found["problems"]
        rows.append(
            ["disk full, `plan` and `verify`", found["runs"], found["runs"], "", len(found["problems"])]
        )
    header = ["fault", "runs", "ended by it", "longest end, s", "failures"]
    return table(header, rows), problems


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fuzz", type=Path, required=True)
    options.add_argument("--runs", type=int, default=25)
    given = options.parse_args()
    inputs, failed = fuzz_table(json.loads(given.fuzz.read_text()))
    faults, problems = runs_table(given.runs)
    before, _, rest = PAGE.read_text("utf-8").partition(FROM)
    _, _, after = rest.partition(TO)
    PAGE.write_text(f"{before}{FROM}\n{inputs}\n{faults}\n{TO}{after}", "utf-8")
    for problem in problems:
        print(problem)
    sys.exit(bool(problems or failed))


if __name__ == "__main__":
    main()
