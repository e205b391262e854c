"""Outpost: a project office's mail system, provisioned, re-applied and proven."""

__version__ = "0.1.0"
