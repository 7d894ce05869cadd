"""The same dose by plain numpy, as fast as numpy can be: slice by slice, in place, nothing per seed and voxel kept."""
