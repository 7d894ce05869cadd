"""DICOM files as a scanner and a planning system write them, made with pydicom alone for tests of reading."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CLASS = "1.2.840.10008.5.1.4.1.1.2.1"
STRUCTURE_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
DOSE_CLASS = "1.2.840.10008.5.1.4.1.1.481.2"
PLAN_CLASS = "1.2.840.10008.5.1.4.1.1.481.5"

FRAME = generate_uid(entropy_srcs=["frame"])
STUDY = generate_uid(entropy_srcs=["study"])
SERIES = generate_uid(entropy_srcs=["series"])
STRUCTURES = generate_uid(entropy_srcs=["structures"])

AXIAL = (1, 0, 0, 0, 1, 0)
SUPINE_FEET_FIRST = (-1, 0, 0, 0, 1, 0)
DECUBITUS_LEFT = (0, -1, 0, 1, 0, 0)
SHAPE = (6, 10, 12)  # slices, rows, columns
SPACING = (1.5, 1.25, 2.5)  # between columns, rows, slices
CORNER = (-20.0, 30.0, -50.0)


def hu_at(points_mm):
    """CT numbers of the made-up patient: linear in the position, so that every voxel tells where it is."""
    return np.rint(np.asarray(points_mm) @ (3.0, 7.0, 20.0)).astype(int) + 300


def positions(orientation=AXIAL, corner=CORNER, spacing=SPACING, shape=SHAPE):
    """Positions (slices, rows, columns, 3) of the voxels, by PS3.3 eq. C.7.6.2.1-1."""
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    normal = np.cross(row, column)
    k, r, c = (np.arange(n)[:, None] for n in shape)
    return (
        np.array(corner, float)
        + (k * spacing[2] * normal)[:, None, None]
        + (r * spacing[1] * column)[None, :, None]
        + (c * spacing[0] * row)[None, None, :]
    )


def decimal(values):
    return [f"{v:.10g}"[:16] for v in np.atleast_1d(np.asarray(values, float))]


def common(sop_class, modality, series=SERIES, frame=FRAME):
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, generate_uid()
    data.Modality, data.StudyInstanceUID, data.SeriesInstanceUID = modality, STUDY, series
    data.PatientName, data.PatientID = "TEST^CASE", "T1"
    data.StudyDate = data.AcquisitionDate = "20260203"
    if frame:
        data.FrameOfReferenceUID = frame
    return data


def pixels(data, stored, bits_stored=16):
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = 8 * stored.dtype.itemsize
    data.BitsStored, data.HighBit = bits_stored, bits_stored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = stored.tobytes()


def save(data, path, syntax=ExplicitVRLittleEndian):
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    dcmwrite(path, data, enforce_file_format=True)
    return Path(path)


def ct_slices(
    orientation=AXIAL,
    corner=CORNER,
    spacing=SPACING,
    shape=SHAPE,
    rescale=lambda k: (1, -1024),
    dtype=np.uint16,
    bits_stored=16,
    series=SERIES,
    frame=FRAME,
    description="thorax",
):
    """Data sets of a CT series, in the order of their normal; `rescale` gives slope and intercept of slice k."""
    where = positions(orientation, corner, spacing, shape)
    found = []
    for k in range(shape[0]):
        slope, intercept = rescale(k)
        data = common(CT_CLASS, "CT", series, frame)
        data.SeriesDescription, data.ImageType = description, ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImagePositionPatient, data.ImageOrientationPatient = (
            decimal(where[k, 0, 0]),
            decimal(orientation),
        )
        data.PixelSpacing = decimal([spacing[1], spacing[0]])
        data.SliceThickness, data.InstanceNumber = decimal(spacing[2])[0], k + 1
        data.RescaleSlope, data.RescaleIntercept = decimal(slope)[0], decimal(intercept)[0]
        data.PatientPosition = "HFS"
        stored = np.rint((hu_at(where[k]) - intercept) / slope).astype(dtype)
        pixels(data, stored, bits_stored)
        found.append(data)
    return found


def save_all(slices, folder, names=None):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [save(data, folder / (names[k] if names else f"CT{k:03d}.dcm")) for k, data in enumerate(slices)]


def square(z, low=(-15.0, 32.0), high=(-8.0, 38.0)):
    return np.array([[low[0], low[1], z], [high[0], low[1], z], [high[0], high[1], z], [low[0], high[1], z]])


def structure_set(rois, slices=(), series=SERIES, frame=FRAME, uid=STRUCTURES):
    """RTSTRUCT data set of {name: contours}; a contour is an (n, 3) array or (type, array)."""
    data = common(STRUCTURE_CLASS, "RTSTRUCT", generate_uid(entropy_srcs=["rtstruct"]), frame)
    data.SOPInstanceUID, data.StructureSetLabel, data.StructureSetDate = uid, "made", "20260203"
    data.SpecificCharacterSet = "ISO_IR 192"
    images = []
    for one in slices:
        image = Dataset()
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        images.append(image)
    series_item, study_item, frame_item = Dataset(), Dataset(), Dataset()
    series_item.SeriesInstanceUID, series_item.ContourImageSequence = series, images
    study_item.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study_item.ReferencedSOPInstanceUID = STUDY
    study_item.RTReferencedSeriesSequence = [series_item]
    frame_item.FrameOfReferenceUID, frame_item.RTReferencedStudySequence = frame, [study_item]
    if series:
        data.ReferencedFrameOfReferenceSequence = [frame_item]
    data.StructureSetROISequence, data.ROIContourSequence, data.RTROIObservationsSequence = [], [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        roi, drawn, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, ["255", "128", "0"]
        drawn.ContourSequence = []
        for contour in contours:
            kind, points = contour if isinstance(contour, tuple) else ("CLOSED_PLANAR", contour)
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
            item.ContourData = decimal(np.asarray(points).ravel())
            drawn.ContourSequence.append(item)
        seen.ObservationNumber = seen.ReferencedROINumber = number
        seen.RTROIInterpretedType = "GTV" if name == "GTV" else "ORGAN"
        data.StructureSetROISequence.append(roi)
        data.ROIContourSequence.append(drawn)
        data.RTROIObservationsSequence.append(seen)
    return data


def box_case(folder, **options):
    """A CT series and an RTSTRUCT with a GTV in one folder: (CT files, RTSTRUCT file, CT data sets)."""
    slices = ct_slices(**options)
    files = save_all(slices, folder)
    contours = {"GTV": [square(-47.5), square(-45.0), square(-42.5)]}
    frame, series = options.get("frame", FRAME), options.get("series", SERIES)
    return files, save(structure_set(contours, slices, series, frame), Path(folder) / "RS.dcm"), slices


def content(case):
    """All of a case as plain values, to compare two readings of it."""
    return (
        case.ct_hu.tobytes(),
        case.grid.origin_mm.tolist(),
        case.grid.direction.tolist(),
        [(s.name, [c.tolist() for c in s.contours_mm]) for s in case.structures],
        case.identity,
        case.inputs,
        case.assumed,
    )
