"""A-VIR: content that harms anybody who opens it, and content that harms its readers (essay 3.1.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outpost_lab.attack import content, tricks
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import HELLO, Ground, compose, token
from outpost_lab.attack.registry import attack
from outpost_lab.attack.weakness import RSPAMD_RESTARTS, Weakness, edited, judged_by_nobody, rspamd

CLAMAV_OFF, OFF = "enabled = false;\nclamav { enabled = false; }\n", "enabled = false;\n"
NO_SCANNER = rspamd("ClamAV in Rspamd", antivirus=CLAMAV_OFF, force_actions=OFF)
NO_POLICY = judged_by_nobody(antivirus=CLAMAV_OFF, mime_types=OFF)
SCANS = "timeout 60 sh -c 'until [ -S /run/clamav/clamd.ctl ]; do sleep 0.5; done'"
IN_ONE_SESSION = 6
Parcels = dict[str, dict[str, bytes]]
"""Files of a message, by what the message is called in the report."""


async def _refused_each(ground: Ground, seen: Evidence, messages: dict[str, bytes], *further: str) -> None:
    """A handful in a session, from a fresh address each: neither the rates nor SPF may be what refuses them."""
    named = list(messages.items())
    for at in range(0, len(named), IN_ONE_SESSION):
        async with await ground.smtp(seen, patience=200) as session:
            for name, message in named[at : at + IN_ONE_SESSION]:
                said = await session.deliver(f"x@{HELLO}", ground.reader(), message, patience=200)
                seen.expect(said, "554 5.7.1", *further, what=name)


async def _attached(ground: Ground, seen: Evidence, parcels: Parcels) -> None:
    messages = {
        name: content.parcel(f"x@{HELLO}", ground.someone(), token(), files)
        for name, files in parcels.items()
    }
    await _refused_each(ground, seen, messages)


def the_test_virus_in_every_wrapping() -> Parcels:
    virus = content.eicar()
    return {
        "plain": {"readme.txt": virus},
        "zip": {"papers.zip": content.zipped({"readme.txt": virus})},
        "zip in zip": {"papers.zip": content.nested(2, virus)},
        "tar.gz": {"papers.tar.gz": content.tar_gz({"readme.txt": virus})},
        "in a PDF": {"paper.pdf": content.pdf_with(virus)},
        "behind a harmless file": {"a.txt": b"harmless", "b.txt": virus},
    }


def a_rar_archive() -> Parcels:
    archives = {"plans.rar": b"a drawing", "plans.zip": content.eicar()}
    return {f"RAR as {name}": {name: content.rar("readme.txt", data)} for name, data in archives.items()}


def an_encrypted_archive() -> Parcels:
    locked = content.encrypted_zip("invoice.doc", b"secret" * 40)
    return {
        "encrypted zip": {"invoice.zip": locked},
        "encrypted zip in a zip": {"papers.zip": content.zipped({"invoice.zip": locked})},
    }


def a_program_dressed_as_a_document() -> Parcels:
    names = ["invoice.pdf.exe", "invoice.pdf                .scr", "photo.jpg.com", "run.exe", "update.msi"]
    program = content.program()
    parcels = {name: {name: program} for name in (*names, "x.bat", "y.ps1", "z.vbs")}
    return parcels | {"exe in a zip": {"invoice.zip": content.zipped({"invoice.pdf.exe": program})}}


def macros_images_shortcuts_scripts() -> Parcels:
    files = {
        "offer.docm": content.macro_document(), "offer.xlsm": content.macro_document(),
        "disk.iso": content.disk_image(), "disk.img": content.disk_image(), "open.lnk": content.shortcut(),
        "run.js": b"WScript.Echo('x');\r\n", "page.hta": b"<script>1</script>",
        "page.html": b"<html><script>location='http://x.invalid'</script></html>",
    }  # fmt: skip
    return {name: {name: data} for name, data in files.items()}


def carry(id: str, without: Weakness, made: Callable[[], Parcels]) -> None:  # noqa: A002
    """Registers an attack that is nothing but files, which are made when it begins."""

    @attack(id, without=without)
    async def work(ground: Ground, seen: Evidence) -> None:
        # packing takes a while, and the probe must not wait for that
        await _attached(ground, seen, await asyncio.to_thread(made))


def put_together(id: str, without: Weakness, made: Callable[[], dict[str, bytes]]) -> None:  # noqa: A002
    """The same of messages that are put together by hand."""

    @attack(id, without=without)
    async def work(ground: Ground, seen: Evidence) -> None:
        await _refused_each(ground, seen, await asyncio.to_thread(made))


carry("7a", NO_SCANNER, the_test_virus_in_every_wrapping)
carry("7b", NO_POLICY, a_rar_archive)
carry("7c", NO_POLICY, an_encrypted_archive)
carry("7d", NO_SCANNER, lambda: {"25 deep": {"deep.zip": content.nested(25, content.eicar())}})
carry("7e", NO_SCANNER, lambda: {"20 x 20 MB of zeros": {"bomb.zip": content.bomb()}})
carry("7g", NO_POLICY, a_program_dressed_as_a_document)
carry("7h", NO_POLICY, macros_images_shortcuts_scripts)
put_together("7l", NO_POLICY, tricks.names)
put_together("7m", NO_SCANNER, tricks.structures)
put_together("7n", NO_POLICY, tricks.wrappings)

CUT_OFF = edited("mta", "ClamAV reads 65 MiB of a member", "/etc/clamav/clamd.conf", "s/^MaxFileSize .*/MaxFileSize 65M/",
                 f"systemctl restart clamav-daemon.service && {SCANS}")  # fmt: skip


@attack("7p", without=CUT_OFF)
async def a_virus_behind_what_a_scanner_reads(ground: Ground, seen: Evidence) -> None:
    for name, made in tricks.PADDED.items():
        data = await asyncio.to_thread(made)  # packing takes a while, and the probe must not wait for that
        message = content.parcel(f"x@{HELLO}", ground.someone(), token(), {name: data})
        # a machine that is too slow to unpack it within the scanner's time has not taken it either
        await _refused_each(ground, seen, {name: message}, "451 4.7.1")


BELIEVES = Weakness(
    role="mta",
    what="sizes that archives declare are compared",
    keeps=("/var/lib/clamav/outpost.ldb", "/var/lib/clamav/outpost.yar"),
    steps="sed -i /that-lies/d /var/lib/clamav/outpost.ldb && rm /var/lib/clamav/outpost.yar",
    activate=f"systemctl restart clamav-daemon.service && {SCANS}",
)
carry("7r", BELIEVES, tricks.lying)


@attack("7q", without=NO_POLICY)
async def documents_that_act(ground: Ground, seen: Evidence) -> None:
    await _attached(ground, seen, {name: {name: data} for name, data in tricks.documents().items()})
    await _refused_each(ground, seen, tricks.pages())


async def _with_unit_down(ground: Ground, seen: Evidence, units: str) -> None:
    mark, victim = token(), ground.victim()
    await ground.on_mta(f"systemctl stop {units}")
    try:
        message = compose(victim, ground.reader(), mark) + content.eicar() + b"\r\n"
        said = await ground.mail(seen, victim, ground.reader(), message)
        seen.expect(said, "451 4.7.1", "451 4.3.0", "closed", what=f"{units} down")
    finally:
        answers = "rspamc -h /run/rspamd/controller.sock stat >/dev/null 2>&1"
        await ground.on_mta(f"systemctl start {units}")
        await ground.on_mta(f"timeout 60 sh -c 'until {answers}; do sleep 0.5; done'; true")
    await ground.undelivered(mark, seen, "nothing is delivered unscanned")


FAIL_OPEN = Weakness(
    role="mta",
    what="milter_default_action=accept; SCANNER_DOWN off",
    keeps=("/etc/postfix/main.cf", "/etc/rspamd"),
    steps="postconf -e milter_default_action=accept && printf 'enabled = false;\\n' >> /etc/rspamd/override.d/force_actions.conf",
    activate=f"systemctl reload postfix.service && {RSPAMD_RESTARTS}",
)


@attack("7i", without=FAIL_OPEN)
async def mail_while_the_scanner_is_down(ground: Ground, seen: Evidence) -> None:
    await _with_unit_down(ground, seen, "clamav-daemon.socket clamav-daemon.service")


@attack("7k", without=FAIL_OPEN)
async def mail_while_the_filter_is_down(ground: Ground, seen: Evidence) -> None:
    await _with_unit_down(ground, seen, "rspamd.service")


@attack("7j", without=NO_SCANNER)
async def a_virus_from_an_own_user(ground: Ground, seen: Evidence) -> None:
    own, mark = f"carol@{ground.domain}", token()
    async with await ground.submission(seen, "carol") as session:
        await session.envelope(own, ground.someone(3))
        packed = content.zipped({"a.txt": content.eicar()})
        parcel = content.parcel(own, ground.someone(3), mark, {"papers.zip": packed})
        seen.expect(await session.message(parcel), "554 5.7.1")
    await ground.settled()
    await ground.undelivered(mark, seen)
