"""Pictures of a plan: Matplotlib axes, the 3D scene, and the planes, curves and surfaces they draw."""
