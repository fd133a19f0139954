"""The models: one module each, and the published figures beside them in `references.toml`."""
