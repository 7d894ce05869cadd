"""Every way in and out of a case: DICOM, image volumes, digital phantoms."""
