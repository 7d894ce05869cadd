"""Seeds that pyGRPM finds in an RT Plan, run in its own environment: RTPLAN, JSON out."""

import json
import sys
from pathlib import Path

from pygrpm.brachy_dvh.dicom.brachy_rt_plan_wrapper import BrachyRtPlanWrapper

plan = BrachyRtPlanWrapper(Path(sys.argv[1]))
places = [[10.0 * value for value in source.position] for source in plan.source_positions]  # it holds cm
print(json.dumps({"positions_mm": places, "strengths_U": [plan.air_kerma_strength] * len(places)}))
