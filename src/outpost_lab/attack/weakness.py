"""Turns defences off on a lab host, and on again: the positive control of an attack.

A check that has never been seen to fail proves nothing. Each weakness saves what it changes on the host itself, and restores it
byte for byte: the next apply finds nothing to do. If a run is interrupted, the next one restores it (`restore_interrupted`).
"""

import asyncio
import contextlib
import shlex
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground

SAVED = "/root/outpost-attack"
# systemd refuses the sixth start of a unit within ten seconds (systemd.unit(5))
NO_START_LIMIT = "systemctl reset-failed"
RESTORES = f"{NO_START_LIMIT}; sh {SAVED}/restore"
RESTORES_LEFT = f"[ ! -e {SAVED}/restore ] || {{ {RESTORES}; echo restored; }}"
# not a reload: old workers would still answer for a while
RSPAMD_RESTARTS = (
    "systemctl restart rspamd && timeout 30 sh -c "
    "'until [ -S /var/spool/postfix/rspamd/milter.sock ] && rspamc -h /run/rspamd/controller.sock stat >/dev/null 2>&1; do sleep 0.2; done'"
)
RESTARTS = {
    "rspamd": RSPAMD_RESTARTS,
    "clamav": "systemctl restart clamav-daemon && timeout 60 sh -c 'until [ -S /run/clamav/clamd.ctl ]; do sleep 0.5; done'",
}
# a process that waits for a client ends at once, one that has a client ends after it
POSTFIX_RELOADS = (
    "old=$(pgrep -d, -x 'smtpd|postscreen|trivial-rewrite') || true; systemctl reload postfix.service; "
    'for turn in $(seq 20); do [ -n "$old" ] && ps -p "$old" >/dev/null || break; sleep 0.1; done'
)


@dataclass(frozen=True)
class Weakness:
    """A defence's switch on hosts of a role, in shell commands.

    Attributes:
        what: What is turned off, in the words of its daemon.
        keeps: Files or directories that are changed, put back afterwards.
        activate: Makes the daemon use a change.
        undo: Reverts what is not in a file.
    """

    role: str
    what: str
    keeps: tuple[str, ...]
    steps: str
    activate: str
    undo: str = ":"

    @property
    def saves(self) -> str:
        """Script that keeps what is changed, and how to restore it, on the host itself."""
        kept = " ".join(map(shlex.quote, self.keeps))
        files = f"rm -rf {kept}; tar -C / -xpf {SAVED}/kept.tar || exit; " if kept else ""
        restore = f"{self.undo}; {files}{self.activate}; rm -rf {SAVED}"
        saving = f"tar -C / -cpf {SAVED}/kept.tar {kept} 2>/dev/null; " if kept else ""
        return (
            f"set -e; mkdir -m 0700 {SAVED}; {saving}printf '%s\\n' {shlex.quote(restore)} > {SAVED}/restore"
        )

    @property
    def turns_off(self) -> str:
        return f"set -e; {NO_START_LIMIT}; {self.steps}; {self.activate}"


def postfix(*services: str, **settings: str) -> Weakness:
    """Settings of main.cf; `services` are those of master.cf (``postconf -P`` syntax, ``-F`` for a service's fields)."""
    edits = [f"{name}={value}" for name, value in settings.items()]
    steps = [f"postconf -e {shlex.join(edits)}"] if edits else []
    steps += [
        f"postconf {'-F' if '/process_limit=' in each else '-P'} {shlex.quote(each)}" for each in services
    ]
    keeps = ("/etc/postfix/main.cf", "/etc/postfix/master.cf")
    return Weakness("mta", "; ".join([*edits, *services]), keeps, " && ".join(steps), POSTFIX_RELOADS)


def rspamd(what: str, rules: Literal["kept", "gone"] = "kept", /, **files: str) -> Weakness:
    """Further files of override.d, whose text replaces the office's settings; by name without ``.conf``.

    `rules`: whether the office's own rules (lua.local.d) are kept.
    """
    steps = [] if rules == "kept" else [": > /etc/rspamd/lua.local.d/office.lua"]
    for name, text in files.items():
        steps.append(f"printf %s {shlex.quote(text)} >> /etc/rspamd/override.d/{name}.conf")
    return Weakness("mta", what, ("/etc/rspamd",), " && ".join(steps), RSPAMD_RESTARTS)


@cache
def switches() -> dict[str, Weakness]:
    """Attack → what turns its defence off, from ``switches.toml``."""
    tables = tomllib.loads(Path(__file__).with_name("switches.toml").read_text(encoding="utf-8"))
    return {attack: _switch(**entry) for attacks, entry in tables.items() for attack in attacks.split()}


def _switch(
    *, what: str = "", activate: str = "", file: str = "", by: str = "", keeps: Sequence[str] = (), steps: str = "",
    role: str = "mta", undo: str = ":", **entry: Any,
) -> Weakness:  # fmt: skip
    settings = postfix(*entry.get("services", ()), **entry.get("postfix", {}))
    if not what:
        return settings
    if not activate:
        filter_ = rspamd(what, entry.get("rules", "kept"), **entry.get("rspamd", {}))
        if not settings.what:
            return filter_
        steps, activate = (f"{getattr(settings, a)} && {getattr(filter_, a)}" for a in ("steps", "activate"))
        return replace(filter_, keeps=filter_.keeps + settings.keeps, steps=steps, activate=activate)
    if file:
        quoted = shlex.quote(file)
        edit = f"before=$(md5sum {quoted}); sed -i -E {shlex.quote(by)} {quoted}; "
        keeps, steps = (file,), f'{edit}[ "$(md5sum {quoted})" != "$before" ]'
    return Weakness(role, what, tuple(keeps), steps, activate.format(**RESTARTS), undo)


@asynccontextmanager
async def weakened(ground: Ground, weakness: Weakness) -> AsyncIterator[None]:
    """Run the block with a defence of the office turned off."""
    host = ground.role(weakness.role).name
    await ground.on(host, weakness.saves)
    try:
        await ground.on(host, weakness.turns_off)
        if weakness.role == "mta":
            await _takes_mail(ground)
        yield
    finally:
        await ground.on(host, RESTORES, check=True)
        if weakness.role == "mta":
            await _takes_mail(ground)


async def _takes_mail(ground: Ground) -> None:
    """Wait until the MTA and its filter answer again: a temporary refusal is neither defence nor breach."""
    for _ in range(60):
        with contextlib.suppress(OSError):
            async with await ground.smtp(Evidence(), ground.stranger) as session:
                if (await session.say("MAIL FROM:<stranger@internet.test>")).code in (250, 552):
                    return
        await asyncio.sleep(0.5)


async def restore_interrupted(ground: Ground) -> list[str]:
    """Restore the defences that an interrupted run has left off; returns the hosts."""
    return [
        host.name for host in ground.office.hosts if "restored" in await ground.on(host.name, RESTORES_LEFT)
    ]
