"""What is shown on the terminal: summary tables, progress. Names from files are shown as text, never as markup."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from brachy.dosimetry.shown_metrics import Table as Metrics
from brachy.dosimetry.shown_metrics import metrics_in, symbol_and_unit
from brachy.dosimetry.strength import air_kerma_rate_at_1m, order_list, strength_needed
from brachy.output.csv_tables import most_exposed_organ
from brachy.patient.plan import Plan
from brachy.units import mci_from_strength

if TYPE_CHECKING:
    from brachy.check import CheckReport
    from brachy.dosimetry.source import Source
    from brachy.output.recompute import DoseResult, MetricTable
    from brachy.patient.protocol import Protocol

PIPED_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""

_OUT = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
_ERR = Console(stderr=True, highlight=False, markup=False)


def _say(line: str = "") -> None:
    """A line of prose, never broken: it may be piped."""
    _OUT.print(line, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        prose = index == 0 or column in ("where", "source", "meaning", "data", "what for")
        table.add_column(Text(column), justify="left" if prose else "right", overflow="fold")
    return table


def _cell(value: Any) -> Text:
    if value is None:
        return Text("-")
    if isinstance(value, float):
        return Text(f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}")
    return Text(str(value))


def _unit(name: str) -> str:
    """Column heading of a metric: D90_gy -> "D90 Gy"."""
    if name == "volume_cc":
        return "cc"
    return " ".join(symbol_and_unit(name)).strip()


class Progress:
    """Callable given to the planner: shows the stage and the best D90 and V100 so far."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def __call__(self, stage: str, best: dict[str, float] | None = None) -> None:
        """Show the stage and, where known, the best metrics so far."""
        shown = stage
        if best:
            shown += "  best so far: " + ", ".join(f"{_unit(k)} {v:.1f}" for k, v in best.items())
        self._status.update(Text(shown))


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """Progress line on stderr while the block runs; nothing remains of it."""
    if quiet and not _ERR.is_terminal:
        yield Progress(_Silent())
        return
    with _ERR.status(Text("reading")) as status:
        yield Progress(status)


class _Silent:
    """Takes updates and shows nothing."""

    def update(self, _: Any) -> None:
        pass


@contextmanager
def counted(quiet: bool = False) -> Iterator[Callable[[int, int, dict[str, Any] | None], None]]:
    """A bar on stderr while the block runs: cases done, and a line for each that failed."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("cases", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left", markup=False), TimeRemainingColumn(),
    )  # fmt: skip
    with Bar(*columns, console=_ERR, disable=quiet or not _ERR.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def told(done: int, count: int, record: dict[str, Any] | None) -> None:
            bar.update(task, completed=done, total=count)
            if record is not None and record["status"] != "done":
                _ERR.print(
                    f"row {record['row']} failed: {record['case']}: {record['reason']}", soft_wrap=True
                )

        yield told


def show_cohort(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Cases done and failed, and the spread of the usual metrics."""
    done = [record["metrics"] for record in records if record["status"] == "done"]
    _say(f"{len(done)} of {len(records)} cases done, {len(records) - len(done)} failed")
    table = _table("First target of each case", "metric", "cases", "least", "median", "most")
    for name in (*metrics_in(Metrics.TERMINAL_TARGETS), "seeds", "needles"):
        values = sorted(float(metrics[name]) for metrics in done if metrics.get(name) is not None)
        if values:
            middle = 0.5 * (values[(len(values) - 1) // 2] + values[len(values) // 2])
            table.add_row(Text(_unit(name)), str(len(values)), *map(_cell, (values[0], middle, values[-1])))
    if done:
        show(table)
    _say("Not a medical device: for research and education.")
    _say(f"wrote {folder}")


def show_plan(plan: Plan, folder: Path | None) -> None:
    """Summary of a plan: targets, organs, goals, rules, what was assumed, and the folder."""
    metrics = plan.evaluation.structures
    of_targets, of_organs = metrics_in(Metrics.TERMINAL_TARGETS), metrics_in(Metrics.TERMINAL_ORGANS)
    targets = [target.roi for target in plan.targets]
    table = _table(
        f"Targets ({plan.evaluation.formalism} dose to complete decay)",
        "ROI",
        "Rx Gy",
        *map(_unit, of_targets),
    )
    for target in plan.targets:
        values = metrics.get(target.roi, {})
        table.add_row(
            Text(target.roi), _cell(target.prescription_gy), *(_cell(values.get(c)) for c in of_targets)
        )
    _OUT.print(table)
    organs = [name for name in metrics if name not in targets]
    if organs:
        table = _table("Organs", "ROI", *map(_unit, of_organs))
        for name in organs:
            table.add_row(Text(name), *(_cell(metrics[name].get(c)) for c in of_organs))
        _OUT.print()
        _OUT.print(table)
    _show_judgement(plan)
    _show_implant(plan)
    _show_second_opinion(plan)
    for sentence in plan.assumed:
        _say(f"assumed: {sentence}")
    for sentence in plan.limits:
        _say(f"limit: {sentence}")
    if "lower_bound" in plan.optimiser:
        found, bound, gap = (plan.optimiser[key] for key in ("objective", "lower_bound", "gap_relative"))
        _say(
            f"certificate: objective {found:.4g}, bound {bound:.4g}: at most {100 * gap:.1f} % of it could be saved"
        )
        _say(f"certificate: {plan.optimiser['certificate']}")
    if plan.optimiser.get("interrupted"):
        _say("interrupted: this is the best plan found until then")
    _say("Not a medical device: for research and education.")
    if folder is not None:
        _say(f"wrote {folder}")


def show_replan(plan: Plan) -> None:
    """Where the target stands, what the old plan would still reach and what the new one does; the changes in words."""
    figures = plan.optimiser["replan"]
    names = list(dict.fromkeys(name for values in figures["new"].values() for name in values))
    table = _table("In the room (on the samples of the search)", "ROI", "", *map(_unit, names))
    for roi in figures["new"]:
        for key, title in (("now", "in now"), ("old", "old plan"), ("new", "new plan")):
            table.add_row(Text(roi), Text(title), *(_cell(figures[key][roi][name]) for name in names))
    _OUT.print(table)
    if plan.optimiser.get("carried_on"):
        _say("nothing better was found: the old plan is carried on")
    for sentence in plan.optimiser["changes"]:
        _say(f"change: {sentence}")
    for roi, short in plan.optimiser.get("short_by", {}).items():
        _say(
            f"'{roi}' is short of its goals by {short['V100_pct']:.3g} % of V100 and {short['D90_gy']:.3g} Gy of D90"
        )
    if "helps_most" in plan.optimiser:
        _say(f"what would help most: {plan.optimiser['helps_most']}")
    _OUT.print()


def show_alternatives(named: Sequence[tuple[str, Plan]], wanted: int) -> None:
    """One table of several plans of a case."""
    organ = most_exposed_organ(named[0][1])
    metrics = metrics_in(Metrics.ALTERNATIVES)
    table = _table(
        "Alternatives",
        "plan",
        "ROI",
        "needles",
        "seeds",
        *map(_unit, metrics),
        *([f"{organ} D2cc"] if organ else []),
    )
    for name, plan in named:
        for target in plan.targets:
            values = plan.evaluation.structures[target.roi]
            dosed = [_cell(values[m]) for m in metrics]
            if organ:
                dosed.append(_cell(plan.evaluation.structures[organ]["D2cc_gy"]))
            counts = _cell(len(plan.needles)), _cell(plan.seed_count)
            table.add_row(Text(name), Text(target.roi), *counts, *dosed)
    _OUT.print()
    _OUT.print(table)
    if len(named) < wanted:
        _say(f"{len(named)} different good plans were found, {wanted} were asked for")


def _show_judgement(plan: Plan) -> None:
    table = _table("Goals and rules", "goal or rule", "limit", "found", "where", "")
    for goal in plan.evaluation.goals:
        verdict = "met" if goal.met else "MISSED" if goal.required else "aim missed"
        limit = f"{goal.op} {goal.limit:.4g}"
        table.add_row(
            Text(f"{goal.roi} {_unit(goal.metric)}"), Text(limit), _cell(goal.value), Text(""), Text(verdict)
        )
    for rule in plan.rules:
        verdict = rule.verdict
        found = "-" if rule.worst is None else f"{rule.worst:.3g} {rule.unit}".strip()
        table.add_row(Text(rule.rule), Text(rule.limit), Text(found), Text(rule.where), Text(verdict))
    _OUT.print()
    _OUT.print(table)


def _show_implant(plan: Plan) -> None:
    kinds = ", ".join(
        f"{s.model} {s.air_kerma_strength_U:.3f} U ({s.apparent_activity_mCi:.2f} mCi apparent)"
        for s in plan.sources
    )
    strengths = [strength for _, strength in strength_of_seeds(plan)]
    _OUT.print()
    _say(f"{plan.seed_count} seeds in {len(plan.needles)} needles; {kinds}; {sum(strengths):.2f} U in all")
    for line in order_list(strength_of_seeds(plan)):
        _say(
            f"order: {line.count} seeds {line.model} ({line.planned} and {line.spares} spares) of "
            f"{line.strength_U:.3f} U ({line.apparent_activity_mCi:.2f} mCi apparent) on the day of the implantation: "
            f"{line.total_strength_U:.2f} U, {line.total_activity_mCi:.1f} mCi in all"
        )
    _say(
        f"air-kerma rate of the implant at 1 m on its day: {air_kerma_rate_at_1m(strengths):.1f} uGy/h in free space "
        "(tissue takes most of it away)"
    )
    for target in plan.targets:
        d90 = plan.evaluation.structures.get(target.roi, {}).get("D90_gy")
        if d90 and len(plan.sources) == 1:
            needed = strength_needed(strengths[0], d90, target.prescription_gy) if strengths else 0.0
            _say(
                f"strength needed for D90 of {target.roi} = {target.prescription_gy:g} Gy with this loading: "
                f"{needed:.3f} U ({mci_from_strength(needed):.2f} mCi apparent) a seed on the day of the implantation"
            )


def strength_of_seeds(plan: Plan) -> list[tuple[str, float]]:
    """Model and strength in U, on the day of the implantation, of every seed of a plan."""
    sources = [plan.sources[seed.source] for needle in plan.needles for seed in needle.seeds]
    return [(source.model, source.air_kerma_strength_U) for source in sources]


def _show_second_opinion(plan: Plan) -> None:
    if not plan.check.made:
        return
    failed = [item for item in plan.check.checks if not item.passed]
    if not failed:
        _say(f"second opinion: pass, {len(plan.check.checks)} checks of the files written")
    for item in failed:
        _say(f"SECOND OPINION FAILED: {item.name}: expected {item.expected}, found {item.found}")


def show_robust(found: dict[str, Any]) -> None:
    """Intervals, goals and needles of a Monte Carlo."""
    title = f"{found['samples']} scenarios ({found['formalism']}): planned, mean, and 95 % of the scenarios between"
    table = _table(title, "ROI", "metric", "planned", "mean", "SD", "2.5 %", "97.5 %")
    for roi, rows in found["intervals"].items():
        for name, values in rows.items():
            columns = (values[key] for key in ("nominal", "mean", "sd", "p2_5", "p97_5"))
            table.add_row(Text(roi), Text(_unit(name)), *map(_cell, columns))
    _OUT.print(table)
    _OUT.print()
    for goal in found["goals"]:
        demanded = "" if goal["required"] else " (aim)"
        limit = f"{goal['op']} {goal['limit']:g}"
        _say(
            f"{goal['roi']} {_unit(goal['metric'])} {limit}{demanded}: held in {100 * goal['probability']:.1f} %"
        )
    most = ", ".join(f"{entry['hole']} {entry['influence']:.2f} Gy" for entry in found["needles"][:5])
    _say(f"needles that matter most (SD of D90 when they alone err): {most}")
    _say("uncertainties and their sources: brachy/data/uncertainty.toml, or your --uncertainty FILE")
    _say("Not a medical device: for research and education.")


def show_dose(result: "DoseResult") -> None:
    """Summary of a recomputed dose and, with --like, of the comparison."""
    _say(f"{result.seeds} seeds, {result.formalism}, {result.model}; maximum {result.max_gy:.1f} Gy")
    for line in result.lines:
        _say(line)
    if result.output:
        _say(f"wrote {result.output}")


def show_check(report: "CheckReport", title: str = "Second opinion") -> None:
    """Every comparison of a check, and the verdict."""
    table = _table(title, "what", "expected", "found", "difference", "tolerance", "")
    for item in report.checks:
        tolerance = "" if item.tolerance is None else f"{item.tolerance:.3g} {item.unit}".strip()
        table.add_row(
            Text(item.name, overflow="fold"),
            Text(item.expected, overflow="fold"),
            Text(item.found, overflow="fold"),
            _cell(item.difference) if item.difference is not None else Text(""),
            Text(tolerance),
            Text("passed" if item.passed else "FAILED"),
        )
    _OUT.print(table)
    for item in report.checks:
        if not item.passed:
            _say(f"FAILED: {item.name}: expected {item.expected}, found {item.found}")
    _say(f"verdict: {report.verdict}")


def show_metrics(table: "MetricTable") -> None:
    """Metrics, a row a structure."""
    shown = _table("Dose-volume metrics", "ROI", *map(_unit, table.metrics))
    for roi, values in table.values.items():
        shown.add_row(Text(roi), *(_cell(values.get(metric)) for metric in table.metrics))
    _OUT.print(shown)


def show_sources(listed: "Sequence[Source]") -> None:
    """Table of the seed models."""
    table = _table("Seed models", "name", "model", "Lambda cGy/h/U", "L mm", "status", "data")
    for source in listed:
        table.add_row(
            Text(source.name),
            Text(source.model),
            Text(f"{source.dose_rate_constant:.3f}"),
            Text(f"{source.active_length_cm * 10:g}"),
            Text(source.status),
            Text(source.reference, overflow="fold"),
        )
    _OUT.print(table)


def show_source(source: "Source") -> None:
    """One seed model with its ranges and where each number is from."""
    for key, value in source.to_dict().items():
        _show_entry(key, value, "")


def _show_entry(key: str, value: Any, indent: str) -> None:
    if isinstance(value, dict):
        _say(f"{indent}{key}:")
        for inner, item in value.items():
            _show_entry(str(inner), item, indent + "  ")
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        _say(f"{indent}{key}:")
        for row in value:
            _say(f"{indent}  " + "  ".join(f"{number:g}" for number in row))
    elif isinstance(value, (list, tuple)):
        _say(f"{indent}{key}: " + "; ".join(str(item) for item in value))
    else:
        _say(f"{indent}{key}: {value}")


def show_protocols(listed: "Sequence[Protocol]") -> None:
    """Table of the protocols."""
    table = _table("Protocols", "name", "Rx Gy", "mCi", "what for")
    for protocol in listed:
        table.add_row(
            Text(protocol.name),
            _cell(protocol.prescription.dose_gy),
            _cell(protocol.source.activity_mCi),
            Text(protocol.title, overflow="fold"),
        )
    _OUT.print(table)


def show_protocol(protocol: "Protocol") -> None:
    """Every field of a protocol: value, meaning and unit, where it is from."""
    table = _table(protocol.title or protocol.name, "field", "value", "meaning", "source")
    for column in table.columns:
        column.justify = "left"
    for name, *rest in protocol.fields():
        table.add_row(Text(name), *(Text(part, overflow="fold") for part in rest))
    _OUT.print(table)


def show(shown: Table) -> None:
    """A table, with an empty line before it."""
    _OUT.print()
    _OUT.print(shown)


# by these names for rooms that show records of their own
say, table, cell, unit = _say, _table, _cell, _unit
