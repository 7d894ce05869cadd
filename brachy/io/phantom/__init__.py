"""Digital phantoms: reading their TOML file, their solids, and metal artefacts on the CT."""
