"""The catalogue as data: faults, the controls that meet them, the attacks that try them (``controls/*.toml``).

fault → control → check → attack, in both directions and without orphans: ``tests/lint/test_controls.py`` holds
the data to it. The classes of faults and failures follow Avizienis, Laprie, Randell and Landwehr (2004), "Basic
Concepts and Taxonomy of Dependable and Secure Computing".
"""

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from outpost.office.tables.topology import RoleName
from outpost.target import ROOT

DIRECTORY = ROOT / "controls"
MEASURED = DIRECTORY / "measured.json"
_NAMED = re.compile(r"\b(?!SHA-|CVE-|RFC-|UTF-|ISO-|AES-)[A-Z]{3,4}-\d{2}\b")
_RANGE = re.compile(r"\b([A-Z]{3,4})-(\d{2})…(\d{2})\b")
FAMILIES = {
    "DSN": "Notifications (3.1.1)",
    "BOF": "Commands and parsers (3.1.2)",
    "DOS": "Denial of service (3.1.3)",
    "SPF": "Forged senders (3.1.4)",
    "REL": "Relaying and accounts (3.1.5)",
    "AMP": "Amplification (3.1.6)",
    "VIR": "Viruses (3.1.7)",
    "WEB": "Webmail (1.2, 4.0)",
    "DNS": "Names (4.0)",
    "IMAP": "Mailboxes (1.2)",
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Frozen):
    """Base of every table."""

    id: str
    title: str = Field(min_length=5)


class Means(_Frozen):
    """The four means to attain dependability: fault prevention, tolerance, removal and forecasting."""

    prevention: str = ""
    tolerance: str = ""
    removal: str = ""
    forecasting: str = ""


class Fault(Entry):
    """A fault of Internet mail in the case study.

    Attributes:
        origin: A design fault of the protocols, an interaction fault (somebody's input), a natural (physical)
            fault, or one of operation.
        failure: How the service fails through it.
        signalled: Whether the failure shows itself.
        severity: 1 (a nuisance) to 4 (the office is without mail, or its mail is in strangers' hands).
        hurts: Attributes of dependability and security.
        sections: Of the essay.
    """

    origin: tuple[Literal["design", "interaction", "physical", "operation"], ...] = Field(min_length=1)
    failure: tuple[Literal["content", "late", "halt", "erratic"], ...] = Field(min_length=1)
    signalled: bool
    severity: int = Field(ge=1, le=4)
    hurts: tuple[
        Literal[
            "availability", "reliability", "integrity", "confidentiality", "authenticity", "accountability"
        ],
        ...,
    ] = Field(min_length=1)
    sections: tuple[str, ...] = Field(min_length=1)
    means: Means


class Control(Entry):
    """A defence.

    Attributes:
        rationale: What breaks without it.
        sources: Where it comes from; only what has been looked up is given with its section.
        where: Roles of the hosts it is on; empty for one of the project itself.
        faults: What it meets.
        status: `unproven` is configured, and nothing tries it yet; `planned` claims nothing: it is listed as missing.
        waits_for: For a planned one, the issue that brings it.
    """

    rationale: str = Field(min_length=10)
    sources: tuple[str, ...] = ()
    where: tuple[RoleName | Literal["base"], ...] = ()
    faults: tuple[str, ...] = Field(min_length=1)
    status: Literal["deployed", "unproven", "planned"] = "deployed"
    waits_for: str = ""


class AttackPlan(Entry):
    """An attack, and its required result.

    Attributes:
        expectation: What a defended office answers.
        bound: How much it does at most.
        destructive: Takes something of the office down or fills it up: never outside the lab.
        outage: Stops what all mail needs, so that honest mail is also refused meanwhile.
        alone: Runs alone, because it or its measurement would disturb the others.
        slow: Takes more than a few seconds; the suite runs it on request.
        no_switch: Why there is no positive control, where there is none.
    """

    family: Literal["DSN", "BOF", "DOS", "SPF", "REL", "AMP", "VIR", "WEB", "DNS", "IMAP"]
    faults: tuple[str, ...] = Field(min_length=1)
    controls: tuple[str, ...] = Field(min_length=1)
    vantage: Literal["internet", "client", "lan", "user"]
    expectation: str = Field(min_length=5)
    bound: str = Field(min_length=5)
    destructive: bool = False
    outage: bool = False
    alone: bool = False
    slow: bool = False
    no_switch: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The words by which `outpost attack --only` selects it."""
        own = (self.id, self.family, f"A-{self.family}", f"A-{self.family}-{self.id}")
        return (*own, *self.controls, *self.faults)


class Waiver(_Frozen):
    """A lint finding that is accepted for a time: a control without a check, a configuration line or an attack."""

    control: str
    lacks: Literal["check", "line", "attack"]
    reason: str = Field(min_length=20)
    expires: date


class Catalogue(_Frozen):
    """Everything in ``controls/``."""

    faults: Mapping[str, Fault]
    controls: Mapping[str, Control]
    attacks: Mapping[str, AttackPlan]
    waivers: tuple[Waiver, ...]

    def controls_of(self, fault: str) -> tuple[Control, ...]:
        return tuple(control for control in self.controls.values() if fault in control.faults)

    def attacks_of(self, fault: str) -> tuple[AttackPlan, ...]:
        return tuple(plan for plan in self.attacks.values() if fault in plan.faults)

    def attacks_on(self, control: str) -> tuple[AttackPlan, ...]:
        return tuple(plan for plan in self.attacks.values() if control in plan.controls)

    def chosen(self, wanted: tuple[str, ...]) -> tuple[AttackPlan, ...]:
        """Attacks by their own id, family, control or fault; all if no word is given."""
        found: dict[str, AttackPlan] = {}
        for name in wanted:
            plans = {plan.id: plan for plan in self.attacks.values() if name in plan.names}
            if not plans:
                raise KeyError(name)
            found |= plans
        return tuple(self.attacks.values()) if not wanted else tuple(found.values())


def named(text: str) -> set[str]:
    """Controls that a text names, ``TLS-01…04`` included."""
    spans = {
        f"{family}-{number:02}"
        for family, first, last in _RANGE.findall(text)
        for number in range(int(first), int(last) + 1)
    }
    return spans | set(_NAMED.findall(text))


def load(directory: Path = DIRECTORY) -> Catalogue:
    """Read the catalogue in a directory."""
    tables = {
        name: {id_: {"id": id_, **entry} for id_, entry in _read(directory / f"{name}.toml").items()}
        for name in ("faults", "controls", "attacks")
    }
    waivers = _read(directory / "waivers.toml").get("waiver", [])
    return Catalogue.model_validate({**tables, "waivers": waivers})


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    return load()


def measured(path: Path = MEASURED) -> dict[str, Any]:
    """The last recorded run of every attack, with and without the defence; empty if there is none."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
