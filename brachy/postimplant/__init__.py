"""Post-implant dosimetry: register, match and dose the seeds found on CT, and compare them with the plan."""
