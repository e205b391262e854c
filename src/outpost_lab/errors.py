"""Errors of the lab, each with its remedy."""

from outpost.errors import OutpostError


class LabError(OutpostError):
    """An error that the user can correct."""


class EngineMissing(LabError):  # noqa: N818 (named for what is the matter; LabError says it is an error)
    """Docker is not installed, or its daemon does not answer."""


class NotAllowed(EngineMissing):
    """Docker runs, but this user may not use it; installing anything would not help."""


class NotUp(LabError):  # noqa: N818
    """The instance named on the command line is not running."""
