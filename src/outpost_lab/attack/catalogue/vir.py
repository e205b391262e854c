"""A-VIR: content that harms anybody who opens it, and content that harms its readers (essay 3.1.7)."""

import asyncio
from collections.abc import Callable
from functools import partial

from outpost_lab.attack import content, tricks
from outpost_lab.attack.catalogue import attack
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import HELLO, Ground, compose, token

IN_ONE_SESSION = 6
DRESSED = (
    "invoice.pdf.exe", "invoice.pdf                .scr", "photo.jpg.com", "run.exe", "update.msi", "x.bat", "y.ps1", "z.vbs",
)  # fmt: skip


def the_test_virus_in_every_wrapping() -> dict[str, dict[str, bytes]]:
    virus = content.eicar()
    return {
        "plain": {"readme.txt": virus},
        "zip": {"papers.zip": content.zipped({"readme.txt": virus})},
        "zip in zip": {"papers.zip": content.nested(2, virus)},
        "tar.gz": {"papers.tar.gz": content.tar_gz({"readme.txt": virus})},
        "in a PDF": {"paper.pdf": content.pdf_with(virus)},
        "behind a harmless file": {"a.txt": b"harmless", "b.txt": virus},
    }


def an_encrypted_archive() -> dict[str, bytes]:
    locked = content.encrypted_zip("invoice.doc", b"secret" * 40)
    return {"invoice.zip": locked, "papers.zip": content.zipped({"invoice.zip": locked})}


def a_program_dressed_as_a_document() -> dict[str, bytes]:
    program = content.program()
    return dict.fromkeys(DRESSED, program) | {"invoice.zip": content.zipped({DRESSED[0]: program})}


def macros_images_shortcuts_scripts() -> dict[str, bytes]:
    return {
        "offer.docm": content.macro_document(), "offer.xlsm": content.macro_document(),
        "disk.iso": content.disk_image(), "disk.img": content.disk_image(), "open.lnk": content.shortcut(),
        "run.js": b"WScript.Echo('x');\r\n", "page.hta": b"<script>1</script>",
        "page.html": b"<html><script>location='http://x.invalid'</script></html>",
    }  # fmt: skip


async def _refused_each(ground: Ground, seen: Evidence, messages: dict[str, bytes], *further: str) -> None:
    """A few in each session, each session from a new address: neither rate limits nor SPF may refuse them."""
    named = list(messages.items())
    for at in range(0, len(named), IN_ONE_SESSION):
        async with await ground.smtp(seen, patience=200) as session:
            for name, message in named[at : at + IN_ONE_SESSION]:
                seen.note(f"({name})")
                reply = await session.deliver(f"x@{HELLO}", ground.reader(), message, patience=200)
                seen.expect(reply, "554 5.7.1", *further)


async def _attached(ground: Ground, seen: Evidence, made: Callable[[], dict[str, dict[str, bytes]]]) -> None:
    """Messages that contain only files. Packing takes a while, and the probe must not wait for that."""
    ends, parcels = (f"x@{HELLO}", ground.someone()), await asyncio.to_thread(made)
    messages = {name: content.parcel(*ends, token(), files) for name, files in parcels.items()}
    await _refused_each(ground, seen, messages)


async def _put_together(ground: Ground, seen: Evidence, made: Callable[[], dict[str, bytes]]) -> None:
    await _refused_each(ground, seen, await asyncio.to_thread(made))


def _alone(made: Callable[[], dict[str, bytes]]) -> Callable[[], dict[str, dict[str, bytes]]]:
    """Send each of some files in a message of its own."""
    return lambda: {name: {name: data} for name, data in made().items()}


for id_, parcels in {
    "7a": the_test_virus_in_every_wrapping,
    "7b": _alone(
        lambda: {
            "plans.rar": content.rar("readme.txt", b"a drawing"),
            "plans.zip": content.rar("readme.txt", content.eicar()),
        }
    ),
    "7c": _alone(an_encrypted_archive),
    "7d": _alone(lambda: {"deep.zip": content.nested(25, content.eicar())}),
    "7e": _alone(lambda: {"bomb.zip": content.bomb()}),
    "7g": _alone(a_program_dressed_as_a_document),
    "7h": _alone(macros_images_shortcuts_scripts),
    "7r": tricks.lying,
}.items():
    attack(id_)(partial(_attached, made=parcels))
for id_, messages in {"7l": tricks.names, "7m": tricks.structures, "7n": tricks.wrappings}.items():
    attack(id_)(partial(_put_together, made=messages))


@attack("7p")
async def a_virus_behind_what_a_scanner_reads(ground: Ground, seen: Evidence) -> None:
    for name, made in tricks.PADDED.items():
        data = await asyncio.to_thread(made)  # packing takes a while, and the probe must not wait for that
        message = content.parcel(f"x@{HELLO}", ground.someone(), token(), {name: data})
        # a machine that is too slow to unpack it within the scanner's time has not accepted it either
        await _refused_each(ground, seen, {name: message}, "451 4.7.1")


@attack("7q")
async def documents_that_act(ground: Ground, seen: Evidence) -> None:
    await _attached(ground, seen, _alone(tricks.documents))
    await _put_together(ground, seen, tricks.pages)


async def _with_units_down(ground: Ground, seen: Evidence, units: str) -> None:
    mark, victim = token(), ground.victim()
    await ground.on_mta(f"systemctl stop {units}")
    try:
        message = compose(victim, ground.reader(), mark) + content.eicar() + b"\r\n"
        reply = await ground.mail(seen, victim, ground.reader(), message)
        seen.expect(reply, "451 4.7.1", "451 4.3.0", "closed")
    finally:
        answers = "rspamc -h /run/rspamd/controller.sock stat >/dev/null 2>&1"
        await ground.on_mta(f"systemctl start {units}")
        await ground.on_mta(f"timeout 60 sh -c 'until {answers}; do sleep 0.5; done'; true")
    await ground.undelivered(mark, seen)


attack("7i")(partial(_with_units_down, units="clamav-daemon.socket clamav-daemon.service"))
attack("7k")(partial(_with_units_down, units="rspamd.service"))


@attack("7j")
async def a_virus_from_an_own_user(ground: Ground, seen: Evidence) -> None:
    own, mark = f"carol@{ground.domain}", token()
    async with await ground.submission(seen, "carol") as session:
        packed = content.zipped({"a.txt": content.eicar()})
        parcel = content.parcel(own, ground.someone(3), mark, {"papers.zip": packed})
        seen.expect(await session.deliver(own, ground.someone(3), parcel), "554 5.7.1")
    await ground.settled()
    await ground.undelivered(mark, seen)
