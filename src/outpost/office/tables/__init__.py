"""The tables of ``office.toml`` by subject. Field descriptions and examples feed ``docs/reference/office.md``."""
