"""Runs other people's scanners on an office: ssh-audit, lynis, testssl.sh, sslyze, systemd-analyze; `outpost.evidence.opinions` keeps results.

Nothing stays on a host: lynis is copied there, runs as it would from its package, and is removed. Strangers' and users' TLS
ports are judged from the controller, so it must be able to reach them (the lab's does).
"""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import venv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from outpost.errors import OutpostError
from outpost.evidence.opinions import TOOLS, Opinion
from outpost.office import Host, Office, ports
from outpost.office.flows import inbound
from outpost.target import ROOT, Target, labs
from outpost.tools import run
from outpost.transport import answers
from outpost.transport.remote import run_script

ENVIRONMENT = labs() / "judges"
REQUIREMENTS = ROOT / "tests" / "judges.txt"
SSLYZE = ROOT / "tests" / "lab" / "judge_tls.py"
POLICY = "Hardened Debian 13 (version 1)"
LYNIS = (Path("/usr/sbin/lynis"), Path("/usr/share/lynis"), Path("/etc/lynis/default.prf"))
STARTTLS = {
    ports.SMTP: "smtp", ports.MANAGESIEVE: "sieve", ports.SUBMISSIONS: "", ports.IMAPS: "", ports.HTTPS: ""
}  # fmt: skip
"""Ports that strangers and users see, and the protocol before STARTTLS."""
PATIENCE = 1200.0  # seconds that a tool may take
MOST = 16 * 1024 * 1024
"""Most bytes of a tool's output."""
OPEN_INPUT = 'ulimit -f 32768; mkfifo "$0"; exec "$@" <> "$0"'
"""Gives a tool an input that never ends, and limits the files that it writes (16 MiB)."""
LIFTED = "postconf -e smtpd_client_event_limit_exceptions=static:all; systemctl reload postfix.service"
"""The tool connects a hundred times from one address; DOS-01 proves elsewhere that such clients are refused."""


class Listener(NamedTuple):
    """A TLS port that outsiders see."""

    host: Host
    address: str
    port: int
    starttls: str


def opinions(target: Target, office: Office, only: tuple[str, ...], via: str | None) -> Iterator[Opinion]:
    """Results one after the other, as they come."""
    judges: dict[str, Callable[[Target, Office, str | None], Iterator[Opinion]]] = {
        "ssh-audit": _ssh_audit, "lynis": _lynis, "testssl": _testssl, "sslyze": _sslyze, "systemd-analyze": _systemd,
    }  # fmt: skip
    for tool in only or TOOLS:
        yield from judges[tool](target, office, via)


def environment(home: Path = ENVIRONMENT, requirements: Path = REQUIREMENTS, *, hashed: bool = True) -> Path:
    """A Python with tools that are no dependency of the project: sslyze pins its own libraries. Made on first use."""
    python, done = home / "bin" / "python", home / "done"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if done.exists() and done.read_text() == wanted:
        return python
    venv.create(home, clear=True, with_pip=True)
    options = [*["--require-hashes"] * hashed, "--requirement", str(requirements)]
    remedy = "check access to the package index"
    run(str(python), "-m", "pip", "install", "--quiet", *options, remedy=remedy)
    done.write_text(wanted)
    return python


def listeners(office: Office) -> tuple[Listener, ...]:
    """Every TLS port that strangers or users see, once for each host."""
    found: dict[tuple[str, int], Listener] = {}
    for host in office.hosts:
        for flow in inbound(office, host):
            if flow.port in STARTTLS and flow.source.host is None and flow.protocol == "tcp":
                address = str(flow.destination.networks[0].network_address)
                listener = Listener(host, address, flow.port, STARTTLS[flow.port])
                found.setdefault((host.name, flow.port), listener)
    return tuple(found.values())


def _ssh_audit(_target: Target, office: Office, _via: str | None) -> Iterator[Opinion]:
    program = str(environment().with_name("ssh-audit"))
    version = _version([program, "--help"], r"ssh-audit v([\d.]+)")
    for host in office.hosts:
        address = str(office.addresses_of_kind(host, "management")[0])
        done = _run([program, "--policy", POLICY, "--no-colors", address])
        failed = re.findall(r"^ +\* (.+)$", done.stdout, re.MULTILINE)
        if not re.search(r"Result:\s+\S*\s*(Passed|Failed)", done.stdout):
            output = answers.line(done.stdout.strip()[-200:])
            remedy = "check that port 22 can be reached from here"
            raise OutpostError(f"ssh-audit printed nothing about {host.name}: {output}", remedy)
        result = "passed" if done.returncode == 0 else "failed"
        yield _opinion("ssh-audit", version, host, POLICY, result, map(answers.line, failed))


def _lynis(target: Target, office: Office, via: str | None) -> Iterator[Opinion]:
    program, shared, profile = LYNIS
    if not all(path.exists() for path in LYNIS):
        raise OutpostError("lynis is not installed on this machine", "apt-get install lynis")
    version = _version([str(program), "show", "version"], r"([\d.]+)")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(program, "lynis")
        archive.add(profile, "default.prf")
        for part in ("include", "db", "plugins"):
            if (shared / part).exists():
                archive.add(shared / part, part)
    script = (
        "set -eu; umask 077; d=$(mktemp -d /run/outpost-lynis.XXXXXX); trap 'rm -rf $d /run/lynis.pid' EXIT; cd $d; "
        f"base64 -d <<'END' | tar -xz --no-same-owner\n{base64.encodebytes(packed.getvalue()).decode()}END\n"
        "mkdir -p plugins; sh ./lynis audit system --quick --quiet --no-colors --cronjob --profile $d/default.prf "
        "--report-file $d/report --logfile $d/log >/dev/null 2>&1 </dev/null || true\n"
        "grep -E '^(hardening_index|warning|suggestion)' $d/report\n"
    )
    for host in office.hosts:
        output = run_script(target, office, host, script, via, patience=PATIENCE, most=MOST)
        index = re.search(r"^hardening_index=(\d+)", output, re.MULTILINE)
        if index is None:
            raise _silent("lynis", target, host)
        ids = dict.fromkeys(re.findall(r"^(?:warning|suggestion)\[\]=([A-Z]+-\d+)\|", output, re.MULTILINE))
        yield _opinion("lynis", version, host, "audit system", f"index {index[1]}", ids)


EXPOSED = r"""
systemctl --version | sed -n '1s/systemd \([0-9]*\).*/version \1/p'
for pid in $(ss -Hltunp | awk '$5 !~ /^(127\.|\[::1\])/' | grep -o 'pid=[0-9]*' | cut -d= -f2 | sort -u); do
    sed -n 's@.*/\([^/]*\.service\).*@\1@p' /proc/$pid/cgroup
done | sort -u | xargs -r -n 1 systemd-analyze security --no-pager | sed -n 's/.*exposure level for \(.*\): \([0-9.]*\) .*/unit \1 \2/p'
"""
BOUND = 4.0
"""Exposure of a listening unit (SYS-01)."""


def _systemd(target: Target, office: Office, via: str | None) -> Iterator[Opinion]:
    """Exposure of each unit that listens on an address of the host."""
    for host in office.hosts:
        output = run_script(target, office, host, EXPOSED, via, most=65536)
        version = re.search(r"^version (\d+)$", output, re.MULTILINE)
        found = re.findall(r"^unit ([\w.@-]+) (\d+\.\d)$", output, re.MULTILINE)
        levels = {unit: float(level) for unit, level in found}
        if version is None or not levels:
            raise _silent("systemd-analyze", target, host)
        over = {unit: level for unit, level in levels.items() if level > BOUND}
        within = [level for unit, level in levels.items() if unit not in over]
        named = [f"{unit} {level}" for unit, level in over.items()]
        result = ", ".join([f"{len(within)} at {max(within, default=0.0)} or better", *named])
        yield _opinion("systemd-analyze", version[1], host, "units that listen", result, over)


def _testssl(target: Target, office: Office, via: str | None) -> Iterator[Opinion]:
    program = shutil.which("testssl") or shutil.which("testssl.sh")
    if program is None:
        raise OutpostError("testssl.sh is not installed on this machine", "apt-get install testssl.sh")
    version = _version([program, "--version"], r"version (?:\x1b\[\d*m)?([\d.]+\d)")
    with _unhurried(target, office, via):
        for listener in listeners(office):
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / "said.json"
                command = [program, "--quiet", "--color", "0", "--warnings", "off", "--ip", listener.address]
                command += ["--jsonfile", str(file)]
                trusted = Path(directory) / "trusted.pem"
                trusted.write_text("".join(each.pem for each in office.tls.trusted_authorities))
                command += ["--add-ca", str(trusted)] if trusted.stat().st_size else []
                command += ["--starttls", listener.starttls] if listener.starttls else []
                # If standard input ends at once, its injection test prints nothing (observed).
                where = f"{listener.host.fqdn}:{listener.port}"
                _run(["sh", "-c", OPEN_INPUT, f"{directory}/input", *command, where])
                entries: list[dict[str, str]] = json.loads(file.read_text()) if file.exists() else []
            grade = next((entry["finding"] for entry in entries if entry["id"] == "overall_grade"), None)
            if grade is None:
                problem = f"testssl printed nothing about {listener.host.name}:{listener.port}"
                raise OutpostError(problem, "check that the port can be reached from here")
            severe = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
            bad = dict.fromkeys(entry["id"] for entry in entries if entry["severity"] in severe)
            yield _opinion("testssl", version, listener.host, f"port {listener.port}", f"grade {grade}", bad)


def _sslyze(target: Target, office: Office, via: str | None) -> Iterator[Opinion]:
    python = str(environment())
    version = _version([python, "-m", "sslyze", "--help"], r"SSLyze version ([\d.]+)")
    with _unhurried(target, office, via):
        for listener in listeners(office):
            if listener.starttls == "sieve":
                continue  # the port does not use that protocol
            command = [python, str(SSLYZE), listener.address, str(listener.port), listener.host.fqdn]
            done = _run([*command, *(["--starttls", listener.starttls] if listener.starttls else [])])
            if done.returncode:
                errors = answers.line(done.stderr.strip()[-200:])
                problem = f"sslyze printed nothing about {listener.host.name}:{listener.port}: {errors}"
                raise OutpostError(problem, "check that the port can be reached from here")
            left = answers.parsed(done.stdout, dict[str, Any], listener.host.name)
            result = "Mozilla intermediate: " + ("passed" if not left else "failed")
            yield _opinion("sslyze", version, listener.host, f"port {listener.port}", result, left)


@contextmanager
def _unhurried(target: Target, office: Office, via: str | None) -> Iterator[None]:
    """In the lab the limits on strangers' connections are lifted; elsewhere they stay, and a tool may be refused."""
    hosts = office.with_role("mta") if target.instance else ()
    for host in hosts:
        run_script(target, office, host, f"cp -p /etc/postfix/main.cf /root/judged.cf; {LIFTED}", via)
    try:
        yield
    finally:
        back = "mv -f /root/judged.cf /etc/postfix/main.cf; systemctl reload postfix.service"
        for host in hosts:
            run_script(target, office, host, back, via)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a tool; the tested host controls the length of its output (`outpost.transport.answers`)."""
    try:
        done = answers.exchange(command, patience=PATIENCE, most=MOST)
    except (TimeoutError, answers.TooMuchError) as error:
        why = "takes too long" if isinstance(error, TimeoutError) else "says too much"
        remedy = "examine the host: somebody may have replaced its programs"
        raise OutpostError(f"{Path(command[0]).name} {why}", remedy) from None
    out, errors = (text.decode(errors="replace") for text in done[1:])
    return subprocess.CompletedProcess(command, done.status, out, errors)


def _silent(tool: str, target: Target, host: Host) -> OutpostError:
    remedy = f"./outpost plan {target.typed} --limit {host.name}"
    return OutpostError(f"{tool} printed nothing about {host.name}", remedy)


def _version(command: list[str], pattern: str) -> str:
    done = _run(command)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "?"


def _opinion(tool: str, version: str, host: Host, what: str, result: str, findings: Iterable[str]) -> Opinion:
    today = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    return Opinion(tool, version, today, host.role, host.name, what, result, tuple(findings))
