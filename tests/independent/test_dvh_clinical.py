"""Histograms against clinical planning systems: VariSeed (day-1 implant), Eclipse, and the system of the breast case.

Files are read here with pydicom alone.
"""

import csv
import json

import numpy as np
import pydicom
import pytest

from brachy.dosimetry.dvh import dvh
from brachy.dosimetry.implant import Implant
from brachy.dosimetry.source import load_source
from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure


def read_structures(path):
    data = pydicom.dcmread(path)
    names = {int(item.ROINumber): str(item.ROIName) for item in data.StructureSetROISequence}
    found = {}
    for item in data.ROIContourSequence:
        contours = [
            np.array(c.ContourData, dtype=float).reshape(-1, 3) for c in item.get("ContourSequence", [])
        ]
        if contours:
            name = names[int(item.ReferencedROINumber)]
            found[name] = Structure(name, contours)
    return found


def read_dose(path):
    data = pydicom.dcmread(path)
    offsets = np.array(data.GridFrameOffsetVector, dtype=float)
    assert data.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    spacing = (data.PixelSpacing[1], data.PixelSpacing[0], abs(offsets[1] - offsets[0]))
    gy = data.pixel_array * float(data.DoseGridScaling)
    origin = np.array(data.ImagePositionPatient, dtype=float)
    if offsets[1] < 0:
        gy, origin[2] = gy[::-1], origin[2] + offsets[-1]
    return Dose(Grid(origin, spacing, gy.shape), gy)


@pytest.fixture(scope="module")
def implant_case(shared):
    folder = shared / "data" / "prostate_postimplant_day1"
    plan = pydicom.dcmread(folder / "dicom" / "PL001.dcm")
    seeds = [
        channel.BrachyControlPointSequence[0].ControlPoint3DPosition
        for setup in plan.ApplicationSetupSequence
        for channel in setup.ChannelSequence
    ]
    assert len(seeds) == 54
    truth = json.loads((folder / "truth" / "truth.json").read_text())["structures"]
    structures = {name[:3]: s for name, s in read_structures(folder / "dicom" / "SS001.dcm").items()}
    implant = Implant(load_source("bard_stm1251"), np.array(seeds, dtype=float), strength_U=0.621)
    return implant, structures, {name[:3]: values for name, values in truth.items()}, folder


def test_prostate_of_the_day_1_implant(implant_case):
    implant, structures, truth, _ = implant_case
    found = dvh(implant, structures["Pro"], prescription_gy=145.0)
    told = truth["Pro"]
    assert not found.interpolated
    assert found.volume_cc == pytest.approx(told["TPS_volume_cc"], rel=5e-3)
    assert found.D(90) == pytest.approx(told["TPS_D90_Gy"], abs=0.8)
    assert found.V(145.0) == pytest.approx(told["TPS_V145_cc"], abs=0.2)
    assert found.V(217.5) == pytest.approx(told["TPS_V217.5_cc"], abs=0.25)
    assert found.V(290.0) == pytest.approx(told["TPS_V290_cc"], abs=0.15)
    assert found.V(100.0) == pytest.approx(told["TPS_V100_cc"], abs=0.1)


def test_urethra_and_rectum_of_the_day_1_implant(implant_case):
    implant, structures, truth, _ = implant_case
    urethra, rectum = (dvh(implant, structures[name], prescription_gy=145.0) for name in ("Ur\xe8", "Rec"))
    assert urethra.volume_cc == pytest.approx(truth["Ur\xe8"]["TPS_volume_cc"], rel=5e-3)
    assert urethra.D(90) == pytest.approx(truth["Ur\xe8"]["TPS_D90_Gy"], abs=0.8)
    assert rectum.volume_cc == pytest.approx(truth["Rec"]["TPS_volume_cc"], rel=5e-3)
    assert rectum.D(90) == pytest.approx(truth["Rec"]["TPS_D90_Gy"], abs=0.2)
    for gy in ("100", "145", "150", "200"):
        assert urethra.V(float(gy)) == pytest.approx(truth["Ur\xe8"][f"TPS_V{gy}_cc"], abs=0.01)
        assert rectum.V(float(gy)) == pytest.approx(truth["Rec"][f"TPS_V{gy}_cc"], abs=0.01)


def test_interpolating_the_clinical_dose_agrees_and_says_so(implant_case):
    _, structures, truth, folder = implant_case
    found = dvh(read_dose(folder / "dicom" / "DO001.dcm"), structures["Pro"])
    assert found.interpolated
    assert any("interpolated" in note for note in found.notes)
    assert found.D(90) == pytest.approx(truth["Pro"]["TPS_D90_Gy"], abs=0.8)
    assert found.V(145.0) == pytest.approx(truth["Pro"]["TPS_V145_cc"], abs=0.2)


@pytest.fixture(scope="module")
def eclipse(shared):
    folder = shared / "data" / "dvh_eclipse_prostate"
    with (folder / "reference" / "EclipseProstate_DvhTable_Eclipse.csv").open() as stream:
        rows = list(csv.reader(stream))
    tables = {}
    for column in range(0, 12, 2):
        name = rows[0][column].removesuffix("_DvhArray Dose (Gy)")
        volume = float(rows[0][column + 1].split("% of ")[1].split(" cc")[0])
        points = np.array(
            [row[column : column + 2] for row in rows[1:] if row[column] and row[column + 1]], dtype=float
        )
        tables[name] = (volume, points[:, 0], points[:, 1])
    structures = read_structures(folder / "dicom" / "RTSTRUCT.dcm")
    return (
        read_dose(folder / "dicom" / "RTDOSE.dcm"),
        {n.replace(" ", ""): s for n, s in structures.items()},
        tables,
    )


# Eclipse lets a structure taper beyond its last contour, where the end slabs here keep its outline for half a slice:
# its volumes lie between those of the stack with and without these two half slices. They are 2.1 % of the PTV.
@pytest.mark.parametrize(
    ("name", "volume_tolerance"),
    [("PTV", 0.0125), ("Bladder", 0.01), ("FemoralHeadLt", 0.01), ("FemoralHeadRT", 0.01), ("Rectum", 0.015)],
)
def test_eclipse_agrees(eclipse, name, volume_tolerance):
    dose, structures, tables = eclipse
    volume, gy, percent = tables[name]
    found = dvh(dose, structures[name])
    tolerance = 0.015 if name == "Rectum" else 0.01
    assert found.D(95) == pytest.approx(np.interp(-95, -percent, gy), rel=tolerance)
    assert found.D(50) == pytest.approx(np.interp(-50, -percent, gy), rel=tolerance)
    assert found.mean_gy == pytest.approx(np.trapezoid(percent, gy) / 100, rel=tolerance)
    assert found.volume_cc == pytest.approx(volume, rel=volume_tolerance)
    planes = structures[name].planes()
    ends = 0.5 * 2.5 * (planes[0].area_mm2 + planes[-1].area_mm2) / 1000
    assert found.volume_cc - ends - 0.05 <= volume <= found.volume_cc  # printed to 0.1 cc
    assert abs(found.volume_cc - volume) <= found.uncertainty("volume_cc").total + 0.05


@pytest.fixture(scope="module")
def breast(shared):
    folder = shared / "data" / "dvh_breast"
    told = json.loads((folder / "reference" / "tps_dvh_vs_dicompyler.json").read_text())
    dose = read_dose(folder / "dicom" / "rtdose.dcm")
    return dose, read_structures(folder / "dicom" / "rtss.dcm"), {name: v["TPS"] for name, v in told.items()}


@pytest.mark.parametrize(
    ("name", "volume_tolerance"), [("Heart", 0.01), ("Lt Lung", 0.01), ("Tumor Bed Block", 0.0155)]
)
def test_the_breast_plans_own_histograms_agree(breast, name, volume_tolerance):
    dose, structures, told = breast
    found = dvh(dose, structures[name])
    assert found.mean_gy == pytest.approx(told[name]["mean"], rel=0.01)
    assert found.volume_cc == pytest.approx(told[name]["vol"], rel=volume_tolerance)


# What does not agree as well, and what is known of the reason. In volume, the end slabs alone (half a slice beyond
# the first and the last contour) are 1.0 % of Breast, 3.2 % of Tumor Bed, 19 % of Nodes and 50 % of Borders. Scar, six
# slices of 0.1 cc, and BODY are told smaller (0.343 and 13 944 cc) than the contours times their spacing without any
# end slabs (0.493 and 14 736 cc), so that the system must have drawn their volume otherwise than their contours.
@pytest.mark.parametrize(
    ("name", "volume", "mean"),
    [
        ("Breast", 0.01, 0.01),
        ("Tumor Bed", 0.03, 0.001),
        ("Borders", 0.75, 0.07),
        ("Nodes", 0.2, 0.08),
        ("Scar", 0.5, 0.03),
        ("BODY", 0.07, 0.06),
    ],
)
def test_small_or_differently_drawn_structures_stay_where_they_are(breast, name, volume, mean):
    dose, structures, told = breast
    found = dvh(dose, structures[name], organ=True)
    assert found.volume_cc == pytest.approx(told[name]["vol"], rel=volume)
    assert found.mean_gy == pytest.approx(told[name]["mean"], rel=mean)
