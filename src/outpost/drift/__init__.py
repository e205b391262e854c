"""Drift that a comparison of files does not find: things beside the declared files, and live state that no file has."""
