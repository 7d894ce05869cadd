"""`brachy phantom`: a digital phantom as DICOM."""

from pathlib import Path
from typing import Annotated

import typer

from brachy.cli.flags import ForceFlag


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
