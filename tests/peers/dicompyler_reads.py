"""DVH of dicompyler-core, run in its own environment: RTSTRUCT RTDOSE, JSON out."""

import json
import sys

from dicompylercore import dicomparser, dvhcalc

structures, dose = sys.argv[1:3]
found = {}
for number, entry in dicomparser.DicomParser(structures).GetStructures().items():
    dvh = dvhcalc.get_dvh(structures, dose, number)
    if dvh.volume > 0:
        found[entry["name"]] = {
            "volume_cc": float(dvh.volume), "D90_gy": float(dvh.D90.value), "mean_gy": float(dvh.mean),
        }  # fmt: skip
print(json.dumps(found))
