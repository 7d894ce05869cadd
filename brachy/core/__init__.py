"""numba kernels: floats and arrays in, arrays out; lengths in the units their names say."""
