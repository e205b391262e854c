"""What a role declares about a host: each shape makes an item of its declaration. Calling one changes nothing.

Every change has one order: render, check, install, activate, remember. Two promises hold. A file is installed only after the daemon's
own checker has accepted it. A daemon that has not loaded its files yet is restarted by the next run, also after an interruption.
"""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, Literal

from outpost.converge.declaration import Account, Change, Directory, Group, Once, Packages
from outpost.converge.files import LIB, File, as_json, parses, program, rendered
from outpost.drift.differences import Finding
from outpost.units import restarted


def service(
    *,
    name: str,
    unit: str = "",
    files: Sequence[File] = (),
    watches: Sequence[File] = (),
    check: str | None = None,
    on_change: Literal["restart", "reload"] = "restart",
    guarded: bool = False,
) -> Change:
    """A daemon and its files: checked, installed, enabled, running, and restarted when its loaded files differ.

    Args:
        name: The daemon's usual name; also the name of its record on the host.
        unit: Its systemd unit, if that has another name than the daemon.
        files: Its configuration.
        watches: Files that another shape installs and this daemon loads (certificates).
        check: Command that accepts or refuses the future configuration.
        on_change: ``reload`` for daemons that lose nothing by it and pick up everything.
        guarded: It stands between the controller and the host: the host undoes a change by itself unless a new
            connection confirms it (`outpost.converge.guard`).
    """
    unit = unit or f"{name}.service"
    verb = "reload-or-restart" if on_change == "reload" else "restart"
    # A daemon gets 90 s by default. The error must show why a start failed; a later scan would be too late.
    # A timer's job may have failed because of the old files; it starts again when it is due.
    failed = f"{unit} {unit.removesuffix('.timer')}.service" if unit.endswith(".timer") else unit
    activate = (
        # Nobody may mask a declared unit: `accepted` does not apply to it.
        f"case $(systemctl is-enabled {unit} 2>/dev/null) in masked*) "
        f"systemctl unmask --quiet {unit}; systemctl unmask --quiet --runtime {unit};; esac; "
        f"systemctl reset-failed {failed} 2>/dev/null || true; systemctl enable --quiet {unit} && systemctl {verb} {unit} "
        f"&& systemctl is-active --quiet {unit} || {{ journalctl --unit={unit} --lines=25 --no-pager >&2; exit 1; }}"
    )
    return Change(
        name=name, files=tuple(files), watches=tuple(watches), check=check, activate=activate, unit=unit, guarded=guarded
    )  # fmt: skip


def settings(
    *,
    name: str,
    files: Sequence[File],
    check: str | None = None,
    activate: str | None = None,
    live: str | None = None,
    guarded: bool = False,
    made: Sequence[str] = (),
) -> Change:
    """Files without a daemon of their own, and the command that puts a change into effect.

    Args:
        activate: Runs after a change (``sysctl --system``); the next run repeats it if it failed.
        live: Prints commands that restore the present values, for the way back; it finds the new files below ``$STAGE``.
        guarded: As for a service.
        made: Files that something on the host makes and keeps (a renewed certificate): never compared, never removed.
    """
    return Change(
        name=name, files=tuple(files), made=tuple(made), check=check, activate=activate, live=live, guarded=guarded
    )  # fmt: skip


def job(role: str, unit: str, *files: File, name: str = "", **context: Any) -> Change:
    """A job of a timer: both units from the role's templates, and the files that they need."""
    units = [rendered(role, f"/etc/systemd/system/{unit}.{kind}", **context) for kind in ("service", "timer")]
    return service(name=name or unit.removeprefix("outpost-"), unit=f"{unit}.timer", files=[*files, *units])


def own(
    role: str, name: str, module: ModuleType, data: object, *, watches: Sequence[File] = (), **context: Any
) -> Change:
    """A daemon of our own, ``outpost-NAME``: one of our modules, its settings, and its unit from the role's templates."""
    path = f"{LIB}/{name}"
    files = [program(path, module), as_json(f"/etc/outpost/{name}.json", data)]
    files.append(rendered(role, f"/etc/systemd/system/outpost-{name}.service", **context))
    return service(
        name=name, unit=f"outpost-{name}.service", files=files, watches=watches, check=parses(path)
    )


def confined(name: str, unit: str, files: Sequence[File]) -> Change:
    """The restrictions of a daemon. They are separate from its configuration: that needs a reload, which ends no session; this needs a restart."""
    # its own operation starts it if it is down, or reports why it does not start
    return settings(name=name, files=files, activate=f"{restarted(unit, only_running=True)} || true")


def packages(*names: str, preseed: Sequence[str] = ()) -> Packages:
    """Debian packages that a role needs, without recommends; no daemon starts before it is configured.

    Args:
        preseed: ``debconf-set-selections`` lines, loaded only when something is installed.
    """
    return Packages(name=" ".join(("packages", *names)), packages=names, preseed=tuple(preseed))


def directory(path: str, *, owner: str = "root", group: str = "root", mode: str = "0755") -> Directory:
    return Directory(name=path, owner=owner, group=group, mode=mode)


def account(name: str, *, home: str | None = None) -> Account:
    """A system account that nobody logs in to, and its group of the same name."""
    return Account(
        name=f"account {name}", question=f"getent passwd {name} && id -nG {name}", group=name, home=home
    )


def group(name: str) -> Group:
    return Group(name=f"group {name}", question=f"getent group {name}", group=name)


def absent(name: str, paths: Sequence[str]) -> Once:
    """Files of a package that must not exist (a default site, a sample)."""
    listed = " ".join(map(shlex.quote, paths))
    unless = f'for path in {listed}; do [ ! -e "$path" ] && [ ! -L "$path" ] || exit 1; done'
    return replace(
        once(name, unless=unless, command=f"rm -rf -- {listed}", untouched=paths), absent=tuple(paths)
    )


def once(
    name: str,
    *,
    unless: str,
    command: str,
    files: Sequence[File] = (),
    finding: Finding | None = None,
    untouched: Sequence[str] | None = None,
    masks: Sequence[str] = (),
) -> Once:
    """A command for what only the host can make (a database schema); it runs while `unless` fails.

    Args:
        finding: What the plan reports while the condition is not met.
        unless: Shell test without side effects; true means there is nothing to do.
        command: Must be idempotent, because a run may be interrupted after it.
        files: What the command reads: below ``$STAGE`` while it runs, and removed afterwards.
        untouched: Set this if `unless`, once true, stays true until one of these files changes, or a file that the observer watches
            (`declaration.Item.beside`).
        masks: Units that it masks or unmasks.
    """
    shown = finding or Finding("state", name, "not done on the host yet", "a role relies on it")
    return Once(
        name=name, question=f"if ( {unless} ) >/dev/null 2>&1; then echo met; else echo unmet; fi",
        beside=None if untouched is None else tuple(untouched), command=command, files=tuple(files), finding=shown, masks=tuple(masks),
    )  # fmt: skip
