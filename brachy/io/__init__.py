"""Reads and writes cases: DICOM, image volumes, digital phantoms."""
