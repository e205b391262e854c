"""What can go wrong with the lab, each with what to do about it."""

from outpost.errors import OutpostError


class LabError(OutpostError):
    """Something the user can put right."""


class EngineMissing(LabError):  # noqa: N818 (named for what is the matter; LabError says it is an error)
    """Docker is not installed, or its daemon does not answer."""


class NotAllowed(EngineMissing):
    """Docker runs, but this user may not use it; installing anything would not help."""


class NotUp(LabError):  # noqa: N818
    """The instance named on the command line is not running."""
