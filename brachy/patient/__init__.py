"""Records of the patient, the planning protocol and the plan."""
