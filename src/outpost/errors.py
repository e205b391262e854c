"""What the command line reports in one line, with what to do about it."""

from collections.abc import Mapping


class OutpostError(Exception):
    """A failure that a user can understand and act on.

    Attributes:
        message: What is wrong, without a full stop.
        remedy: What to do next; empty where nothing can be done.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}. Remedy: {remedy}." if remedy else message)
        self.message = message
        self.remedy = remedy


def of_hosts(
    reasons: Mapping[str, str], otherwise: str = "correct the cause", *, what: str = "", then: str = ""
) -> OutpostError:
    """One error for all hosts that failed: those with the same reason are named together, and the remedies follow at the end.

    Args:
        reasons: Host → why, with a remedy or without.
        otherwise: The remedy if none is known.
        what: What failed on them.
        then: What to do after that.
    """
    alike: dict[str, list[str]] = {}
    for name, why in sorted(reasons.items()):
        alike.setdefault(why, []).append(name)
    seen: list[str] = []
    remedies: dict[str, list[str]] = {}
    for why, names in alike.items():
        # several lines are several failures, each with its remedy
        message, _, remedy = (why, "", "") if "\n" in why else why.partition(". Remedy: ")
        seen.append(f"{', '.join(names)}: {message}")
        if remedy:
            remedies.setdefault(remedy.removesuffix("."), []).extend(names)
    each = [f"{', '.join(names)}: {remedy}" for remedy, names in remedies.items()]
    todo = [*(each if len(each) > 1 else remedies)] or [otherwise]
    return OutpostError(
        f"{what} {'; '.join(seen)}".strip(), "; ".join([*todo, *([f"then {then}"] if then else [])])
    )
