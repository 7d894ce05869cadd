"""Reads DICOM (`brachy.io.dicom.read`) and writes it (`brachy.io.dicom.write`)."""
