"""The attacks, one module for each family of ``controls/attacks.toml``."""
