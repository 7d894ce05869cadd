"""Template holes, needle paths through the patient, and the seeds that may be loaded along them."""
