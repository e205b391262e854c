"""From ``office.toml`` to ``Office``: every problem is found before any is reported."""

import base64
import errno
import hmac
import stat
import tomllib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from pydantic import ValidationError

from outpost.office.checks import limits, peers, reach, recipients, topology
from outpost.office.checks.reach import awaits_certificate
from outpost.office.checks.rule import rules_of
from outpost.office.checks.schema import derived, misspelt, schema_problem, syntax_problem, without_secrets
from outpost.office.model import SCHEMA, Office
from outpost.office.problems import OfficeError, Problem

FILE_NAME = "office.toml"


def load(path: Path, *, uncertified: bool = False) -> Office:
    """The office that a file or its directory declares.

    Args:
        path: ``office.toml`` or its directory.
        uncertified: Provided certificates may be missing yet, as they are until their requests have been printed.
    """
    office, problems = _read(path)
    if uncertified:
        problems = [problem for problem in problems if not awaits_certificate(problem)]
    if problems or office is None:
        raise OfficeError(problems)
    return office


def check(path: Path) -> tuple[Problem, ...]:
    """Everything wrong with an office file; empty if it can be used."""
    return tuple(_read(path)[1])


def parse(data: dict[str, Any]) -> tuple[Office | None, list[Problem]]:
    """The office from TOML data, as far as it can be built, and every problem in the data.

    Tables that do not fit the schema are reported and left out, so that the rules that span tables still see
    the rest of the file.
    """
    if type(given := data.get("schema")) is int and given > SCHEMA:  # the rest cannot be checked
        message = f"newer than this Outpost knows ({SCHEMA})"
        return None, [Problem("schema", str(given), message, "upgrade Outpost on this controller")]
    data, problems = without_secrets(data)
    _name(data)
    pruned = {problem.field for problem in problems if problem.field in PLACEHOLDERS}
    gone: list[tuple[int | str, ...]] = []
    data |= {field: PLACEHOLDERS[field] for field in pruned}
    office: Office | None = None
    # each round removes at least one wrong entry; the limit is for an entry that cannot be removed
    for _ in range(200):
        try:
            office = Office.model_validate(data)
            break
        except ValidationError as error:
            removed = False
            for detail in error.errors():
                location = detail["loc"]
                problem = schema_problem(detail)
                if not derived(location, detail["type"], pruned, gone) and problem not in problems:
                    problems.append(problem)
                if _prune(data, location, detail["type"], pruned):
                    removed = True
                    gone.append(location)
            _close_gaps(data)
            if not removed:
                break
    meant = misspelt(problems)
    if office is not None:
        known = pruned | {field.partition(".")[0] for field in meant if field.count(".") < 2}
        problems += [problem for problem in cross_checks(office, known) if problem not in problems]
    return office, [p for p in problems if not (p.field in meant and p.remedy.startswith("add "))]


def _read(path: Path) -> tuple[Office | None, list[Problem]]:
    file = path / FILE_NAME if path.is_dir() else path
    text, wrong = "", partial(Problem, str(file))
    try:
        text = _text(file)
        data = tomllib.loads(text)
    except FileNotFoundError:
        return None, [wrong("", "there is no such file", "name an office directory below inventory/")]
    except OSError as error:
        remedy = "make it readable" if isinstance(error, PermissionError) else "put a text file there"
        return None, [wrong("", f"cannot be read ({error.strerror})", remedy)]
    except UnicodeDecodeError as error:
        return None, [wrong(f"byte {error.start}", "not UTF-8", "save the file as UTF-8")]
    except (ValueError, RecursionError) as error:
        return None, [syntax_problem(file, text, error)]
    problems = _read_authorities(data, file.parent)
    _read_host_keys(data, file.parent)
    _read_provided(data, file.parent)
    office, more = parse(data)
    return office, problems + more


def _read_authorities(data: dict[str, Any], directory: Path) -> list[Problem]:
    """Replace file names in ``tls.trusted_authorities`` by their content."""
    tls = data.get("tls")
    names = tls.get("trusted_authorities") if isinstance(tls, dict) else None
    if not isinstance(tls, dict) or not isinstance(names, list):
        return []
    problems: list[Problem] = []
    authorities = []
    for index, name in enumerate(names):
        wrong = partial(Problem, f"tls.trusted_authorities[{index}]", name)
        if not isinstance(name, str) or "/" in name or name in ("", ".", ".."):
            message = "not the name of a file beside office.toml"
            problems.append(replace(wrong(message, "give a plain file name"), value=repr(name)))
        elif (pem := _beside(directory / name)) is None:
            problems.append(wrong("no such PEM file beside office.toml", f"put it at {directory / name}"))
        elif not _certificates(pem):
            problems.append(wrong("holds no certificate", "give a PEM file of CERTIFICATE blocks"))
        else:
            authorities.append({"name": name, "pem": pem})
    tls["trusted_authorities"] = authorities
    return problems


MOST = 16 * 1024**2
"""Bytes of an office file, and of a file beside it."""


def _text(file: Path) -> str:
    """The text of a file, and of nothing that may never end (a FIFO, /dev/zero)."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a file of text")
    if status.st_size > MOST:
        raise OSError(errno.EFBIG, f"more than {MOST // 1024**2} MiB")
    return file.read_text(encoding="utf-8")


def _beside(file: Path) -> str | None:
    """The text of a file that may be missing beside the office file."""
    try:
        return _text(file)
    except (OSError, UnicodeDecodeError):
        return None


def _read_provided(data: dict[str, Any], directory: Path) -> None:
    """Certificates from an authority that was asked by hand: ``HOST.pem``; the rules require them where they are used."""
    tls, hosts = data.setdefault("tls", {}), data.get("hosts")
    if not isinstance(tls, dict) or not isinstance(hosts, dict) or "provided" in tls:
        return
    pems = {name: _beside(directory / f"{name}.pem") or "" for name in hosts}
    if found := [{"host": name, "pem": pem} for name, pem in pems.items() if _certificates(pem)]:
        tls["provided"] = found


def _certificates(pem: str) -> list[x509.Certificate]:
    """The certificates of a PEM file; none if one of them cannot be read."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return []


def _read_host_keys(data: dict[str, Any], directory: Path) -> None:
    """Host keys from ``known_hosts``, by host name; empty without that file."""
    ssh, hosts = data.setdefault("ssh", {}), data.get("hosts")
    if not isinstance(ssh, dict) or not isinstance(hosts, dict) or "host_keys" in ssh:
        return
    if (known_hosts := _beside(directory / "known_hosts")) is None:
        return
    found: dict[str, list[str]] = {}
    for name, host in hosts.items():
        addresses = host.get("addresses") if isinstance(host, dict) else None
        known = {name, f"{name}.{data.get('domain', '')}"}
        if isinstance(addresses, dict):
            known |= {str(one) for group in addresses.values() if isinstance(group, list) for one in group}
        keys = [key for line in known_hosts.splitlines() if (key := _host_key(line, known))]
        if keys:
            found[name] = list(dict.fromkeys(keys))
    ssh["host_keys"] = found


def _host_key(line: str, names: set[str]) -> str | None:
    """`TYPE KEY` of a known_hosts line (sshd(8)) that is about one of the names, else None."""
    fields = line.split()
    if len(fields) < 3 or line.startswith(("#", "@")):
        return None
    if fields[0].startswith("|1|"):
        mine = False
        with suppress(ValueError):  # a line that is cut off, or not base64
            _, _, salt, digest = fields[0].split("|")
            hashed = (hmac.digest(base64.b64decode(salt), name.encode(), "sha1") for name in names)
            mine = any(hmac.compare_digest(base64.b64decode(digest), value) for value in hashed)
    else:
        mine = bool(names & {pattern.strip("[]").partition("]:")[0] for pattern in fields[0].split(",")})
    return f"{fields[1]} {fields[2]}" if mine else None


def _name(data: dict[str, Any]) -> None:
    """Give each zone and host the name of its table, and hosts their domain."""
    domain = data["domain"] if isinstance(data.get("domain"), str) else PLACEHOLDERS["domain"]
    for table, more in (("zones", {}), ("hosts", {"domain": domain})):
        entries = data.get(table)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict):
                entry |= {"name": name, **more}


PLACEHOLDERS = {
    "name": "placeholder",
    "organisation": "placeholder",
    "domain": "placeholder.example",
    "postmaster": "placeholder@placeholder.example",
}
"""Substitutes for a required value that is missing or wrong, so that the rest of the file is still checked."""


def _prune(data: dict[str, Any], location: tuple[int | str, ...], kind: str, pruned: set[str]) -> bool:
    """Remove the wrong entry from the data; returns whether anything changed."""
    top = str(location[0])
    if len(location) == 1 and top in PLACEHOLDERS and top not in pruned:
        pruned.add(top)
        data[top] = PLACEHOLDERS[top]
        return True
    keep = len(location) if kind == "extra_forbidden" else min(2, len(location))
    *parents, last = location[:keep]
    node: Any = data
    for step in parents:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False
    if kind != "extra_forbidden":
        pruned.add(top)
    if isinstance(node, dict) and last in node:
        del node[last]
        return True
    if isinstance(node, list) and isinstance(last, int) and last < len(node):
        node[last] = None  # a gap, so that the indexes of later errors stay valid
        return True
    if len(parents) == 1 and top in data:  # a table that lacks a required key
        del data[top]
        return True
    return False


def _close_gaps(data: dict[str, Any]) -> None:
    for key, value in data.items():
        if isinstance(value, list):
            data[key] = [entry for entry in value if entry is not None]


RULES = tuple(rule for module in (topology, recipients, peers, limits, reach) for rule in rules_of(module))


def cross_checks(office: Office, pruned: set[str]) -> list[Problem]:
    """Findings of every rule; a rule is skipped if tables that it needs were left out because of other mistakes."""
    return _together(
        [problem for rule, needs in RULES if not needs & pruned for problem in rule(office)],
        [host.name for host in office.hosts],
    )


def _together(problems: list[Problem], hosts: list[str]) -> list[Problem]:
    """Merge findings that one line of the file causes on several hosts into one that names all of them."""
    found: dict[tuple[str, ...], tuple[Problem, list[str]]] = {}
    for problem in problems:
        host, _, rest = problem.message.partition(" ")
        named = host in hosts
        key = (problem.field, problem.value, rest if named else problem.message)
        found.setdefault(key, (problem, []))[1].extend([host] if named else [])
    return [
        replace(
            problem,
            message=f"{', '.join(names)}: {problem.message.partition(' ')[2]}",
            remedy=problem.remedy.replace(f"that {names[0]} reaches", "that they reach"),
        )
        if len(names) > 1
        else problem
        for problem, names in found.values()
    ]
