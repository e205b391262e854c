"""The one shape of change that every role uses: render, check, install, activate, remember.

A role declares what a host should hold; the operations (`outpost.converge.operations`) compare it with one scan of the host
(``outpost.converge.observation``) and act on the difference. The order makes two promises. A file lands only after the daemon's
own checker has accepted it. A daemon that has not loaded its files yet is restarted by the next run, also after an interruption.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any, Literal

from outpost.converge import operations
from outpost.converge.files import File, rendered
from outpost.converge.observation import declared, will_ask
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
) -> None:
    """A daemon and its files: checked, installed, enabled, running, restarted when what it loaded differs.

    Args:
        name: The daemon, as people call it; also the name of its record on the host.
        unit: Its systemd unit, unless that is called as the daemon is.
        files: Its configuration.
        watches: Files that another shape installs and this daemon loads (certificates).
        check: Command that accepts or refuses the future configuration.
        on_change: ``reload`` for daemons that lose nothing by it and pick up everything.
        guarded: It stands between the controller and the host: the host undoes a change by itself unless a fresh
            connection confirms it (`outpost.converge.guard`).
    """
    unit = unit or f"{name}.service"
    verb = "reload-or-restart" if on_change == "reload" else "restart"
    # A daemon gets 90 s by default; the evidence of a failed start belongs to the error, not to a later scan.
    # What a timer starts may have failed of the files that are mended now; it starts again when it is due.
    failed = f"{unit} {unit.removesuffix('.timer')}.service" if unit.endswith(".timer") else unit
    activate = (
        # A declared unit is no person's to mask: `accepted` does not apply to it.
        f"case $(systemctl is-enabled {unit} 2>/dev/null) in masked*) "
        f"systemctl unmask --quiet {unit}; systemctl unmask --quiet --runtime {unit};; esac; "
        f"systemctl reset-failed {failed} 2>/dev/null || true; systemctl enable --quiet {unit} && systemctl {verb} {unit} "
        f"&& systemctl is-active --quiet {unit} || {{ journalctl --unit={unit} --lines=25 --no-pager >&2; exit 1; }}"
    )
    _converge(name, files, check, activate, watches=watches, unit=unit, guarded=guarded)


def settings(
    *,
    name: str,
    files: Sequence[File],
    check: str | None = None,
    activate: str | None = None,
    live: str | None = None,
    guarded: bool = False,
) -> None:
    """Files without a daemon of their own, and the command that puts a change into effect.

    Args:
        activate: Run after a change (``sysctl --system``); run again by the next run if it failed.
        live: Prints commands that set what is in force now, for the way back; it finds the new files below ``$STAGE``.
        guarded: As for a service.
    """
    _converge(name, files, check, activate, live=live, guarded=guarded)


def job(role: str, unit: str, *files: File, name: str = "", **context: Any) -> None:
    """What a timer starts: both units from the role's templates, and the files that they need."""
    units = [rendered(role, f"/etc/systemd/system/{unit}.{kind}", **context) for kind in ("service", "timer")]
    service(name=name or unit.removeprefix("outpost-"), unit=f"{unit}.timer", files=[*files, *units])


def confined(name: str, unit: str, files: Sequence[File]) -> None:
    """What a daemon may do, apart from its configuration: that is reloaded and drops no session; this needs a restart."""
    # its own operation starts what does not come up, or says why
    settings(name=name, files=files, activate=f"{restarted(unit, only_running=True)} || true")


def _converge(
    name: str,
    files: Sequence[File],
    check: str | None,
    activate: str | None,
    *,
    watches: Sequence[File] = (),
    live: str | None = None,
    unit: str = "",
    guarded: bool,
) -> None:
    key = re.sub(r"[^\w.-]+", "-", name)
    known = declared()
    known.records.add(key)
    known.files.update(file.path for file in files)
    known.content.update((file.path, file) for file in files)
    if not will_ask(paths=[file.path for file in files], unit=unit):
        operations.converge(
            name=name, key=key, files=tuple(files), watches=tuple(watches), check=check, activate=activate,
            live=live, unit=unit, guarded=guarded,
        )  # fmt: skip


def packages(*names: str, preseed: Sequence[str] = ()) -> None:
    """Debian packages that a role stands on; `install_declared` gets them.

    Args:
        preseed: ``debconf-set-selections`` lines, loaded only when something is installed.
    """
    known = declared()
    if names not in known.packages:  # one question about all of them
        known.questions.pop(operations.are_installed(known.packages), None)
        known.packages[names] = tuple(preseed)
        will_ask(question=operations.are_installed(known.packages), of_files=True)


def install_declared() -> None:
    """All packages of a host in one apt run, without recommends; no daemon starts before it is configured.

    One run for all roles: hosts that differ install side by side, while an operation of one role alone makes the
    others wait.
    """
    known = declared()
    if not known.collecting:
        operations.install(name="packages", wanted=dict(known.packages))


def directory(path: str, *, owner: str = "root", group: str = "root", mode: str = "0755") -> None:
    declared().directories[path] = (owner, group, mode)
    if not will_ask(paths=[path]):
        operations.directory(name=path, path=path, owner=owner, group=group, mode=mode)


def account(name: str, *, home: str | None = None) -> None:
    """A system account that nobody logs in to, and its group of the same name."""
    group(name)
    declared().accounts[name] = home
    question = f"getent passwd {name} && id -nG {name}"
    if not will_ask(question=question, of_files=True):
        operations.account(name=f"account {name}", user=name, question=question, home=home)


def group(name: str) -> None:
    declared().groups[name] = None
    question = f"getent group {name}"
    if not will_ask(question=question, of_files=True):
        operations.group(name=f"group {name}", group=name, question=question)


def absent(name: str, paths: Sequence[str]) -> None:
    """Files of a package that must not be there (a default site, a sample)."""
    declared().absent.update(paths)
    listed = " ".join(map(shlex.quote, paths))
    question = f'for path in {listed}; do [ ! -e "$path" ] && [ ! -L "$path" ] || echo "$path"; done'
    if not will_ask(question=question, of_files=True, beside=paths):
        operations.absent(name=name, question=question)


def made_by_host(*paths: str) -> None:
    """Files that something on the host makes and keeps (a renewed certificate): never compared, never removed."""
    declared().files.update(paths)


def once(
    name: str,
    *,
    unless: str,
    command: str,
    files: Sequence[File] = (),
    finding: Finding | None = None,
    untouched: Sequence[str] | None = None,
    masks: Sequence[str] = (),
) -> None:
    """A command for what only the host can make (a database schema), run while `unless` fails.

    Args:
        finding: What the plan reports while the condition is not met.
        unless: Shell test without side effects; true means there is nothing to do.
        command: Idempotent by itself, because a run may break off behind it.
        files: What the command reads, laid below ``$STAGE`` while it runs and gone afterwards.
        untouched: Where `unless`, once true, stays true until a file is touched where the observer watches
            (`observation.will_ask`), or one of these.
        masks: Units that it masks or unmasks.
    """
    declared().masks.update(masks)
    question = f"if ( {unless} ) >/dev/null 2>&1; then echo met; else echo unmet; fi"
    if not will_ask(question=question, of_files=untouched is not None, beside=untouched or ()):
        key = re.sub(r"[^\w.-]+", "-", name)
        shown = finding or Finding("state", name, "not so on the host", "a role relies on it")
        operations.once(
            name=name, key=key, question=question, command=command, files=tuple(files), finding=shown
        )


def retire_undeclared() -> None:
    """Remove what earlier runs installed and no role declares any more: files, units, packages. Call it last."""
    if not will_ask(question=operations.PACKAGES_BEFORE, of_files=True):
        operations.retire(name="what is no longer declared")
