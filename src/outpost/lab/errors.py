"""What can go wrong with the lab, each with what to do about it."""

from __future__ import annotations


class LabError(Exception):
    """Something the user can put right.

    Attributes:
        message: What is wrong, one line.
        remedy: What to do, one line, often a command.
    """

    def __init__(self, message: str, remedy: str) -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}. Remedy: {remedy}.")


class EngineMissing(LabError):  # noqa: N818 (named for what is the matter; LabError says it is an error)
    """Docker is not installed, or its daemon does not answer."""


class NotAllowed(EngineMissing):
    """Docker runs, but this user may not use it; installing anything would not help."""


class NotUp(LabError):  # noqa: N818
    """The instance named on the command line is not running."""
