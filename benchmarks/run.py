"""Every benchmark, one after the other: `make bench`."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = ("dose.py", "dvh.py", "planning.py")


def main() -> None:
    here = Path(__file__).parent
    for name in SCRIPTS:
        if (here / name).is_file():
            print(f"== {name}", flush=True)
            subprocess.run([sys.executable, str(here / name)], check=True, cwd=here.parent)


if __name__ == "__main__":
    main()
