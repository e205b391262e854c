"""Mistakes in an office file, each with what is needed to correct it: field, value, remedy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake in an office file.

    Attributes:
        field: Where it stands, as a dotted TOML path (``hosts.mta.addresses.wan``).
        value: What stands there, as text.
        message: What is wrong with it.
        remedy: What to write instead.
    """

    field: str
    value: str
    message: str
    remedy: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.field}{shown}: {self.message}. Remedy: {self.remedy}."


class OfficeError(Exception):
    """An office file that cannot be used; it has every problem found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))
