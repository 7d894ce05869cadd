"""Pure geometry: voxel grids and contoured structures."""
