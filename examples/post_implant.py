"""After the implant: find the seeds on the CT, dose them, and say what D90 is and how sure that is.

usage: post_implant.py [CT]
"""

import sys

import brachy


def main(name: str = "post-implant"):
    found = brachy.verify(
        None, name, source="amersham_6711", strength_U=0.889, prescription_gy=120.0, count=31
    )
    target = found.record.targets[0].roi
    d90 = found.record.evaluation.structures[target]["D90_gy"].actual
    low, high, _level = found.record.intervals[target]["D90_gy"]
    print(f"{len(found.record.seeds)} seeds found; D90 of {target} {d90:.1f} Gy ({low:.1f} to {high:.1f})")
    for sentence in found.record.warnings:
        print("warning:", sentence)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
