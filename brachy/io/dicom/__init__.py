"""DICOM in (`brachy.io.dicom.read`) and out (`brachy.io.dicom.write`)."""
