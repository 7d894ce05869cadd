"""DICOM in (`brachy.dicom.read`) and out (`brachy.dicom.write`)."""
