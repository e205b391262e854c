"""Pages made from the model, so that they cannot disagree with it: the office file's reference, the flows.

Pure but for `pages`, which reads what stands in the checkout.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ByteSize
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from outpost.evidence import opinions as others
from outpost.evidence.controls import FAMILIES, catalogue, measured
from outpost.office import Office, ports
from outpost.office.flows import Flow, flows
from outpost.office.load import parse
from outpost.office.tables.tls import TrustedAuthority
from outpost.target import INVENTORY, LAB, ROOT
from outpost.templates import environment, render

BEGIN, END = "<!-- made by `./outpost reference` -->", "<!-- end of what is made -->"
NOTE = "<!-- Made by `./outpost reference` from src/outpost/office/. Do not edit. -->\n\n"
OPINIONS_NOTE = "<!-- Made by `./outpost reference` from controls/judged.json and controls/opinions.toml. Do not edit. -->\n\n"
CATALOGUE_NOTE = "<!-- Made by `./outpost reference` from controls/. Do not edit. -->\n\n"
CONFIGURATION = ("templates", "roles", "src/outpost/office", "src/outpost/converge")
UPKEEP = frozenset((
    "administration", "backup at head office", "alarms", "certificates", "logs to head office",
    "proving names to the certificate authority", "whether a mailbox has room", "packages and upgrades",
    "resolving names", "the clock", "virus signatures",
))  # fmt: skip
PROTOCOLS = {
    ports.ACCOUNTS: "accounts",
    ports.SCANNER: "scanner",
    ports.LEARN_SPAM: "learning",
    ports.LEARN_HAM: "learning",
    ports.DNS: "DNS",
    ports.HTTP: "HTTP",
    ports.HTTPS: "HTTPS",
    ports.IMAPS: "IMAP",
    ports.LMTP: "LMTP",
    ports.MANAGESIEVE: "Sieve",
    ports.SUBMISSIONS: "submission",
    ports.SUBMISSION_RELAY: "submission",
}  # everything else in the diagram is SMTP, whatever its port


@dataclass(frozen=True)
class Page:
    """A file, or a marked part of it, and what should stand there."""

    path: Path
    wanted: str

    def is_current(self) -> bool:
        return self.path.is_file() and self.path.read_text(encoding="utf-8") == self.wanted

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(self.wanted, encoding="utf-8")


def pages() -> tuple[Page, ...]:
    """Every page that is made from the model."""
    office = case_study()
    docs = ROOT / "docs"
    readme, measurements = ROOT / "README.md", docs / "measurements.md"
    return (
        Page(docs / "reference" / "office.md", NOTE + office_reference()),
        Page(docs / "reference" / "flows.md", NOTE + flow_reference(office)),
        Page(docs / "reference" / "faults.md", of_catalogue("faults")),
        Page(docs / "reference" / "controls.md", of_catalogue("controls")),
        Page(docs / "reference" / "attacks.md", of_catalogue("attacks")),
        Page(docs / "explanation.md", of_catalogue("explanation")),
        Page(docs / "reference" / "opinions.md", OPINIONS_NOTE + opinions()),
        Page(docs / "appendices.md", of_catalogue("appendices")),
        Page(readme, replaced(readme.read_text(encoding="utf-8"), diagram(office))),
        Page(measurements, with_opinions(measurements.read_text(encoding="utf-8"))),
    )


def of_catalogue(page: str) -> str:
    """A page of faults, controls and attacks, from its template."""
    return CATALOGUE_NOTE + _page(
        page, data=catalogue(), measured=measured(), families=FAMILIES, files=files_of
    )


def _page(name: str, **facts: object) -> str:
    return render(environment(Path(__file__).with_name("pages")), f"{name}.md.j2", facts)


def files_of(control: str) -> list[str]:
    """Files of the configuration that name a control."""
    return [file for name, file in _named() if name == control]


@cache
def _named() -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, str(file.relative_to(ROOT)))
        for top in CONFIGURATION
        for file in sorted((ROOT / top).rglob("*"))
        if file.suffix in (".j2", ".py") and file.is_file()
        for name in sorted(set(re.findall(r"\b[A-Z]{3,4}-\d{2}\b", file.read_text(encoding="utf-8"))))
    )


def case_study() -> Office:
    """The lab's office as its file stands; what only a running instance knows is left out."""
    data = tomllib.loads((INVENTORY / LAB / "office.toml").read_text(encoding="utf-8"))
    data.get("tls", {}).pop("trusted_authorities", None)
    office, problems = parse(data)
    if office is None:
        raise ValueError(f"inventory/lab/office.toml: {problems[0]}")
    return office


def opinions() -> str:
    """What others' tools said last, and why what is left stays."""
    judged = others.recorded()
    return f"# Outside opinions\n\n{others.table(judged)}\n{others.left(judged, others.reasons())}"


def with_opinions(text: str) -> str:
    """The text with what others' tools said last."""
    marker = "<!-- outside opinions, by `./outpost judge --record` -->"
    return replaced(text, others.table(others.recorded()), marker)


def replaced(text: str, content: str, marker: str = BEGIN) -> str:
    """The text with everything between the markers replaced."""
    before, begin, rest = text.partition(marker)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{content}{end}{after}" if begin and end else text


# --- the diagram ------------------------------------------------------------------------------------------


def diagram(office: Office) -> str:
    """The office as a Mermaid graph: who talks to whom, and why; upkeep (SSH, time, packages) is left out."""
    links: dict[tuple[str, str], list[str]] = {}
    for flow in _shown(office):
        labels = links.setdefault((flow.source.label, flow.destination.label), [])
        labels += [
            label for label in [f"{PROTOCOLS.get(flow.port, 'SMTP')} {flow.port}"] if label not in labels
        ]
    outside = sorted({end for link in links for end in link} - {host.name for host in office.hosts})
    return _page("diagram", office=office, outside=outside, links=links, node=_node)


def _node(label: str) -> str:
    return re.sub(r"\W", "_", label)


def _shown(office: Office) -> Iterator[Flow]:
    """Flows that a newcomer needs: mail, names and people, not upkeep, each protocol once."""
    inner = {zone.name for zone in office.zones.values() if zone.kind in ("servers", "management")}
    for flow in flows(office):
        if flow.why not in UPKEEP and flow.protocol == "tcp" and flow.source.label not in inner:
            yield flow


def flow_reference(office: Office) -> str:
    """Every permitted connection of the lab's office, as a table."""
    rows = dict.fromkeys(
        (flow.source.label, flow.destination.label, f"{flow.port}/{flow.protocol}", flow.zone, flow.why)
        for flow in flows(office)
    )
    return _page("flows", office=office, rows=rows)


# --- the reference of the office file ---------------------------------------------------------------------


def office_reference() -> str:
    """Every key of `office.toml`: type, default, example and meaning."""
    return _page("office", sections=_sections(Office, ""))


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, str, list[str]]]:
    nested: list[tuple[type[BaseModel], str]] = []
    rows = []
    for name, info in model.model_fields.items():
        if info.exclude:
            continue
        key = info.alias or name
        child = _table_of(info.annotation)
        if child is not None:
            nested.append((child, _header(path, key, info.annotation)))
        rows.append(_row(key, info))
    title = f"`{path}`" if path else "Top level"
    yield title, _first_paragraph(model), rows
    for child, header in nested:
        yield from _sections(child, header)


def _first_paragraph(model: type[BaseModel]) -> str:
    text = (model.__doc__ or "").strip().partition("\n\n")[0]
    return re.sub(r" \(`\[[^)]*\)", "", " ".join(text.split())).replace("``", "`")


def _row(key: str, info: FieldInfo) -> str:
    meaning = " ".join((info.description or "").split())
    examples = info.examples or ()
    example = f"`{_toml(examples[0])}`" if examples else ""
    cells = (f"`{key}`", _type(info.annotation, info.metadata), _default(info), example, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    if info.default is None or info.default in ((), "") or isinstance(info.default, BaseModel):
        return "–"
    if isinstance(info.default, ByteSize):
        return f"`{info.default.human_readable(separator='').replace('.0', '')}`"
    return f"`{_toml(info.default)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(entry) for entry in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(entry)}' for key, entry in value.items())} }}"
    return str(value)


def _header(path: str, key: str, annotation: Any) -> str:
    inner = path.strip("[]")
    dotted = f"{inner}.{key}" if inner else key
    if get_origin(annotation) is dict:
        return f"[{dotted}.NAME]"
    return f"[[{dotted}]]" if get_origin(annotation) is tuple else f"[{dotted}]"


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The model behind a field that is a table, tables or tables by name; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if annotation is TrustedAuthority else annotation
    return next((model for model in map(_table_of, get_args(annotation)) if model is not None), None)


_NAMED: dict[Any, str] = {str: "text", int: "integer", bool: "true or false", ByteSize: "size", date: "day"}
_CHECKED = {"_fqdn": "domain name", "_label": "host label", "_mail_address": "mail address"}


def _type(annotation: Any, metadata: list[Any]) -> str:
    for check in metadata:
        if isinstance(check, AfterValidator):
            return _CHECKED.get(_name_of(check.func), "text")
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _NAMED:
        return _NAMED[annotation] + _bounds(metadata)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        if IPv4Address in arguments:
            return "IP address"
        if IPv4Network in arguments:
            return "network"
        return _type(next(kind for kind in arguments if kind is not type(None)), metadata)
    if origin is tuple:
        return "list of file names" if TrustedAuthority in arguments else _list_of(arguments[0])
    if origin is dict:
        return "tables by name" if _table_of(annotation) else f"name → {_type(arguments[1], [])}"
    if hasattr(annotation, "__metadata__"):
        return _type(arguments[0], list(annotation.__metadata__))
    return "table"


def _list_of(annotation: Any) -> str:
    return "tables" if _table_of(annotation) else f"list: {_type(annotation, [])}"


def _bounds(metadata: list[Any]) -> str:
    low = next((bound.ge for bound in metadata if isinstance(bound, Ge)), None)
    high = next((bound.le for bound in metadata if isinstance(bound, Le)), None)
    if low is not None and high is not None:
        return f" {low}–{high}"
    return f" ≥ {low}" if low is not None else ""


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "")
