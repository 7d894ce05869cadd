"""pygrpm's dose of one seed on 160 x 160 x 100 mm, as a script of its own: prints ns per voxel, median of rounds.

pygrpm is under the AGPL and needs pydantic 1, so it is no dependency and cannot share an environment with brachy. Give
it one of its own (`python -m venv ENV; ENV/bin/pip install pygrpm`) and name its interpreter:
`BRACHY_BENCH_PYGRPM=ENV/bin/python make bench`.
"""

import sys
import time
from statistics import median


def main() -> None:
    from pygrpm.tg43 import Seed

    seed, rounds = Seed("SelectSeed"), int(sys.argv[1])
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        dose = seed.grid((-7.95, -7.95, -4.95), (8.0, 8.0, 5.0), 0.1, (0.11, 0.23, -0.31), (0.1, 0.0, 1.0))
        times.append((time.process_time() - start) / dose.size * 1e9)
    print(median(times[1:]))


if __name__ == "__main__":
    main()
