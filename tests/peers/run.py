"""`make peers`: what is exported, read by other programs in environments of their own, and compared.

`python -m tests.peers.run FOLDER` makes a plan and its environments there. pyGRPM (AGPL) reads the RT Plan: seeds and
strengths. dicompyler-core (BSD, needs pydicom < 3) reads RT Dose and RT Structure Set: DVH. Exit 1 where they differ.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from brachy.evaluation import goals
from brachy.io.dicom.read import read_dose, read_structures
from brachy.patient.plan import Plan

HERE = Path(__file__).resolve().parent
PEERS = {"pygrpm": ["pygrpm"], "dicompyler": ["dicompyler-core", "pydicom<3", "numpy<2"]}

TOLERANCE_PCT = {"volume": 1.0, "D90": 2.0, "mean": 3.0}
"""dicompyler-core counts whole voxels of 1 mm on the slices, ours are exact polygons; the mean of a target hangs on the
millimetre round its seeds (engineering choices)."""


def environment(folder, name):
    python = folder / name / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
    return python


def asked(folder, name, *files):
    script = HERE / f"{name}_reads.py"
    done = subprocess.run(
        [str(environment(folder, name)), str(script), *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{name} could not read it: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "plan"
    words = ["plan", "liver-metastasis", "--direction", "300", "-o", str(out), "--force"]
    subprocess.run([sys.executable, "-c", "from brachy.__main__ import main; main()", *words], check=True)
    made, bad = Plan.load(out), 0

    seen = asked(folder, "pygrpm", out / "RTPLAN.dcm")
    ours = sorted(seed.position_mm for needle in made.needles for seed in needle.seeds)
    theirs = sorted(map(tuple, seen["positions_mm"]))
    off = np.abs(np.array(ours) - np.array(theirs)).max() if len(ours) == len(theirs) else np.inf
    strength = made.sources[0].air_kerma_strength_U
    off_u = max(abs(value / strength - 1) for value in seen["strengths_U"])
    print(
        f"pyGRPM: {len(theirs)} of {len(ours)} seeds, largest difference {off:.2g} mm, strength {100 * off_u:.2g} %"
    )
    bad += not (off < 1e-3 and off_u < 1e-4)

    seen = asked(folder, "dicompyler", out / "RTSTRUCT.dcm", out / "RTDOSE.dcm")
    dose = read_dose(out / "RTDOSE.dcm")
    for structure in read_structures(out / "RTSTRUCT.dcm"):
        entry = seen.get(structure.name)
        if entry is None or structure.volume_cc < 5.0:
            continue
        if not dose.grid.contains(np.concatenate(structure.contours_mm)).all():
            continue
        found = goals.dvh(dose, structure)
        pairs = {
            "volume": (structure.volume_cc, entry["volume_cc"]),
            "D90": (found.D(90), entry["D90_gy"]),
            "mean": (found.mean_gy, entry["mean_gy"]),
        }
        told = [f"{name} {a:.4g} / {b:.4g} ({100 * (b / a - 1):+.2f} %)" for name, (a, b) in pairs.items()]
        print(f"dicompyler-core: {structure.name}: ours / theirs {', '.join(told)}")
        bad += any(abs(b / a - 1) > TOLERANCE_PCT[name] / 100 for name, (a, b) in pairs.items())
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
