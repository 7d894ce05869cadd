"""Rigid motions by SimpleITK, which the product's own fits are compared with."""

import numpy as np
import SimpleITK as sitk


def motion(degrees, shift, about=(0.0, 0.0, 0.0)):
    """Rigid 4 x 4 by SimpleITK's own Euler angles about a point."""
    made = sitk.Euler3DTransform()
    made.SetCenter([float(value) for value in about])
    made.SetRotation(*(float(value) for value in np.radians(degrees)))
    made.SetTranslation([float(value) for value in shift])
    corners = np.vstack([np.zeros(3), np.eye(3)])
    moved_corners = np.array([made.TransformPoint(c.tolist()) for c in corners])
    matrix = np.eye(4)
    matrix[:3, :3] = (moved_corners[1:] - moved_corners[0]).T
    matrix[:3, 3] = moved_corners[0]
    return matrix


def moved(matrix, points):
    """Points (n, 3) moved by a 4 x 4 matrix."""
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]
