"""The observer's entry: ``look``, ``view``, ``remember`` and ``release``."""

import contextlib
import fcntl
import json
import os
import sys
import time

from outpost.onhost.observe import daemons, kept_by_daemons, kernel, network, permissions, processes, units
from outpost.onhost.observe.asking import LIVE, SURVEYED, Asked, Seen, answer_to
from outpost.onhost.observe.declared import CONTRACT, LOCAL, contract_of, records
from outpost.onhost.observe.kept_answers import Marking, kept, mark_with
from outpost.onhost.observe.reading import Probes, lines_of

FLEETING = ("stale\\t", "blind\\t", "effective\\t")
"""Facts that may change although no file is touched: a daemon restarts, a probe works again."""
LOCK = "/run/outpost/lock"
"""The lock of everything that changes the host (`outpost.converge.operations.alone`)."""
# SYS-08: without it a program that somebody put into /usr/local/bin answers in place of the system's own.
PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
PATIENCE = 300.0
"""Seconds to wait for the lock."""


def seen_now() -> Seen:
    """What the running host answers, and the mark of its files."""
    probes = Probes()
    lines = probes.lines
    contract = contract_of(CONTRACT)
    marking = Marking()
    there = {unit: command for unit, _, needed, command in daemons.LIVE if os.path.exists(needed)}
    asking = Asked(LIVE | there)
    declared_units, declared = records()
    running: processes.Processes | None = probes("processes", processes.Processes, otherwise=None)
    holders = running.holders if running else {}
    states = [
        *lines("modes", permissions.modes),
        *lines("kernel settings", kernel.settings_in_force, contract),
        *lines("databases", kept_by_daemons.triggers),
    ]
    faults = [
        *lines("kernel settings that are declared", kernel.kernel),
        *lines("kernel modules", kernel.modules, contract),
        *lines("binary formats", kernel.handlers, contract),
        *lines("host name", kernel.host_name, contract),
        *(running.faults if running else []),
        *lines("sockets of services", processes.opened_sockets, holders, contract.get("units", ())),
        *lines("exposed files", processes.exposed),
        *lines("frozen units", processes.frozen),
        *lines("profiles of AppArmor", processes.unconfined, contract, running.programs if running else {}),
        *lines("mounts of services", processes.mounted_within, running.views if running else {}),
        *lines("raw sockets", network.sniffers, holders),
        *lines("messages of units", units.hushed),
        *lines("shutdown", units.shutdown),
        *lines("attributes elsewhere", permissions.held_elsewhere, declared),
        *lines("mail queue", kept_by_daemons.on_hold),
        *lines("links among mail", kept_by_daemons.links_in_mail),
        *lines("rights in shared mailboxes", kept_by_daemons.granted),
        *lines("signing keys", kept_by_daemons.set_by_hand),
        *lines("trust anchors", kept_by_daemons.anchors),
    ]
    options = lines("unbound", daemons.unbound)
    answers = asking.answers()
    live = probes("answers of daemons", daemons.steady, answers, otherwise=answers) | {
        daemons.UNBOUND_ANSWERS[0]: options
    }
    no_sockets: list[network.Waiting] = []
    sockets = probes("sockets", network.waiting, live, holders, otherwise=no_sockets)
    states += lines("loopback", network.loopback, sockets)
    states += lines("running units", lambda: units.running_units(answer_to("units", live)))
    states += lines("environment", lambda: units.manager(answer_to("environment", live)))
    states += lines("network", network.network, live, holders)
    states += lines("capabilities elsewhere", lambda: permissions.capable_elsewhere(live["special"]))
    states += lines("traffic control", network.queues, live)
    states += lines("network policies", network.policies, live)
    faults += lines("listeners", network.listeners, contract, sockets)
    faults += lines(
        "processes in the background",
        lambda: processes.in_background(running.adopted if running else {}, answer_to("units", live)),
    )
    faults += lines("failed units", units.troubled_units, live.get("units", []))
    faults += lines("systemd's messages", lambda: units.muted(answer_to("messages", live)))
    faults += lines("functions", lambda: kept_by_daemons.functions(live["functions"]))
    faults += lines("paused daemons", lambda: daemons.paused(live.get("paused", [])))
    faults += lines("learned routes", network.learned, live)
    faults += probes.blind
    return Seen(*marking.marks(), states, faults, live, declared_units, declared)


def scan(seen: Seen) -> str:
    """How the host differs from its known state, in JSON; computed again only after a change."""

    def ask() -> list[str]:
        from outpost.onhost.observe.everything import everything
        from outpost.onhost.observe.known import compared

        return [json.dumps(compared(*everything(seen)))]

    (answer,) = kept(
        "look", seen.mark_of_all(), ask, lambda lines: not any(word in lines[0] for word in FLEETING)
    )
    return answer


def still() -> None:
    """Wait until everything has ended that a killed controller has left running: a scan in between would be outdated when it is used."""
    with contextlib.suppress(OSError):
        lock = os.open(LOCK, os.O_RDONLY)
        for _ in range(int(PATIENCE / 0.1)):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        os.close(lock)


def survey(seen: Seen, question: dict[str, list[str]], script: str) -> list[str]:
    """A scan, states of units, and the answers of a script that reads files alone.

    Args:
        question: ``units``, and the files ``beside`` (`mark_with`).
        script: Shell; a line ``unmet`` means that its answer may change though no file is touched.
    """
    listed = kept(
        "survey",
        mark_with(seen.mark, script, question["beside"]),
        lambda: lines_of(script),
        lambda lines: "unmet" not in lines,
    )
    return [scan(seen), *seen.states_of(question["units"]), "", *listed, SURVEYED]


def main() -> None:
    """Scan, remember, or unlock files that somebody has locked."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    os.environ["PATH"] = PROGRAMS
    verb, *words = sys.argv[1:] or ["look"]
    if verb == "release":
        permissions.release(words)
    elif verb == "mode":
        permissions.set_mode(*words)
    elif verb in ("seal", "is-sealed"):
        from outpost.onhost.observe.known import is_sealed, seal

        if verb == "seal":
            seal(words[0])
        elif not is_sealed(words[0]):
            sys.exit(1)
    elif verb == "view":
        still()
        question = json.loads(words[0])
        LOCAL.extend(question["local"])
        sys.stdout.write("".join(f"{line}\n" for line in survey(seen_now(), question, words[1])))
    elif verb == "remember":
        from outpost.onhost.observe.everything import everything
        from outpost.onhost.observe.known import remember

        LOCAL.extend(words)
        began = time.time()
        remember(*everything(seen_now()), began)
    elif verb == "look":
        LOCAL.extend(words)
        sys.stdout.write(f"{scan(seen_now())}\n")
    else:  # a controller of another version
        sys.exit(f"no such command: {verb}")
