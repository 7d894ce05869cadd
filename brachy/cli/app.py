"""The command line: each verb is a few lines over the public API and imports its rooms inside.

Exit 0 done, 1 could not (or a goal missed under --strict), 2 wrong use. An error is one line on stderr.
"""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Abort, Exit

from brachy import interrupts
from brachy.cli.cohort import cohort
from brachy.cli.flags import (
    AnonymiseFlag,
    ForceFlag,
    FormalismOption,
    GuideOption,
    JsonFlag,
    SourceOption,
    UnverifiedFlag,
    say_note,
    use_threads,
)
from brachy.cli.plan import plan
from brachy.cli.replan import approve, replan
from brachy.cli.robust import robust
from brachy.cli.verify import verify
from brachy.errors import BrachyError, Interrupted, UsageError
from brachy.messages import plainly
from brachy.patient.overrides import (
    prescriptions_of,
)
from brachy.version import __version__

# typer may carry its own copy of click, so the base of its errors is asked of typer itself
_CommandLineError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    name="brachy",
    help="Planning, dosimetry and verification of permanent 125I seed implants. "
    "Not a medical device; for research and education.",
    no_args_is_help=True,
    epilog="Start here: `brachy plan liver-metastasis -o plan-liver` plans a shipped phantom; then open "
    "plan-liver/report.html. A case of your own: `brachy plan FOLDER -o OUT`. `brachy VERB --help` has an example.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the program and leave with its exit code; `brachy.__main__` watches for Ctrl-C meanwhile."""
    try:
        code = _called()
    except BrachyError as error:
        _fail(str(error), error.exit_code)
    except Exit as leave:
        if leave.exit_code == interrupts.EXIT_CODE:  # typer's answer to Ctrl-C
            _fail(interrupts.message(), interrupts.EXIT_CODE)
        sys.exit(leave.exit_code)
    except _CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        _fail(f"{plainly(error.format_message())} (see brachy --help)", 2)
    except (KeyboardInterrupt, Abort):
        _fail(interrupts.message(), interrupts.EXIT_CODE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail("out of memory: crop the CT or use a coarser grid", 1)
    except Exception as error:
        if os.environ.get("BRACHY_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno in _OF_FILES:
            _fail(f"{_shortened(error.filename)}: {error.strerror}; {_OF_FILES[error.errno]}", 1)
        _fail(
            f"internal error, please report it: {type(error).__name__}: {error} (BRACHY_DEBUG=1 shows where)",
            1,
        )
    if code == interrupts.EXIT_CODE:  # typer's answer to Ctrl-C, as a value
        _fail(interrupts.message(), interrupts.EXIT_CODE)
    sys.exit(code if isinstance(code, int) else 0)


def _called() -> Any:
    try:
        return app(standalone_mode=False)
    except Interrupted:
        raise
    except Exception as error:
        if interrupts.caused_by_interrupt(error):
            raise KeyboardInterrupt from error
        raise


_OF_FILES = {
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "allow it, or choose another place",
    errno.EPERM: "allow it, or choose another place",
    errno.EROFS: "choose another place",
    errno.ENOSPC: "make room; nothing half-written was left",
    errno.EDQUOT: "make room; nothing half-written was left",
    errno.EIO: "the disk or network drive fails: copy the files elsewhere",
    errno.ELOOP: "a link leads to itself: remove it",
    errno.ENOTDIR: "a part of the path is a file",
}
"""What the system says of files and disks, with the mend."""


def _shortened(name: object) -> str:
    text = os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else "a file"
    return text if len(text) <= 120 else f"{text[:100]}..."


def _fail(message: str, code: int) -> None:
    interrupts.orderly_end()
    print("brachy: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"brachy {__version__}")
        raise Exit(0)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


app.command()(plan)
app.command()(replan)
app.command()(approve)


@app.command()
def dose(
    plan: Annotated[
        str, typer.Argument(metavar="PLAN", help="Plan folder, plan.json or a permanent-seed RTPLAN.")
    ],
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="RTDOSE", help="Use this dose file's grid and compare with it."),
    ] = None,
    grid: Annotated[
        float | None, typer.Option("--grid", metavar="MM", help="Voxel size; default 1 mm.")
    ] = None,
    source: SourceOption = None,
    accept_unverified: UnverifiedFlag = False,
    formalism: FormalismOption = None,
    days: Annotated[
        float | None, typer.Option("--days", help="Dose to this day; default complete decay.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DOSE.dcm", help="RTDOSE to write.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="By default one for each core.")
    ] = None,
    anonymise: AnonymiseFlag = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Compute the dose of a plan on a grid.

    Example: brachy dose RTPLAN.dcm --like RTDOSE.dcm
    """
    use_threads(threads)
    from brachy.cli import console
    from brachy.output import recompute

    result = recompute.recompute(
        plan, like=like, spacing_mm=grid, source=source, accept_unverified=accept_unverified,
        formalism=formalism, days=days, out=out, anonymise=anonymise, force=force,
    )  # fmt: skip
    if as_json:
        _print_json(result.summary())
    else:
        console.show_dose(result)


@app.command()
def dvh(
    dose: Annotated[Path, typer.Argument(metavar="DOSE", help="Any RTDOSE.")],
    structures: Annotated[Path, typer.Argument(metavar="STRUCTURES", help="Any RTSTRUCT.")],
    prescription: Annotated[
        list[str] | None,
        typer.Option("--prescription", metavar="[ROI=]GY", help="For V100_pct and the like."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="D95", help="May be repeated; default a usual set."),
    ] = None,
    as_json: JsonFlag = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
) -> None:
    """Dose-volume metrics of any RTDOSE with any RTSTRUCT.

    Example: brachy dvh RTDOSE.dcm RTSTRUCT.dcm --prescription PTV=145
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other: choose one")
    from brachy.cli import console
    from brachy.output import recompute

    table = recompute.dose_volume_table(dose, structures, prescriptions_of(prescription), metric or [])
    if as_json:
        _print_json({"structures": table.values})
    elif as_csv:
        sys.stdout.write(table.to_csv())
    else:
        console.show_metrics(table)
    for note in table.notes:
        print(f"note: {note}", file=sys.stderr)


@app.command()
def check(
    plan: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="Folder that `brachy plan` wrote.")
    ] = None,
    commission: Annotated[
        bool, typer.Option("--commission", help="Engine against printed tables, closed forms, quadrature.")
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="With --commission.")] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="With --commission: clinical data sets to compare with."),
    ] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> int:
    """Give a second opinion on a written plan, or commission the engine; exit 1 if a check fails.

    Example: brachy check plan-liver
    """
    if commission == (plan is not None):
        raise UsageError("give a PLAN folder to check, or --commission -o DIR")
    from brachy.cli import console

    if plan is not None:
        if out is not None or data is not None:
            raise UsageError("-o and --data go with --commission: the verdict on a plan is printed")
        from brachy.check import check_plan

        report = check_plan(plan)
    else:
        if out is None:
            raise UsageError("--commission needs -o DIR for its report")
        from brachy.check.commission import commission as compare
        from brachy.check.commission import commissioning_files
        from brachy.output import plan_folder

        plan_folder.check_destination(out, force)
        report = compare(data)
        plan_folder.write_texts(commissioning_files(report), out, force=force)
    if as_json:
        _print_json(report.data())
    else:
        console.show_check(report, "Commissioning" if commission else "Second opinion")
        if out is not None:
            print(f"wrote {out}")
    return 0 if report.verdict == "pass" else 1


app.command()(verify)


@app.command()
def view(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Folder that `brachy plan` wrote.")],
    case: Annotated[
        str | None, typer.Option("--case", metavar="CASE", help="The patient, if not beside the plan.")
    ] = None,
    screenshot: Annotated[
        Path | None,
        typer.Option("--screenshot", metavar="FILE.png", help="Write a picture; no display needed."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE.html", help="Write a page with the scene to turn.")
    ] = None,
    stl: Annotated[
        Path | None, typer.Option("--stl", metavar="FILE.stl", help="Write the printable template.")
    ] = None,
    guide: GuideOption = None,
    anonymise: AnonymiseFlag = False,
    force: ForceFlag = False,
) -> None:
    """Show a plan in three dimensions: a window, or the files asked for.

    Example: brachy view plan-liver --html scene.html
    """
    from brachy.output import view_plan
    from brachy.output.printed_template import guide_of

    written = view_plan.view(
        plan,
        case=case,
        screenshot=screenshot,
        page=page,
        stl=stl,
        guide=guide_of(guide),
        anonymise=anonymise,
        force=force,
        say=say_note,
    )
    for file in written:
        print(f"wrote {file}")


app.command()(robust)
app.command()(cohort)


@app.command()
def phantom(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped phantom or a TOML file.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder to write.")],
    force: ForceFlag = False,
) -> None:
    """Write a digital phantom as a DICOM CT series and structure set.

    Example: brachy phantom sphere-35mm -o sphere
    """
    from brachy.io.phantom.file import load_phantom
    from brachy.output import plan_folder

    plan_folder.check_destination(out, force)
    plan_folder.write_case(load_phantom(name), out, force=force)
    print(f"wrote {out}")


@app.command()
def sources(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL|FILE]")] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw g, F and the dose round the seed of MODEL."),
    ] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """List the seed models, or print one with its ranges and where its numbers are from.

    Example: brachy sources amersham_6711 --plot seed.png
    """
    from brachy.cli import console
    from brachy.dosimetry.source import available_sources, load_source

    if model is None:
        if plot is not None:
            raise UsageError(
                "--plot draws one model: name it, as in brachy sources amersham_6711 --plot seed.png"
            )
        listed = available_sources()
        if as_json:
            _print_json({"sources": {source.name: source.status for source in listed}})
        else:
            console.show_sources(listed)
        return
    source = load_source(model, accept_unverified=True)  # to look at; to use it must be accepted
    if plot is not None:
        from brachy.output.figures.source_figure import write_source_figure

        write_source_figure(source, plot, force=force)
    if as_json:
        _print_json(source.to_dict())
    else:
        console.show_source(source)
        if plot is not None:
            print(f"wrote {plot}")


@app.command()
def protocols(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the planning protocols, or print one with unit, value and source of every field.

    Example: brachy protocols liver-metastasis
    """
    from brachy import resources
    from brachy.cli import console
    from brachy.patient.protocol import load_protocol

    if name is None:
        listed = [load_protocol(each) for each in resources.names("plans")]
        if as_json:
            _print_json({"protocols": [protocol.name for protocol in listed]})
        else:
            console.show_protocols(listed)
        return
    protocol = load_protocol(name)
    if as_json:
        _print_json(protocol.model_dump(mode="json"))
    else:
        console.show_protocol(protocol)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
