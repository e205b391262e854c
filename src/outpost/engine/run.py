"""Plan and apply: pyinfra itself, as a user would start it, with its output turned into progress.

The command that runs is shown in the plain log, so the raw `pyinfra inventory/lab/docker.py deploy.py`
and `./outpost apply lab` cannot differ. pyinfra writes events to standard error, one line each,
and the result as JSON to standard output.
"""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from outpost.engine import unchanged
from outpost.engine.follower import Follower, HostState
from outpost.errors import OutpostError, of_hosts
from outpost.onhost.observe import OBSERVER
from outpost.target import ROOT, Target

LONGEST = 64 * 1024
"""Most bytes of a line of pyinfra's log; a host controls its content."""


class Change(NamedTuple):
    """An operation that would change, or has changed, a host."""

    host: str
    operation: str
    conditional: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result of a run of pyinfra.

    Attributes:
        hosts: Every host that was reached or should have been.
        changes: What would change (plan) or did change (apply).
        failed: Host → why.
        diff: Differences as pyinfra shows them; secrets are never among them.
        findings: Each difference with its cause and consequence (`outpost.drift.differences.Finding.as_data`).
    """

    hosts: tuple[str, ...]
    changes: tuple[Change, ...]
    failed: dict[str, str]
    diff: tuple[str, ...]
    seconds: float
    findings: tuple[dict[str, Any], ...] = ()

    @property
    def new_hosts(self) -> frozenset[str]:
        """Hosts without an apply so far: they have no observer."""
        return frozenset(
            each["host"]
            for each in self.findings
            if each["thing"] == OBSERVER and each["cause"] == "declared, not on the host yet"
        )

    def expect_success(self, then: str, what: str = "the apply failed on") -> "Outcome":
        """Return itself if no host failed; raise otherwise, with what to do after the remedy."""
        if self.failed:
            raise of_hosts(self.failed, what=what, then=then)
        return self

    def as_data(self, target: Target) -> dict[str, Any]:
        return {
            "office": target.name,
            "instance": target.instance,
            "clean": not self.changes and not self.failed,
            "hosts": {
                host: {
                    "changes": [
                        {"operation": change.operation, "conditional": change.conditional}
                        for change in self.changes
                        if change.host == host
                    ],
                    "findings": [finding for finding in self.findings if finding["host"] == host],
                    "failed": self.failed.get(host),
                }
                for host in self.hosts
            },
            "diff": list(self.diff),
            "seconds": round(self.seconds, 1),
        }


class Watcher:
    """Shows a run's progress; this one shows none."""

    def start(self, what: str, follower: Follower) -> None: ...
    def tick(self) -> None: ...
    def stop(self) -> None: ...


Silent = Watcher


def plan(
    target: Target, *, limit: tuple[str, ...] = (), connector: str | None = None, watcher: Watcher
) -> Outcome:
    """What an apply would change on some hosts, or on all if none is named; nothing is changed."""
    with tempfile.TemporaryDirectory(prefix="outpost-plan-") as directory:
        noted, surveyed = Path(directory) / "findings", Path(directory) / "surveys"
        written = {"OUTPOST_FINDINGS": str(noted), "OUTPOST_SURVEYS": str(surveyed)}
        outcome = _pyinfra(target, ["--dry", "--diff"], limit, connector, watcher, written)
        outcome = replace(outcome, findings=tuple(_values(noted)))
        _remember(target, connector, outcome, _values(surveyed))
    return outcome


def _values(file: Path) -> list[Any]:
    """Values that the deploy wrote to the file: one line of JSON each."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def _remember(target: Target, connector: str | None, outcome: Outcome, surveys: list[list[str]]) -> None:
    if outcome.changes or outcome.failed or outcome.findings:
        unchanged.forget(target, connector)
        return
    from outpost.office import load  # the model takes longer to load than everything else here
    from outpost.transport.remote import shell_command

    office = load(target.data)
    known: dict[str, unchanged.Survey | None] = {}
    for host in office.hosts:
        if host.name in outcome.hosts:
            shell = shell_command(target, office, host, connector)
            found = [rest for name, *rest in surveys if name == host.name]
            once = len(found) == 1  # surveyed again: then its plan was another
            known[host.name] = unchanged.Survey(host.name, host.role, shell, *found[0]) if once else None
    unchanged.remember(target, connector, known, len(office.hosts))


def apply(
    target: Target, *, limit: tuple[str, ...] = (), connector: str | None = None, watcher: Watcher
) -> Outcome:
    """Make the hosts what the office declares; meanwhile no other controller can change them (`outpost.engine.claim`).

    Args:
        limit: Names of hosts; empty means all.

    Raises:
        OutpostError: Another controller changes one of them, or a later version has. Nothing was changed.
    """
    from outpost.engine.claim import changing, mine

    with (
        changing(target, limit, connector) as claim,
        tempfile.TemporaryDirectory(prefix="outpost-apply-") as directory,
    ):
        noted = Path(directory) / "findings"
        claim.own, claim.text = mine(target, claim.own.by), target.office_file.read_bytes()
        outcome = _pyinfra(
            target, ["-y"], claim.reached(limit), connector, watcher, {"OUTPOST_FINDINGS": str(noted)}, keeps=claim.streams
        )  # fmt: skip
        outcome.failed.update(claim.unreached)
        found = _values(noted)
        claim.converged.update(set(outcome.hosts) - set(outcome.failed))
        claim.converged.difference_update(outcome.failed)
    return replace(outcome, findings=tuple(found))


def command(target: Target, options: list[str], limit: tuple[str, ...], connector: str | None) -> list[str]:
    """The pyinfra command, as typed at the top of the checkout."""
    inventory = target.inventory(connector)
    path = str(inventory.relative_to(ROOT) if inventory.is_relative_to(ROOT) else inventory)
    prefix = _prefix(target, inventory)
    limits = [argument for host in limit for argument in ("--limit", f"{prefix}{host}")]
    return ["pyinfra", path, "deploy.py", *options, *limits]


def _prefix(target: Target, inventory: Path) -> str:
    """The prefix that pyinfra's names of hosts have."""
    return f"@container/outpost-{target.instance}-" if inventory.stem == "docker" else ""


def _pyinfra(
    target: Target,
    options: list[str],
    limit: tuple[str, ...],
    connector: str | None,
    watcher: Watcher,
    environment: dict[str, str],
    keeps: tuple[int, ...] = (),
) -> Outcome:
    return pyinfra(
        command(target, options, limit, connector),
        watcher,
        f"OUTPOST_DEBUG=1 ./outpost plan {target.typed} shows pyinfra's full output",
        environment=target.environment | environment,
        prefix=_prefix(target, target.inventory(connector)),
        keeps=keeps,
    )


def pyinfra(
    arguments: list[str],
    watcher: Watcher,
    remedy: str,
    *,
    environment: Mapping[str, str],
    prefix: str = "",
    keeps: tuple[int, ...] = (),
) -> Outcome:
    """Run pyinfra at the top of the checkout.

    Args:
        remedy: What to do if it stopped and gave no remedy itself.
        prefix: The prefix of its host names, removed from everything shown.
        keeps: Open files that it inherits.
    """
    started = time.monotonic()
    follower = Follower(prefix)
    with tempfile.TemporaryFile() as result:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments, "--json"],
            cwd=ROOT,
            env={**environment, "PYINFRA_PROGRESS": "off"},
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=subprocess.PIPE,
            pass_fds=keeps,
        )
        assert process.stderr is not None
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(process.stderr, lines), daemon=True).start()
        watcher.start(" ".join(arguments), follower)
        try:
            for line in _until_end(lines):
                if line:
                    follower.feed(line)
                watcher.tick()
            returncode = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
            watcher.stop()
        result.seek(0)
        output = result.read()
    if os.environ.get("OUTPOST_DEBUG"):
        sys.stderr.write("\n".join(follower.log) + "\n")
    return _outcome(output, follower, returncode, time.monotonic() - started, remedy)


def _pump(pipe: IO[bytes], lines: queue.Queue[str | None]) -> None:
    whole = True
    while line := pipe.readline(LONGEST):  # only a line feed ends a line
        if whole:  # the rest of an overlong line would count as another line, which might begin with another host's name
            lines.put(line.decode(errors="replace"))
        whole = line.endswith(b"\n")
    lines.put(None)


def _until_end(lines: queue.Queue[str | None]) -> Iterator[str]:
    """Lines as they arrive, and an empty one five times a second so that clocks keep running."""
    line: str | None = ""
    while line is not None:
        yield line
        line = ""
        with suppress(queue.Empty):
            line = lines.get(timeout=0.2)


def _outcome(output: bytes, follower: Follower, returncode: int, seconds: float, remedy: str) -> Outcome:
    try:
        result = json.loads(output)
    except ValueError:
        how = "was interrupted" if output.startswith(b"Exiting upon user request") else ""
        raise _stopped(follower, returncode, remedy, how) from None
    failed = {name: _last(host) for name, host in follower.hosts.items() if host.failed}
    if result["results"] is None:
        changes = [
            Change(follower.short(host), operation["name"], conditional)
            for operation in result["plan"]
            for key, conditional in (("hosts_with_change", False), ("hosts_with_conditional_change", True))
            for host in operation[key]
        ]
    else:
        changes = [
            Change(follower.short(host), operation["name"])
            for operation in result["results"]["operations"]
            for host in operation["success"]
        ]
        for host in result["results"]["failed_hosts"]:
            failed.setdefault(follower.short(host), _ended(follower.hosts[follower.short(host)]))
    if returncode and not failed:
        raise _stopped(follower, returncode, remedy)
    failed = {host: _explained(why) for host, why in failed.items()}
    return Outcome(
        hosts=tuple(sorted({*follower.hosts, *(change.host for change in changes), *failed})),
        changes=tuple(changes),
        failed=failed,
        diff=tuple(follower.details),
        seconds=seconds,
    )


def _stopped(follower: Follower, returncode: int, otherwise: str, how: str = "") -> OutpostError:
    """Why pyinfra stopped, with the remedy in the reason if there is one."""
    if returncode < 0:  # subprocess: the negative number of the signal
        how = f"was ended by {signal.Signals(-returncode).name}"
    failed = {name: _last(host) for name, host in follower.hosts.items() if host.failed}
    if failed and not how:
        return of_hosts(failed, otherwise)
    why = "" if how else _exception(follower)
    ours = r"^outpost\.(errors\.Outpost|templates\.TemplateMistake)Error: "
    message, _, remedy = re.sub(ours, "", why).partition(". Remedy: ")
    if remedy:
        return OutpostError(message, remedy.removesuffix("."))
    ended = {name: _ended(host) for name, host in follower.hosts.items() if host.troubled}
    if "No hosts remaining" in why and ended:
        return of_hosts(ended, otherwise)
    if message:
        return OutpostError(f"pyinfra stopped: {message}", otherwise)
    how = how or f"stopped with exit code {returncode}"
    return OutpostError(f"pyinfra {how}{_during(follower)}", otherwise)


def _during(follower: Follower) -> str:
    """The operation during which pyinfra stopped without a reason, and the hosts that had not finished it."""
    if not follower.executing:
        return "" if follower.stage == "starting" else f" at the stage {follower.stage}"
    busy = [
        f"{name} had not finished it"
        + (f", and printed last: {json.dumps(host.last, ensure_ascii=False)}" if host.last else "")
        for name, host in sorted(follower.hosts.items())
        if host.doing == follower.operation
    ]
    return "; ".join([f" during the operation {follower.operation}", *busy])


def _last(host: HostState) -> str:
    undone = [line for line in host.lines if line.startswith(("not done: ", "not repaired: "))]
    if undone:  # one apply's problems, each with its remedy (`outpost.converge.drift`)
        return "\n".join(undone)
    return f"{host.failed}: {host.last}" if host.last and host.last != host.failed else host.failed


def _explained(why: str) -> str:
    """The reason, with a remedy of ours if the connection, the disk or a package of the host was the reason."""
    from outpost.transport.remote import UNCONFIGURED, UNFINISHED, failure

    operation, _, printed = why.partition(": ")
    known = failure("", printed)
    if known:
        return f"{operation}{known.message}. Remedy: {known.remedy}"
    return f"{why.removesuffix(':')}. Remedy: {UNFINISHED}" if printed.startswith(UNCONFIGURED) else why


def _ended(host: HostState) -> str:
    """The operation that ended a host's run, and what the host printed then or what that means."""
    return _explained(f"{host.troubled}: {host.output}".strip(": ") or "its run ended without a reason")


def _exception(follower: Follower) -> str:
    """The line of the log that names an exception or an error, else the last one before any operation began."""
    lines = [
        line.strip() for line in follower.log if line.strip() and not line.startswith("--> Disconnecting")
    ]
    for line in reversed(lines):
        if re.match(r"^[A-Za-z_.]+(Error|Exception): ", line):
            places = [match for each in lines if (match := re.match(r'File "([^"]+)", line (\d+)', each))]
            return (
                f"{line} ({places[-1][1]}, line {places[-1][2]})"
                if "SyntaxError" in line and places
                else line
            )
    for line in reversed(lines):
        if "rror" in line:
            return line.removeprefix("--> ")
    return "" if follower.executing or not lines or lines[-1].startswith("--> ") else lines[-1]
