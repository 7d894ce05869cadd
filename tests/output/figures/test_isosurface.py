"""Surfaces from lattices: against spheres and boxes in closed form; closed whatever the values."""

import numpy as np
import pytest
import trimesh

from brachy.geometry.grid import Dose, Grid
from brachy.geometry.structures import Structure
from brachy.output.figures.isosurface import level_surface, smoothed, with_fewer_triangles
from brachy.output.figures.surfaces import MOST_TRIANGLES, dose_surface, structure_surface

RADIUS = 15.0


def ball(radius=RADIUS, size=41):
    """Distance inside a sphere in the middle of a lattice, in spacings."""
    z, y, x = np.mgrid[:size, :size, :size] - size // 2
    return radius - np.sqrt(x * x + y * y + z * z)


def mesh_of(points, triangles):
    return trimesh.Trimesh(points, triangles, process=False)


@pytest.mark.parametrize("times", [0, 10])
def test_a_sphere(times):
    points, triangles = level_surface(ball(), 0.0)
    mesh = mesh_of(smoothed(points, triangles, times), triangles)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 2
    # a chord of a lattice step lies 1 / (8 R) below its arc: 1 % of the volume is beyond that
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.01)
    assert np.abs(np.linalg.norm(mesh.vertices - 20, axis=1) - RADIUS).max() < 0.1


def test_axes_are_x_y_z():
    values = np.zeros((6, 8, 12))
    values[2:4, 3:5, 4:10] = 1.0
    points, _ = level_surface(values, 0.5)
    assert points.min(axis=0).tolist() == pytest.approx([3.5, 2.5, 1.5], abs=0.25)
    assert points.max(axis=0).tolist() == pytest.approx([9.5, 4.5, 3.5], abs=0.25)


def test_any_values_give_a_closed_surface():
    """Each edge is passed as often forwards as backwards."""
    values = np.pad(np.random.default_rng(1).random((10, 11, 12)), 1)
    _, triangles = level_surface(values, 0.5)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    forwards, backwards = np.unique(edges, axis=0), np.unique(edges[:, ::-1], axis=0)
    assert len(triangles) > 1000
    assert (forwards == backwards).all()


@pytest.mark.parametrize("most", [3000, 500])
def test_fewer_triangles_are_the_same_sphere(most):
    points, triangles = with_fewer_triangles(*level_surface(ball(), 0.0), most)
    mesh = mesh_of(points, triangles)
    assert 0.1 * most < len(triangles) <= most
    assert mesh.is_watertight
    # a sphere inscribed by n triangles of edge a lies about a^2 / (12 R) below: 8 % of the volume for 300 of them
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.08)


def test_few_triangles_stay_as_they_are():
    points, triangles = level_surface(ball(4.0, 13), 0.0)
    same = with_fewer_triangles(points, triangles, len(triangles))
    assert same[0] is points
    assert same[1] is triangles


def test_an_isodose_is_in_mm_of_the_patient():
    grid = Grid((10.0, -20.0, 30.0), (1.0, 1.0, 1.0), (41, 41, 41))
    surface = dose_surface(Dose(grid, 100.0 + ball()), 100.0)
    centre = surface.points_mm.mean(axis=0)
    assert centre.tolist() == pytest.approx([30.0, 0.0, 50.0], abs=0.01)
    assert dose_surface(Dose(grid, 100.0 + ball()), 200.0).is_empty


def test_a_structure_cut_by_a_box_is_closed():
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    ring = 20.0 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    rod = Structure("rod", [ring + [0, 0, z] for z in range(0, 81, 2)])
    surface = structure_surface(rod, np.array([[-30.0, -30.0, 20.0], [30.0, 30.0, 60.0]]))
    mesh = mesh_of(surface.points_mm, surface.triangles)
    assert mesh.is_watertight
    assert len(surface.triangles) <= MOST_TRIANGLES
    # the lattice ends two spacings of 1.5 mm beyond the box, and its last layer is empty: half the value is between
    assert mesh.volume == pytest.approx(np.pi * 20**2 * (40 + 2 * 1.5 * 1.5), rel=0.02)
