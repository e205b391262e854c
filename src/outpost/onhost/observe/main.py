"""The observer's entry: ``look``, ``view``, ``remember`` and ``release``."""

import contextlib
import fcntl
import json
import os
import sys
import time

from outpost.onhost.observe.asking import LIVE, SURVEYED, Asked, Seen, answer_to
from outpost.onhost.observe.daemons import LIVE as OF_DAEMONS
from outpost.onhost.observe.daemons import UNBOUND_ANSWERS, paused, steady, unbound
from outpost.onhost.observe.declared import CONTRACT, LOCAL, records
from outpost.onhost.observe.kept_answers import Marking, kept, mark_with
from outpost.onhost.observe.kept_by_daemons import (
    anchors,
    functions,
    granted,
    links_in_mail,
    on_hold,
    set_by_hand,
    triggers,
)
from outpost.onhost.observe.kernel import handlers, host_name, kernel, modules, settings_in_force
from outpost.onhost.observe.network import (
    Waiting,
    learned,
    listeners,
    loopback,
    network,
    policies,
    queues,
    sniffers,
    waiting,
)
from outpost.onhost.observe.permissions import capable_elsewhere, held_elsewhere, modes, release, set_mode
from outpost.onhost.observe.processes import (
    Processes,
    exposed,
    frozen,
    in_background,
    mounted_within,
    opened_sockets,
    unconfined,
)
from outpost.onhost.observe.reading import Probes, content, lines_of
from outpost.onhost.observe.units import hushed, manager, muted, running_units, shutdown, troubled_units

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
    contract: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        contract = json.loads(content(CONTRACT))
    marking = Marking()
    there = {unit: command for unit, _, needed, command in OF_DAEMONS if os.path.exists(needed)}
    asking = Asked(LIVE | there)
    declared_units, declared = records()
    processes: Processes | None = probes("processes", Processes, otherwise=None)
    holders = processes.holders if processes else {}
    states = [
        *lines("modes", modes),
        *lines("kernel settings", settings_in_force, contract),
        *lines("databases", triggers),
    ]
    faults = [
        *lines("kernel settings that are declared", kernel),
        *lines("kernel modules", modules, contract),
        *lines("binary formats", handlers, contract),
        *lines("host name", host_name, contract),
        *(processes.faults if processes else []),
        *lines("sockets of services", opened_sockets, holders, contract.get("units", ())),
        *lines("exposed files", exposed),
        *lines("frozen units", frozen),
        *lines("profiles of AppArmor", unconfined, contract, processes.programs if processes else {}),
        *lines("mounts of services", mounted_within, processes.views if processes else {}),
        *lines("raw sockets", sniffers, holders),
        *lines("messages of units", hushed),
        *lines("shutdown", shutdown),
        *lines("attributes elsewhere", held_elsewhere, declared),
        *lines("mail queue", on_hold),
        *lines("links among mail", links_in_mail),
        *lines("rights in shared mailboxes", granted),
        *lines("signing keys", set_by_hand),
        *lines("trust anchors", anchors),
    ]
    options = lines("unbound", unbound)
    answers = asking.answers()
    live = probes("answers of daemons", steady, answers, otherwise=answers) | {UNBOUND_ANSWERS[0]: options}
    no_sockets: list[Waiting] = []
    sockets = probes("sockets", waiting, live, holders, otherwise=no_sockets)
    states += lines("loopback", loopback, sockets)
    states += lines("running units", lambda: running_units(answer_to("units", live)))
    states += lines("environment", lambda: manager(answer_to("environment", live)))
    states += lines("network", network, live, holders)
    states += lines("capabilities elsewhere", lambda: capable_elsewhere(live["special"]))
    states += lines("traffic control", queues, live)
    states += lines("network policies", policies, live)
    faults += lines("listeners", listeners, contract, sockets)
    faults += lines(
        "processes in the background",
        lambda: in_background(processes.adopted if processes else {}, answer_to("units", live)),
    )
    faults += lines("failed units", troubled_units, live.get("units", []))
    faults += lines("systemd's messages", lambda: muted(answer_to("messages", live)))
    faults += lines("functions", lambda: functions(live["functions"]))
    faults += lines("paused daemons", lambda: paused(live.get("paused", [])))
    faults += lines("learned routes", learned, live)
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
        release(words)
    elif verb == "mode":
        set_mode(*words)
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
