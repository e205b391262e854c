"""Outpost: a project office's mail system, provisioned, re-applied and proven."""

__version__ = "1.0.0rc1"
