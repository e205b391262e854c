"""Generated offices, checked by the daemons' own checkers: what `check` accepts is a configuration that starts."""

from __future__ import annotations

import io
import logging
import os
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import HealthCheck, Phase, assume, given, settings
from pydantic import SecretStr

from outpost.converge.declaration import Declaration, declarations
from outpost.converge.files import File
from outpost.keys import secrets_file
from outpost.office.load import load, parse
from outpost_lab import engine
from outpost_lab.instance import Instance
from tests.strangers.generated import offices

logger = logging.getLogger(__name__)
PLACE = f"/run/outpost-generated-{os.getpid()}"
SPOOL = "/var/spool/postfix"
"""Where `postfix check` writes: it copies what the chroot needs."""
JUDGES = {
    "*": ("sshd -t", "nft --check --file /etc/nftables.conf", "unbound-checkconf", "chronyd -p -f /etc/chrony/chrony.conf",
          "visudo --check --quiet", "apt-config dump"),
    "dns": ("knotc --config /etc/knot/knot.conf conf-check",),
    "mta": ("postfix check", 'problems=$(postconf -n 2>&1 >/dev/null); echo "$problems"; [ -z "$problems" ]', "rspamadm configtest"),
    "store": ("doveconf -n",),
    "webmail": ("nginx -t", "php-fpm8.4 --test", "php -n -l /etc/roundcube/config.inc.php"),
}  # fmt: skip
"""Role → the commands that each daemon brings to judge its own files."""


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def rendered(data: dict[str, Any], directory: Path) -> dict[str, Declaration]:
    """Host → its declaration, with keys that are made for the test."""
    identity = directory / "identity.txt"
    public = (
        secrets_file.create_identity(identity)
        if not identity.exists()
        else str(secrets_file.read_identity(identity).to_public())
    )
    document = data | {"secrets": {"recipients": [public]}}
    (directory / "office.toml").write_text(tomlkit.dumps(document), encoding="utf-8")
    made = secrets_file.complete(load(directory), None).secrets
    if data.get("smarthost", {}).get("user"):
        made = made.model_copy(update={"smarthost": SecretStr("a password of theirs")})
    secrets_file.write(directory, made, (public,))
    return declarations(directory)


def packed(files: Iterable[File]) -> bytes:
    """The files of a host as an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            member = tarfile.TarInfo(file.path.lstrip("/"))
            member.size, member.mode = len(file.content), int(file.mode, 8)
            member.uname, member.gname = file.owner, file.group
            archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


def judged(container: Any, role: str, files: Iterable[File]) -> list[str]:
    """Findings of the daemons' checkers, with these files in an overlay that only the checkers see."""
    # /run is a tmpfs, which Docker's archive does not reach
    lay = "; ".join(
        f"mount -t overlay overlay -o ro,lowerdir={PLACE}{top}:{top} {top}" for top in ("/etc", "/usr")
    )
    lay += (
        f"; [ ! -d {SPOOL} ] || {{ mkdir {PLACE}/spool {PLACE}/work; "
        f"mount -t overlay overlay -o lowerdir={SPOOL},upperdir={PLACE}/spool,workdir={PLACE}/work {SPOOL}; }}"
    )
    tries = "; ".join(
        f"({command}) >{PLACE}/problems 2>&1 || {{ echo {shlex.quote(command)}: $(tail -n 5 {PLACE}/problems); }}"
        for command in (*JUDGES["*"], *JUDGES[role])
    )
    script = (
        f"set -e; rm -rf {PLACE}; mkdir -m 0700 {PLACE}; trap 'rm -rf {PLACE}' EXIT; tar -x -p --same-owner -f - -C {PLACE}; "
        f"unshare --mount sh -c {shlex.quote(f'set -e; {lay}; {tries}')}"
    )
    done = subprocess.run(
        ["docker", "exec", "-i", container.name, "sh", "-c", script],
        input=packed(files),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        return [f"not judged: {done.stderr.decode()}"]
    return done.stdout.decode().splitlines()


def try_offices(lab: Instance, scratch: Path, count: int) -> int:
    """Check this number of valid offices on the lab's hosts; returns how many there were."""
    client, hosts = engine.connect(), {host.role: host.name for host in lab.office.hosts}
    sound = 0

    # a mistake is reported as it was generated: to reduce it takes as long as a hundred offices
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(data=offices())
    def judge(data: dict[str, Any]) -> None:
        nonlocal sound
        assume(not parse(data)[1])
        sound += 1
        logger.info("office %s: %s", sound, data["domain"])
        found = rendered(data, scratch)

        def on_its_host(role: str) -> dict[str, list[str]]:
            container = lab.container(hosts[role], client)
            return {
                name: judged(container, role, content.content.values())
                for name, content in found.items()
                if data["hosts"][name]["role"] == role
            }

        with ThreadPoolExecutor() as pool:
            verdicts = [item for each in pool.map(on_its_host, hosts) for item in each.items()]
        assert len(verdicts) == len(data["hosts"])
        assert {name: wrong for name, wrong in verdicts if wrong} == {}

    judge()
    return sound


MAIN = {
    "dns": "/etc/knot/knot.conf",
    "mta": "/etc/postfix/main.cf",
    "store": "/etc/dovecot/dovecot.conf",
    "webmail": "/etc/nginx/nginx.conf",
}


@pytest.mark.slow
def test_a_judge_sees_a_mistake(lab: Instance) -> None:
    """The lab's own office: nothing to find on a host of each role; and each spoilt file is found."""
    client, found = engine.connect(), declarations(lab.directory)
    for host in {host.role: host for host in lab.office.hosts}.values():
        container, content = lab.container(host.name, client), found[host.name]
        assert judged(container, host.role, content.content.values()) == []
        files = dict(content.content)
        for path in (MAIN[host.role], "/etc/nftables.conf", "/etc/ssh/sshd_config.d/00-outpost.conf"):
            files[path] = replace(files[path], content=files[path].content + b"\nno { such = word\n")
        verdicts = "\n".join(judged(container, host.role, files.values()))
        for command in (JUDGES[host.role][0], "nft --check", "sshd -t"):
            assert command in verdicts


@pytest.mark.slow
def test_a_handful_of_offices_that_nobody_wrote_is_accepted_by_the_daemons(
    lab: Instance, scratch: Path
) -> None:
    assert try_offices(lab, scratch, 4) >= 4


@pytest.mark.slow
def test_offices_that_nobody_wrote_are_accepted_by_the_daemons(lab: Instance, scratch: Path) -> None:
    wanted = int(os.environ.get("OUTPOST_OFFICES", "150"))
    assert try_offices(lab, scratch, wanted) >= wanted
