"""Defences turned off on a lab host, and back on: the positive control of an attack.

A check that has never been seen to fail proves nothing. Each weakness saves what it changes on the host itself, so
that a run that breaks off can be mended by the next (`mend`), and puts it back byte for byte: a following
apply finds nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outpost_lab.attack.evidence import Evidence

if TYPE_CHECKING:
    from outpost_lab.attack.ground import Ground

SAVED = "/root/outpost-attack"
RESTORES = f"sh {SAVED}/restore"
MENDS = f"[ ! -e {SAVED}/restore ] || {{ {RESTORES}; echo mended; }}"
# not a reload: its old workers answer for a while yet
RSPAMD_RESTARTS = (
    "systemctl restart rspamd && timeout 30 sh -c "
    "'until [ -S /var/spool/postfix/rspamd/milter.sock ] && rspamc -h /run/rspamd/controller.sock stat >/dev/null 2>&1; do sleep 0.2; done'"
)


# a process that waits for a client goes at once, one that has a client when it has done with it
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
        activate: How the daemon takes over a change.
        undo: What takes back what is in no file.
    """

    role: str
    what: str
    keeps: tuple[str, ...]
    steps: str
    activate: str
    undo: str = ":"

    @property
    def saves(self) -> str:
        """Script that keeps what is changed, and the way back, on the host itself."""
        kept = " ".join(map(shlex.quote, self.keeps))
        files = f"rm -rf {kept}; tar -C / -xpf {SAVED}/kept.tar || exit; " if kept else ""
        restore = f"{self.undo}; {files}{self.activate}; rm -rf {SAVED}"
        saving = f"tar -C / -cpf {SAVED}/kept.tar {kept} 2>/dev/null; " if kept else ""
        return (
            f"set -e; mkdir -m 0700 {SAVED}; {saving}printf '%s\\n' {shlex.quote(restore)} > {SAVED}/restore"
        )

    @property
    def turns_off(self) -> str:
        return f"set -e; {self.steps}; {self.activate}"


def postfix(*entries: str, **settings: str) -> Weakness:
    """Settings of main.cf; `entries` are those of master.cf (``postconf -P`` syntax, ``-F`` for a service's fields)."""
    edits = [f"{name}={value}" for name, value in settings.items()]
    steps = [f"postconf -e {shlex.join(edits)}"] if edits else []
    steps += [
        f"postconf {'-F' if '/process_limit=' in entry else '-P'} {shlex.quote(entry)}" for entry in entries
    ]
    keeps = ("/etc/postfix/main.cf", "/etc/postfix/master.cf")
    return Weakness("mta", "; ".join([*edits, *entries]), keeps, " && ".join(steps), POSTFIX_RELOADS)


def rspamd(what: str, **files: str) -> Weakness:
    """Further files of override.d, whose text replaces what the office's say; by name without ``.conf``."""
    return Weakness("mta", what, ("/etc/rspamd",), " && ".join(_overridden(files)), RSPAMD_RESTARTS)


def _overridden(files: dict[str, str]) -> list[str]:
    return [
        f"printf %s {shlex.quote(text)} >> /etc/rspamd/override.d/{name}.conf" for name, text in files.items()
    ]


def judged_by_nobody(*also: Weakness, **files: str) -> Weakness:
    """The filter without the office's own rules (lua.local.d), and with further files as for `rspamd`."""
    steps = [": > /etc/rspamd/lua.local.d/office.lua", *_overridden(files)]
    what = "; ".join(["the office's own rules in Rspamd", *files, *(other.what for other in also)])
    keeps = ("/etc/rspamd", *(path for other in also for path in other.keeps))
    activate = " && ".join([*(other.activate for other in also), RSPAMD_RESTARTS])
    return Weakness("mta", what, keeps, " && ".join([*(other.steps for other in also), *steps]), activate)


def edited(role: str, what: str, file: str, expression: str, activate: str) -> Weakness:
    """A file changed by an extended regular expression of sed; it must change something."""
    quoted = shlex.quote(file)
    steps = f"before=$(md5sum {quoted}); sed -i -E {shlex.quote(expression)} {quoted}; "
    return Weakness(role, what, (file,), steps + f'[ "$(md5sum {quoted})" != "$before" ]', activate)


@asynccontextmanager
async def weakened(ground: Ground, weakness: Weakness) -> AsyncIterator[None]:
    """The office without a defence, while the block runs."""
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
    """Until the MTA and its filter answer again: a refusal for the time being is neither defence nor breach."""
    for _ in range(60):
        with contextlib.suppress(OSError):
            async with await ground.smtp(Evidence(), ground.stranger) as session:
                if (await session.say("MAIL FROM:<stranger@internet.test>")).code in (250, 552):
                    return
        await asyncio.sleep(0.5)


async def mend(ground: Ground) -> list[str]:
    """Hosts that an earlier run has left weak, which it was when it broke off."""
    return [host.name for host in ground.office.hosts if "mended" in await ground.on(host.name, MENDS)]
