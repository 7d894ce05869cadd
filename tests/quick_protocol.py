"""The liver protocol with a short search: for tests that ask what a plan says of itself, not how good it is."""

import re
from pathlib import Path

from brachy import resources
from brachy.patient.protocol import change, load_protocol

SEARCH = {"starts": 1, "moves": 2000, "fine_moves": 0, "scan_moves": 200, "directions": 1, "layouts": 1}
STEP_DEG = 60.0
"""Six azimuths in place of thirty-six, none of them tilted."""

AXIAL = change(
    load_protocol("liver-metastasis"),
    template={"arrangement": "parallel"},
    direction={"tilt_limits_deg": None},
)
"""The liver protocol with parallel needles in the axial plane, as every azimuth step has them."""

QUICK = change(AXIAL, search=SEARCH, direction={"azimuth_step_deg": STEP_DEG})


def quick_text(text: str | None = None, search: dict[str, int] = SEARCH) -> str:
    """A protocol file with a short search; by default the liver protocol's."""
    if text is None:
        text = resources.find("plans", "liver-metastasis").read_text(encoding="utf-8")
    assert "[search]" not in text
    table = "".join(f"{key} = {value}\n" for key, value in search.items())
    text, count = re.subn(r"^azimuth_step_deg = .*$", f"azimuth_step_deg = {STEP_DEG}", text, flags=re.M)
    assert count == 1
    text = re.sub(r"^(tilt_limits_deg|arrangement) = .*\n", "", text, flags=re.M)
    return text.replace("[direction]", f"[search]\n{table}\n[direction]", 1)


def instead_of_the_shipped(monkeypatch, folder: Path) -> None:
    """From here on the name of a shipped protocol means its copy in a folder, with a short search."""
    shipped = resources.folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in shipped("plans").glob("*.toml"):
        (folder / path.name).write_text(quick_text(path.read_text(encoding="utf-8")), encoding="utf-8")
    monkeypatch.setattr(resources, "folder", lambda kind: folder if kind == "plans" else shipped(kind))
