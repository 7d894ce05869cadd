"""Writes DICOM: RT Plan of a permanent implant, RT Dose, RT Structure Set, CT series.

Each function writes one file (or one series) completely or not at all and returns its SOP (or series) instance UID. The
files of one plan refer to each other and to the CT. They do not contain the time of writing: UIDs are derived from the
content, dates are those of the case, and the same input gives the same bytes.
"""

from brachy.io.dicom.write.ctseries import write_ct
from brachy.io.dicom.write.rtdose import write_dose
from brachy.io.dicom.write.rtplan import write_plan
from brachy.io.dicom.write.rtstruct import write_structures

__all__ = ["write_ct", "write_dose", "write_plan", "write_structures"]
