"""Drift that no file comparison sees: what stands beside the declared files, and what is live but not written."""
