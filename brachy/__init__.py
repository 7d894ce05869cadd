"""Planning, dosimetry and verification of permanent 125I seed implants."""

__version__ = "0.1.0"
