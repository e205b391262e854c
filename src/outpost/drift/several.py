"""Kinds of differences that may become several findings: files, units, accounts, members of groups, the network."""

import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from outpost.drift import network_repairs, repairs
from outpost.drift.differences import Difference, Finding, changed, directory, lines, only_came
from outpost.drift.repairs import ASIDE, COPIES
from outpost.onhost.observe import OBSERVER
from outpost.onhost.observe.facts import account_of
from outpost.onhost.observe.places import CHROOT, DEVICE

MEANINGS: dict[str, str] = tomllib.loads(Path(__file__).with_name("places.toml").read_text(encoding="utf-8"))


def _file(it: Difference) -> Iterator[Finding]:
    thing, new, old, quoted = it.thing, it.new, it.old, it.quoted
    copied = thing.startswith(f"{CHROOT}/")  # not the host's local files, which are compared separately
    copy = shlex.quote(thing.removeprefix(CHROOT) if copied else f"{COPIES}{thing}")
    reload = repairs.reload_for(thing)
    free = f"{OBSERVER} release {quoted}; "
    if old and old[0].startswith("link to "):
        yield Finding(
            "file", it.thing, "its target was changed by hand" if new else "removed by hand", "its name leads to another program or file",
            ("SYS-08",), f"{free}{repairs.linked(thing, old[0].removeprefix('link to '))}{reload}", lines(it), it.facts,
        )  # fmt: skip
    elif old:
        yield Finding(
            "file", it.thing, "edited by hand" if new else "removed by hand", "it belongs to the system, and daemons or administrators depend on it",
            ("SYS-08",), f'{free}[ ! -e {copy} ] || {{ mkdir -p {directory(thing)}; rm -rf {quoted}.outpost-new; cp --archive --dereference --remove-destination -T {copy} {quoted}.outpost-new && mv -fT {quoted}.outpost-new {quoted}; }}{reload}', facts=it.facts,
        )  # fmt: skip
    elif DEVICE in new:
        yield Finding(
            "file", it.thing, "a device put there by hand; devices belong in /dev",
            "every account that may open it can read and write the whole device, past all permissions of files", ("SYS-08",), f"rm -f {quoted}", facts=it.facts,
        )  # fmt: skip
    else:
        yield Finding(
            "file", it.thing, "put there by hand; neither a role nor a package has it",
            next((words for top, words in MEANINGS.items() if thing.startswith(top)), "a daemon may read it beside the office's files"), ("SYS-08",),
            f"{free}{repairs.stop_first(thing)}mkdir -p -m 0700 {ASIDE} && mkdir -p {ASIDE}{directory(thing)} && mv -f --backup=numbered {quoted} {ASIDE}{quoted} && {repairs.powerless(quoted)}{reload}", facts=it.facts,
        )  # fmt: skip


def _unit(it: Difference) -> Iterator[Finding]:
    new, old, quoted = it.new, it.old, it.quoted
    links = [value.removeprefix("link to ") for value in old if value.startswith("link to ")]
    linked = ""
    if links:
        linked = f"ln -sfnT {shlex.quote(links[0])} /etc/systemd/system/{quoted}; systemctl daemon-reload"
    if "masked" in new:
        yield Finding(
            "unit", it.thing, "masked by hand", "it cannot start, not even at the next boot", ("AVL-01",),
            f"systemctl unmask --quiet {quoted}; systemctl unmask --quiet --runtime {quoted}; "
            f"{linked or ':'}; systemctl is-enabled --quiet {quoted} && systemctl start {quoted} || true", facts=it.facts,
        )  # fmt: skip
    elif links or any(value.startswith("link to ") for value in new):
        away = f"systemctl disable --now --quiet {quoted} 2>/dev/null || true; rm -f /etc/systemd/system/{quoted} /run/systemd/system/{quoted}"
        yield Finding(
            "unit", it.thing, "its link was changed by hand" if new else "its alias was removed by hand", "that name starts another unit, or none",
            ("SYS-08",), "; ".join(filter(None, (away if new and not links else "", linked or "systemctl daemon-reload"))), lines(it), it.facts,
        )  # fmt: skip
    elif new and not old:
        yield Finding(
            "unit", it.thing, "enabled by hand; no role declares it", "it starts with the host, and nobody maintains it", ("SYS-04",),
            f"systemctl disable --now --quiet {quoted} 2>/dev/null || {{ systemctl stop {quoted} 2>/dev/null || true; "
            f"rm -f /etc/systemd/system/*.wants/{quoted} /run/systemd/system/*.wants/{quoted}; }}", facts=it.facts,
        )  # fmt: skip
    elif "masked" in old:
        yield Finding(
            "unit", it.thing, "no longer masked", "it can be started again", ("SYS-04",),
            f"systemctl mask --now --quiet {quoted}", facts=it.facts,
        )  # fmt: skip
    elif old:
        yield Finding(
            "unit", it.thing, "disabled by hand", "it does not start with the host", ("AVL-01",),
            f"systemctl reenable --quiet {quoted}", facts=it.facts,
        )  # fmt: skip


def _account(it: Difference) -> Iterator[Finding]:
    thing, new, old, quoted = it.thing, it.new, it.old, it.quoted
    if new and not old:
        uid, _, _, shell, state = account_of(new[0])
        shut = state == "locked" and shell.endswith(("nologin", "false"))
        if shut and uid != "0":
            return  # nobody can log in to a locked account; the repair locks it, too
        drop = f"sed -i -E {shlex.quote(f'/^{repairs.in_pattern(thing)}:/d')} /etc/passwd /etc/shadow"
        lock = f"usermod --lock --expiredate 1 --shell /usr/sbin/nologin {quoted}; loginctl terminate-user {quoted} 2>/dev/null || true"
        yield Finding(
            "account", it.thing, f"added by hand (uid {uid}, {shell}, {state})",
            "somebody who is not in the office file can log in" if uid != "0" else "a second root", ("SYS-09", "SUDO-01"),
            drop if uid == "0" else lock, facts=it.facts,
        )  # fmt: skip
    elif old and new and old[0].removesuffix(":password") == new[0].removesuffix(":locked"):
        return  # its password was locked: nothing has to be undone
    elif old:
        uid, gid, home, shell, state = account_of(old[0])
        options = f"--uid {shlex.quote(uid)} --gid {shlex.quote(gid)} --home-dir {shlex.quote(home)} --shell {shlex.quote(shell)}"
        repair = f"useradd --no-create-home --non-unique --system {options} {quoted}"
        if new:
            repair = f"usermod --non-unique {options.replace('--home-dir', '--home')} {quoted}"
        if uid == "0" and new:
            name = repairs.in_pattern(thing)
            gid, home, shell = map(repairs.in_replacement, (gid, home, shell))
            script = rf"s/^({name}:[^:]*):[^:]*:[^:]*:([^:]*):.*/\1:0:{gid}:\2:{home}:{shell}/"
            repair = f"sed -i -E {shlex.quote(script)} /etc/passwd"
        if new and state == "locked" and new[0].endswith(":password"):
            repair = f"{repair}; passwd --quiet --lock {quoted}"
            if new[0].rpartition(":")[0] == old[0].rpartition(":")[0]:
                repair = f"passwd --quiet --lock {quoted}"
        yield Finding(
            "account", it.thing, "changed by hand" if new else "removed by hand",
            "somebody may log in who should not" if new else "its daemon cannot start, and its files belong to nobody",
            ("SYS-09",), repair, lines(it), it.facts,
        )  # fmt: skip


def _members(it: Difference) -> Iterator[Finding]:
    thing, new, old = it.thing, it.new, it.old
    for names, cause, consequence, option in (
        (new, "added by hand", "the account has the rights of the group", "--delete"),
        (old, "removed by hand", "its daemon cannot read what it needs", "--add"),
    ):
        for name in names:
            yield Finding(
                "group", f"{thing}: {name}", cause, consequence, ("SYS-09",),
                f"! getent group {shlex.quote(thing)} >/dev/null || gpasswd {option} {shlex.quote(name)} {shlex.quote(thing)} >/dev/null 2>&1 || true",
                facts=frozenset((f"member\t{thing}\t{name}",)),
            )  # fmt: skip


def _special(it: Difference) -> Iterator[Finding]:
    """Setuid bits, capabilities and owners of files."""
    new, old, quoted = it.new, it.old, it.quoted
    mode, owner, group = (old or new)[0].split(" ")
    calm = (
        f"chown -h {shlex.quote(f'{owner}:{group}')} {quoted} && chmod -h {shlex.quote(mode)} {quoted}"
        if old
        else repairs.usual(it.thing, mode)
    )
    cause, consequence = "its mode was changed by hand, or it is gone", "programs that need it do not work"
    if new:
        now, whose, _ = new[0].split(" ")
        cause = f"mode and owner set to {new[0]} by hand"
        consequence = (
            "every account that may start it gets its owner's rights"
            if int(now, 8) & 0o6000
            else "other accounts than root may write it"
            if int(now, 8) & 0o0022 or whose != "root"
            else "programs that need it can neither read nor start it"
        )
    repair = f"! [ -e {quoted} ] || {{ {calm}; }}"
    yield Finding("file", it.thing, cause, consequence, ("SYS-09",), repair, lines(it), it.facts)


def _network(it: Difference) -> Iterator[Finding]:
    """Interfaces, addresses and routes that came or went by hand; nothing if interfaces were renamed since a boot."""
    if changed(it) and it.kind in ("address", "route"):
        return
    cause = "changed by hand" if changed(it) else "added by hand" if it.new else "removed by hand"
    undeclared = "traffic takes a path that no flow declares"
    consequence = undeclared if only_came(it) else "what the office sends does not arrive"
    kind, repair = f"network {it.kind}", network_repairs.network_repair(it)
    yield Finding(kind, it.thing, cause, consequence, ("NET-02",), repair, lines(it), it.facts)


SEVERAL: dict[str, Callable[[Difference], Iterator[Finding]]] = {
    "file": _file, "unit": _unit, "account": _account, "member": _members, "special": _special,
    **dict.fromkeys(("link", "address", "route", "rule", "neighbour", "namespace"), _network),
}  # fmt: skip
"""Kinds whose finding needs more than a line."""
