"""The arithmetic of sizes (`outpost.office.size`), checked by the daemons of a running lab; the lab is not changed."""

from __future__ import annotations

import io
import tarfile

import pytest

from outpost.converge.declaration import declaration
from outpost.converge.files import File, rendered
from outpost.keys import secrets_file
from outpost.office import Office
from outpost.office.role import cgroup_limits
from outpost.office.size import size_of
from outpost_lab.instance import Instance
from roles.store.view import StoreView
from tests.engine import executed
from tests.unit.test_size import SIZES, office_with

PLACE = "/run/size"
UNIT = "[Service]\nExecStart=/bin/true\n"


def judged(lab: Instance, host: str, files: list[File], command: str) -> str:
    """A checker's output about files that are below `PLACE` on a host only."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in files:
            member = tarfile.TarInfo(f"{PLACE}{file.path}".lstrip("/"))
            member.size, member.mode = len(file.content), 0o644
            tar.addfile(member, io.BytesIO(file.content))
    container = lab.container(host)
    executed(["docker", "exec", lab.container_name(host), "mkdir", "-p", PLACE])
    try:
        # by tar there: Docker does not put files into a mounted /run
        container.put_archive("/root", _named(archive.getvalue()))
        script = f"tar --extract --file=/root/size.tar --directory=/ && cd {PLACE} && {command}"
        code, output = container.exec_run(["sh", "-euc", script])
    finally:
        container.exec_run(["rm", "-rf", PLACE, "/root/size.tar"])
    text: str = output.decode()
    assert code == 0, text
    return text.strip()


def _named(content: bytes) -> bytes:
    outer = io.BytesIO()
    with tarfile.open(fileobj=outer, mode="w") as tar:
        member = tarfile.TarInfo("size.tar")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return outer.getvalue()


@pytest.fixture(params=SIZES, ids=lambda users: f"{users} users")
def office(request: pytest.FixtureRequest) -> Office:
    return office_with(request.param)


@pytest.fixture
def declared(office: Office, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, File]]:
    """Host → the files that its role declares, by path."""
    hashed = "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"  # a real key takes a quarter of a second
    monkeypatch.setattr(secrets_file, "password_hash", lambda _password: hashed)
    secrets = secrets_file.complete(office).secrets
    return {host.name: declaration(office, secrets, host.name).content for host in office.hosts}


def limits(office: Office, role: str) -> list[File]:
    """A unit for each daemon of a role, with its limits."""
    found = []
    for name, limit in cgroup_limits(role, size_of(office)).items():
        file = rendered("base", f"/units/{name}", template="limits.conf", limit=limit)
        found.append(File(file.path, UNIT.encode() + file.content.replace(b"[Service]\n", b"")))
    return found


def test_dovecot_accepts_its_limits_without_a_warning(
    lab: Instance, office: Office, declared: dict[str, dict[str, File]]
) -> None:
    view = StoreView(office, office.with_role("store")[0])
    file = declared["store"]["/etc/dovecot/dovecot.conf"]
    assert judged(lab, "store", [file], f"doveconf -c {PLACE}{file.path} -n 2>&1 >/dev/null") == ""
    few = File(file.path, file.content.replace(f"client_limit = {view.size.dovecot_clients}".encode(), b""))
    if len(office.users) > 100:
        output = judged(lab, "store", [few], f"doveconf -c {PLACE}{few.path} -n 2>&1 >/dev/null")
        assert "is lower than required" in output, "what kept an office of 117 users from being applied"


def test_postfix_accepts_its_limits_without_a_warning(
    lab: Instance, office: Office, declared: dict[str, dict[str, File]]
) -> None:
    files = [file for path, file in declared["mta"].items() if path.startswith("/etc/postfix/")]
    ask = f"postconf -c {PLACE}/etc/postfix -n 2>&1 >/dev/null; postconf -c {PLACE}/etc/postfix -Mf 2>&1 >/dev/null"
    assert judged(lab, "mta", files, ask) == ""
    listed = f"postconf -c {PLACE}/etc/postfix -h virtual_alias_expansion_limit"
    assert int(judged(lab, "mta", files, listed)) >= len(office.users)


def test_nginx_and_php_accept_their_limits_without_a_warning(
    lab: Instance, declared: dict[str, dict[str, File]]
) -> None:
    nginx, php = "/etc/nginx/nginx.conf", "/etc/php/8.4/fpm/php-fpm.conf"
    files = [declared["webmail"][path] for path in (nginx, php)]
    assert judged(lab, "webmail", files, f"nginx -t -q -c {PLACE}{nginx} 2>&1") == ""
    assert judged(lab, "webmail", files, f"php-fpm8.4 --test --fpm-config {PLACE}{php} 2>&1") == ""
    broken = File(files[1].path, files[1].content.replace(b"pm.max_children = ", b"pm.max_children = -"))
    with pytest.raises(AssertionError):
        judged(lab, "webmail", [broken], f"php-fpm8.4 --test --fpm-config {PLACE}{php} 2>&1")


@pytest.mark.parametrize("role", ["dns", "mta", "store", "webmail"])
def test_systemd_accepts_every_limit_without_a_warning(lab: Instance, office: Office, role: str) -> None:
    host = office.with_role(role)[0].name
    files = limits(office, role)
    names = " ".join(f"{PLACE}{file.path}" for file in files)
    output = judged(lab, host, files, f"systemd-analyze verify --man=no --recursive-errors=no {names} 2>&1")
    assert output == ""
