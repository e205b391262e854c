"""A-VIR: content that harms whoever opens it, and content that harms whoever looks at it (essay 3.1.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outpost_lab.attack import content, tricks
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import HELLO, Ground, letter, token
from outpost_lab.attack.registry import attack
from outpost_lab.attack.weakness import RSPAMD_RESTARTS, Weakness, edited, judged_by_nobody, rspamd

NO_SCANNER = rspamd(
    "ClamAV in Rspamd",
    antivirus="enabled = false;\nclamav { enabled = false; }\n",
    force_actions="enabled = false;\n",
)
NO_POLICY = judged_by_nobody(
    antivirus="enabled = false;\nclamav { enabled = false; }\n", mime_types="enabled = false;\n"
)


IN_ONE_SESSION = 6


async def _refused_each(ground: Ground, seen: Evidence, messages: dict[str, bytes], *further: str) -> None:
    """A handful in a session, from a fresh address each: neither the rates nor SPF may be what refuses them."""
    named = list(messages.items())
    for at in range(0, len(named), IN_ONE_SESSION):
        async with await ground.smtp(seen, patience=200) as session:
            for name, message in named[at : at + IN_ONE_SESSION]:
                said = await session.deliver(f"x@{HELLO}", ground.reader(), message, patience=200)
                seen.expect(said, "554 5.7.1", *further, what=name)


async def _attached(ground: Ground, seen: Evidence, parcels: dict[str, dict[str, bytes]]) -> None:
    """Messages with these files, by what they are called in the report."""
    messages = {
        name: content.parcel(f"x@{HELLO}", ground.someone(), token(), files)
        for name, files in parcels.items()
    }
    await _refused_each(ground, seen, messages)


@attack("7a", without=NO_SCANNER)
async def the_test_virus_in_every_wrapping(ground: Ground, seen: Evidence) -> None:
    virus = content.eicar()
    wrappings: dict[str, dict[str, bytes]] = {
        "plain": {"readme.txt": virus},
        "zip": {"papers.zip": content.zipped({"readme.txt": virus})},
        "zip in zip": {"papers.zip": content.nested(2, virus)},
        "tar.gz": {"papers.tar.gz": content.tar_gz({"readme.txt": virus})},
        "in a PDF": {"paper.pdf": content.pdf_with(virus)},
        "behind a harmless file": {"a.txt": b"harmless", "b.txt": virus},
    }
    await _attached(ground, seen, wrappings)


@attack("7b", without=NO_POLICY)
async def a_rar_archive(ground: Ground, seen: Evidence) -> None:
    archives = {"plans.rar": b"a drawing", "plans.zip": content.eicar()}
    await _attached(
        ground,
        seen,
        {f"RAR as {name}": {name: content.rar("readme.txt", data)} for name, data in archives.items()},
    )


@attack("7c", without=NO_POLICY)
async def an_encrypted_archive(ground: Ground, seen: Evidence) -> None:
    locked = content.encrypted_zip("invoice.doc", b"secret" * 40)
    parcels = {
        "encrypted zip": {"invoice.zip": locked},
        "encrypted zip in a zip": {"papers.zip": content.zipped({"invoice.zip": locked})},
    }
    await _attached(ground, seen, parcels)


@attack("7d", without=NO_SCANNER)
async def twenty_five_archives_deep(ground: Ground, seen: Evidence) -> None:
    await _attached(ground, seen, {"25 deep": {"deep.zip": content.nested(25, content.eicar())}})


@attack("7e", without=NO_SCANNER)
async def an_archive_bomb(ground: Ground, seen: Evidence) -> None:
    bomb = await asyncio.to_thread(
        content.bomb
    )  # packing it takes a while, and the probe must not wait for that
    await _attached(ground, seen, {"20 x 20 MB of zeros": {"bomb.zip": bomb}})


@attack("7g", without=NO_POLICY)
async def a_program_dressed_as_a_document(ground: Ground, seen: Evidence) -> None:
    names = (
        "invoice.pdf.exe",
        "invoice.pdf                .scr",
        "photo.jpg.com",
        "run.exe",
        "update.msi",
        "x.bat",
        "y.ps1",
        "z.vbs",
    )
    program = content.program()
    parcels = {name: {name: program} for name in names}
    parcels["exe in a zip"] = {"invoice.zip": content.zipped({"invoice.pdf.exe": program})}
    await _attached(ground, seen, parcels)


@attack("7h", without=NO_POLICY)
async def macros_images_shortcuts_scripts(ground: Ground, seen: Evidence) -> None:
    files: dict[str, Callable[[], bytes]] = {
        "offer.docm": content.macro_document, "offer.xlsm": content.macro_document, "disk.iso": content.disk_image,
        "disk.img": content.disk_image, "open.lnk": content.shortcut, "run.js": lambda: b"WScript.Echo('x');\r\n",
        "page.hta": lambda: b"<script>1</script>", "page.html": lambda: b"<html><script>location='http://x.invalid'</script></html>",
    }  # fmt: skip
    await _attached(ground, seen, {name: {name: made()} for name, made in files.items()})


@attack("7l", without=NO_POLICY)
async def names_that_hide_what_they_are(ground: Ground, seen: Evidence) -> None:
    await _refused_each(ground, seen, tricks.names())


@attack("7m", without=NO_SCANNER)
async def messages_put_together_oddly(ground: Ground, seen: Evidence) -> None:
    await _refused_each(ground, seen, tricks.structures())


@attack("7n", without=NO_POLICY)
async def archives_that_lie(ground: Ground, seen: Evidence) -> None:
    await _refused_each(ground, seen, tricks.wrappings())


CUT_OFF = edited(
    "mta",
    "ClamAV reads 65 MiB of a member",
    "/etc/clamav/clamd.conf",
    "s/^MaxFileSize .*/MaxFileSize 65M/",
    "systemctl restart clamav-daemon.service && timeout 60 sh -c 'until [ -S /run/clamav/clamd.ctl ]; do sleep 0.5; done'",
)


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
    keeps=("/etc/rspamd", "/var/lib/clamav/outpost.ldb", "/var/lib/clamav/outpost.yar"),
    steps="sed -i /that-lies/d /var/lib/clamav/outpost.ldb && rm /var/lib/clamav/outpost.yar && "
    "sed -i 's/ or not agrees(content, { left = MOST_UNPACKED }, 1)//' /etc/rspamd/lua.local.d/office.lua",
    activate=f"systemctl restart clamav-daemon.service && timeout 60 sh -c 'until [ -S /run/clamav/clamd.ctl ]; do sleep 0.5; done' && {RSPAMD_RESTARTS}",
)


@attack("7r", without=BELIEVES)
async def archives_that_lie_about_sizes(ground: Ground, seen: Evidence) -> None:
    """ClamAV reads by one of two declarations, and users' programs by the other."""
    await _attached(ground, seen, tricks.lying())


@attack("7q", without=NO_POLICY)
async def documents_that_act(ground: Ground, seen: Evidence) -> None:
    await _attached(ground, seen, {name: {name: data} for name, data in tricks.documents().items()})
    await _refused_each(ground, seen, tricks.pages())


async def _with_unit_down(ground: Ground, seen: Evidence, units: str) -> None:
    mark, victim = token(), ground.victim()
    await ground.on_mta(f"systemctl stop {units}")
    try:
        message = letter(victim, ground.reader(), mark) + content.eicar() + b"\r\n"
        said = await ground.mail(seen, victim, ground.reader(), message)
        seen.expect(said, "451 4.7.1", "451 4.3.0", "closed", what=f"{units} down")
    finally:
        await ground.on_mta(f"systemctl start {units}")
        await ground.on_mta(
            "timeout 60 sh -c 'until rspamc -h /run/rspamd/controller.sock stat >/dev/null 2>&1; do sleep 0.5; done'; true"
        )
    seen.check(
        not await ground.delivered(mark),
        "nothing is delivered unscanned",
        "not delivered" if not await ground.delivered(mark) else "delivered",
    )


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
        parcel = content.parcel(
            own, ground.someone(3), mark, {"papers.zip": content.zipped({"a.txt": content.eicar()})}
        )
        seen.expect(await session.message(parcel), "554 5.7.1")
    await ground.settled()
    seen.check(
        not await ground.delivered(mark),
        "not delivered",
        "delivered" if await ground.delivered(mark) else "not delivered",
    )
