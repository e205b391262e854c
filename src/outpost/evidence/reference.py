"""Pages made from the model, so that they always agree with it: the reference of the office file, the flows.

Pure, except `pages`, which reads the checkout.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from outpost.evidence import opinions as others
from outpost.evidence.controls import FAMILIES, catalogue, measured
from outpost.office import Office, ports
from outpost.office.checks.schema import toml
from outpost.office.flows import flows
from outpost.office.load import parse
from outpost.office.tables.tls import TrustedAuthority
from outpost.target import INVENTORY, LAB, ROOT
from outpost.templates import environment, render

Schema = dict[str, Any]
OPINIONS = "<!-- outside opinions, by `./outpost judge --record` -->"
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
    ports.ACCOUNTS: "accounts", ports.SCANNER: "scanner", ports.LEARN_SPAM: "learning", ports.LEARN_HAM: "learning",
    ports.DNS: "DNS", ports.HTTP: "HTTP", ports.HTTPS: "HTTPS", ports.IMAPS: "IMAP", ports.LMTP: "LMTP",
    ports.MANAGESIEVE: "Sieve", ports.SUBMISSIONS: "submission", ports.SUBMISSION_RELAY: "submission",
}  # fmt: skip
"""Everything else in the diagram is SMTP, on any port."""


class Page(NamedTuple):
    """A file, or a marked part of it, and the content that it should have."""

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
    scanned = others.table(others.recorded())
    return (
        Page(docs / "reference" / "office.md", NOTE + office_reference()),
        Page(docs / "reference" / "flows.md", NOTE + flow_reference(office)),
        *(
            Page(docs / "reference" / f"{name}.md", of_catalogue(name))
            for name in ("faults", "controls", "attacks")
        ),
        *(Page(docs / f"{name}.md", of_catalogue(name)) for name in ("explanation", "appendices")),
        Page(docs / "reference" / "opinions.md", OPINIONS_NOTE + opinions()),
        Page(readme, replaced(readme.read_text(encoding="utf-8"), diagram(office))),
        Page(measurements, replaced(measurements.read_text(encoding="utf-8"), scanned, OPINIONS)),
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
    """The lab's office as its file declares it; what only a running instance knows is left out."""
    data = tomllib.loads((INVENTORY / LAB / "office.toml").read_text(encoding="utf-8"))
    data.get("tls", {}).pop("trusted_authorities", None)
    office, problems = parse(data)
    if office is None:
        raise ValueError(f"inventory/lab/office.toml: {problems[0]}")
    return office


def opinions() -> str:
    """The last results of other scanners, and why what they criticise stays."""
    judged = others.recorded()
    return f"# Outside opinions\n\n{others.table(judged)}\n{others.left(judged, others.reasons())}"


def replaced(text: str, content: str, marker: str = BEGIN) -> str:
    """The text with everything between the markers replaced."""
    before, begin, rest = text.partition(marker)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{content}{end}{after}" if begin and end else text


# --- the diagram ------------------------------------------------------------------------------------------


def diagram(office: Office) -> str:
    """The office as a Mermaid graph: who talks to whom, and why.

    It has what a newcomer needs: mail, names and people, each protocol once; no upkeep (SSH, time, packages).
    """
    inner = {zone.name for zone in office.zones.values() if zone.kind in ("servers", "management")}
    links: dict[tuple[str, str], dict[str, None]] = {}
    for flow in flows(office):
        if flow.why not in UPKEEP and flow.protocol == "tcp" and flow.source.label not in inner:
            labels = links.setdefault((flow.source.label, flow.destination.label), {})
            labels[f"{PROTOCOLS.get(flow.port, 'SMTP')} {flow.port}"] = None
    outside = sorted({end for link in links for end in link} - {host.name for host in office.hosts})
    return _page("diagram", office=office, outside=outside, links=links, node=partial(re.sub, r"\W", "_"))


def flow_reference(office: Office) -> str:
    """Every permitted connection of the lab's office, as a table."""
    rows = dict.fromkeys(
        (flow.source.label, flow.destination.label, f"{flow.port}/{flow.protocol}", flow.zone, flow.why)
        for flow in flows(office)
    )
    return _page("flows", office=office, rows=rows)


# --- the reference of the office file ---------------------------------------------------------------------


FORMATS = {"ipv4": "IP address", "ipv4network": "network", "date": "day", "": "text"}
"""pydantic's names for texts of a form; other forms are named in `outpost.office.tables.values`."""


def office_reference() -> str:
    """Every key of `office.toml`: type, default, example and meaning."""
    schema = Office.model_json_schema(mode="serialization")
    return _page("office", sections=_sections(schema, schema["$defs"]))


def _sections(
    table: Schema, tables: Schema, path: str = "", title: str = "Top level"
) -> Iterator[tuple[str, str, list[list[str]]]]:
    """Title, text and rows of a table, and of those below it."""
    below, rows = [], []
    for key, about in table["properties"].items():
        kind, form = _type(about)
        if kind in tables:
            name = f"{path}.{key}".removeprefix(".")
            header = {"tables": f"[[{name}]]", "tables by name": f"[{name}.NAME]"}.get(form, f"[{name}]")
            below.append((tables[kind], tables, header.strip("[]"), f"`{header}`"))
        example = f"`{toml(about['examples'][0])}`" if "examples" in about else ""
        meaning = " ".join(about.get("description", "").split())
        cells = (f"`{key}`", form, _default(about), example, meaning)
        rows.append([cell.replace("|", "\\|") for cell in cells])
    text = re.sub(r" \(`\[[^)]*\)", "", " ".join(table["description"].partition("\n\n")[0].split()))
    yield title, text.replace("``", "`"), rows
    for each in below:
        yield from _sections(*each)


def _type(about: Schema) -> tuple[str, str]:
    """The table that a value is or contains, and its allowed values, in words."""
    about = next(each for each in about.get("anyOf", [about]) if each.get("type") != "null")
    if "anyOf" in about:
        return _type(about)
    if "$ref" in about:
        return about["$ref"].rpartition("/")[2], "table"
    if values := about.get("enum"):
        return "", " or ".join(f"`{value}`" for value in values)
    match about["type"]:
        case "array":
            table, form = _type(about["items"])
            if table == TrustedAuthority.__name__:  # read from files that the list names
                return "", "list of file names"
            return table, "tables" if table else f"list: {form}"
        case "object":
            table, form = _type(about["additionalProperties"])
            return table, "tables by name" if table else f"name → {form}"
        case "boolean":
            return "", "true or false"
        case "string":
            form = str(about.get("format", ""))
            return "", FORMATS.get(form, form)
    low, high = about.get("minimum"), about.get("maximum")
    bounds = f" {low}–{high}" if high is not None else f" ≥ {low}" if low is not None else ""
    return "", about.get("format") or f"integer{bounds}"


def _default(about: Schema) -> str:
    if "default" not in about:
        return "required"
    empty = about["default"] in (None, "", []) or isinstance(about["default"], dict)
    return "–" if empty else f"`{toml(about['default'])}`"
