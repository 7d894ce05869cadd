"""Digital phantoms: the TOML file, its solids, metal artefacts on CT."""
