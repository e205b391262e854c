"""Whatever somebody changes on a host by hand is named by the plan and repaired by the apply.

Each drift is one line of data. The default run injects a seeded dozen at once, ``-m slow`` all of them.
"""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import dataclass

import pytest

from outpost.lab.instance import Instance
from outpost.run import Outcome, Silent, plan
from outpost.target import Target
from tests.lab.conftest import Pyinfra

SEED = 5


@dataclass(frozen=True)
class Drift:
    """A change by hand.

    Attributes:
        thing: What the report must name, or the start of it.
        command: Shell on the host.
    """

    host: str
    thing: str
    command: str


def loaded_and_reverted(path: str, edit: str, load: str) -> str:
    """A file that is edited, loaded and put back: only the daemon remembers."""
    return (
        f"cp -p {path} /root/aside; sed -i '{edit}' {path}; {load}; cat /root/aside > {path}; rm /root/aside"
    )


SERVER = "/usr/bin/python3 -m http.server --bind 0.0.0.0"
EVIL_UNIT = r"[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
DRIFTS = (
    # Declared files
    Drift("mta", "/etc/postfix/main.cf", "sed -i 's/^smtpd_helo_required.*/smtpd_helo_required = no/' /etc/postfix/main.cf; echo '# x' >> /etc/postfix/main.cf"),
    Drift("webmail", "/etc/nginx/nginx.conf", "rm /etc/nginx/nginx.conf"),
    Drift("store", "/etc/dovecot/users", "chmod 0644 /etc/dovecot/users"),
    Drift("ns1", "/etc/knot/knot.conf", "chown root:root /etc/knot/knot.conf"),
    Drift("webmail", "/etc/hosts", "echo '203.0.113.9 store.po.myertor.test' >> /etc/hosts"),
    Drift("ns2", "/etc/resolv.conf", "echo 'nameserver 9.9.9.9' > /etc/resolv.conf"),
    Drift("mta", "/etc/outpost/tls/host.key", "chmod 0644 /etc/outpost/tls/host.key"),
    Drift("ns2", "/etc/modprobe.d/outpost.conf", "rm /etc/modprobe.d/outpost.conf"),
    Drift("store", "/etc/apt/apt.conf.d/52outpost-unattended", "sed -i '/Origins-Pattern {/,/}/d' /etc/apt/apt.conf.d/52outpost-unattended"),
    Drift("ns1", "/etc/ssh/sshd_config.d/00-outpost.conf", "sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/' /etc/ssh/sshd_config.d/00-outpost.conf"),
    # Files that nobody declares
    Drift("store", "/etc/cron.d/evil", "mkdir -p /etc/cron.d; echo '* * * * * root true' > /etc/cron.d/evil"),
    Drift("mta", "/etc/sudoers.d/evil", "echo 'nobody ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/evil"),
    Drift("ns2", "/etc/ssh/sshd_config.d/99-evil.conf", "echo 'MaxAuthTries 100' > /etc/ssh/sshd_config.d/99-evil.conf"),
    Drift("mta", "/etc/sysctl.d/99-evil.conf", "echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/99-evil.conf"),
    Drift("ns1", "/etc/profile.d/evil.sh", "echo 'umask 000' > /etc/profile.d/evil.sh"),
    Drift("store", "/etc/apt/sources.list.d/evil.list", "echo 'deb [trusted=yes] http://evil.test/ x y' > /etc/apt/sources.list.d/evil.list"),
    Drift("webmail", "/etc/ld.so.preload", "echo '# evil' > /etc/ld.so.preload"),
    Drift("mta", "/etc/udev/rules.d/99-evil.rules", "mkdir -p /etc/udev/rules.d; echo '# evil' > /etc/udev/rules.d/99-evil.rules"),
    Drift("ns1", "/usr/local/bin/sudo", "printf '#!/bin/sh\\n' > /usr/local/bin/sudo; chmod 755 /usr/local/bin/sudo"),
    Drift("ns2", "/var/spool/cron/crontabs/root", "mkdir -p /var/spool/cron/crontabs; echo '@hourly true' > /var/spool/cron/crontabs/root"),
    Drift("webmail", "/etc/nginx/conf.d/evil.conf", "mkdir -p /etc/nginx/conf.d; echo 'server_tokens on;' > /etc/nginx/conf.d/evil.conf"),
    Drift("mta", "/etc/rspamd/local.d/evil.conf", "echo 'enabled = false;' > /etc/rspamd/local.d/evil.conf"),
    Drift("store", "/etc/dovecot/conf.d/99-evil.conf", "echo 'auth_allow_cleartext = yes' > /etc/dovecot/conf.d/99-evil.conf"),
    Drift("store", "/etc/tmpfiles.d/evil.conf", "mkdir -p /etc/tmpfiles.d; echo 'd /tmp/x 1777' > /etc/tmpfiles.d/evil.conf"),
    Drift("ns1", "/usr/local/share/ca-certificates/evil.crt", "echo evil > /usr/local/share/ca-certificates/evil.crt"),
    Drift("webmail", "/root/.ssh/authorized_keys", "echo 'ssh-ed25519 AAAA evil' >> /root/.ssh/authorized_keys"),
    Drift("ns1", "/etc/environment", "echo 'LD_PRELOAD=/tmp/x' >> /etc/environment"),
    Drift("ns1", "/etc/ssh/sshd_config", "echo 'PermitRootLogin yes' >> /etc/ssh/sshd_config; systemctl reload ssh"),
    Drift("ns2", "/etc/pam.d/sshd", "echo '# evil' >> /etc/pam.d/sshd"),
    Drift("store", "/etc/login.defs", "echo 'UMASK 000' >> /etc/login.defs"),
    # Units
    Drift("store", "dovecot.service", "systemctl stop dovecot"),
    Drift("mta", "rspamd.service", "systemctl disable --quiet rspamd"),
    Drift("webmail", "php8.4-fpm.service", "systemctl disable --now --quiet php8.4-fpm; systemctl mask --quiet php8.4-fpm"),
    Drift("ns1", "/etc/systemd/system/evil.service", f"printf '{EVIL_UNIT}' > /etc/systemd/system/evil.service; systemctl enable --now --quiet evil"),
    Drift("ns2", "/etc/systemd/system/knot.service.d/zz.conf", r"printf '[Service]\nNoNewPrivileges=no\n' > /etc/systemd/system/knot.service.d/zz.conf; systemctl daemon-reload"),
    Drift("mta", "apt-daily.timer", "systemctl disable --now --quiet apt-daily.timer"),
    Drift("webmail", "/run/systemd/system.control/nginx.service.d", "systemctl set-property --runtime nginx.service MemoryMax=infinity"),
    # Packages, accounts
    Drift("store", "netcat-openbsd", "apt-get -qq install -y --no-install-recommends netcat-openbsd >/dev/null 2>&1"),
    Drift("ns2", "dns-root-data", "dpkg --remove --force-depends dns-root-data >/dev/null 2>&1"),
    Drift("mta", "mallory", "useradd -m -s /bin/bash mallory; echo mallory:secret | chpasswd"),
    Drift("ns2", "toor", "echo 'toor:x:0:0::/root:/bin/bash' >> /etc/passwd"),
    Drift("ns1", "sudo: nobody", "usermod -aG sudo nobody"),
    Drift("store", "vmail", "usermod -s /bin/bash vmail"),
    Drift("store", "/root", "chmod 0755 /root"),
    Drift("ns2", "/etc/shadow", "chmod 0644 /etc/shadow"),
    # What is live and not written
    Drift("mta", "table inet outpost", "nft flush ruleset"),
    Drift("ns2", "table inet outpost", "nft add rule inet outpost inbound tcp dport 9999 accept"),
    Drift("store", "table inet evil", "nft add table inet evil; nft add chain inet evil out '{ type filter hook output priority -10; }'"),
    Drift("webmail", "net.ipv4.conf.all.accept_redirects", "sysctl -qw net.ipv4.conf.all.accept_redirects=1"),
    Drift("store", "net.ipv4.tcp_syncookies", "sysctl -qw net.ipv4.tcp_syncookies=0"),
    Drift("ns1", "evil.example", "hostname evil.example"),
    Drift("ns1", "tcp 0.0.0.0 8099", f"systemd-run --quiet --unit=evil-web {SERVER} 8099"),
    Drift("ns2", "tcp 0.0.0.0 8098", f"setsid {SERVER} 8098 >/dev/null 2>&1 </dev/null & sleep 1"),
    Drift("mta", "redis-server.service", "redis-cli -s $(sed -n 's/^unixsocket //p' /etc/redis/redis.conf) config set maxmemory-policy noeviction >/dev/null"),
    Drift("store", "unbound.service", "unbound-control -q set_option val-permissive-mode: yes"),
    Drift("ns2", "knot.service", loaded_and_reverted("/etc/knot/knot.conf", "s/^server:/server:\\n    rate-limit: 0/", "knotc reload >/dev/null 2>&1 || true")),
)  # fmt: skip


def inject(lab: Instance, drifts: tuple[Drift, ...]) -> None:
    """Change the hosts by hand."""
    for drift in drifts:
        command = ["docker", "exec", lab.container_name(drift.host), "sh", "-c", drift.command]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def named(outcome: Outcome, drift: Drift) -> bool:
    """Whether the plan's report names a drift with its cause and consequence."""
    return any(
        finding["host"] == drift.host
        and str(finding["thing"]).startswith(drift.thing)
        and finding["cause"]
        and finding["consequence"]
        for finding in outcome.findings
    )


def all_named_and_repaired(
    lab: Instance, pyinfra: Pyinfra, target: Target, drifts: tuple[Drift, ...]
) -> None:
    """Inject, plan, apply, plan."""
    assert pyinfra("--dry", "--json").changes == {}, "the office differs before anything was injected"
    inject(lab, drifts)
    outcome = plan(target, connector="docker", watcher=Silent())
    assert not [drift for drift in drifts if not named(outcome, drift)]
    json.dumps(outcome.as_data(target))
    run = pyinfra("-y", "--json")
    assert run.code == 0, run.log
    left = plan(target, connector="docker", watcher=Silent())
    assert [(change.host, change.operation) for change in left.changes] == []
    assert not left.findings


def test_a_dozen_drifts_are_named_and_repaired(lab: Instance, pyinfra: Pyinfra, target: Target) -> None:
    chosen = random.Random(SEED).sample(range(len(DRIFTS)), 12)  # noqa: S311 (no secret)
    all_named_and_repaired(lab, pyinfra, target, tuple(DRIFTS[number] for number in sorted(chosen)))


@pytest.mark.slow
def test_every_known_drift_is_named_and_repaired(lab: Instance, pyinfra: Pyinfra, target: Target) -> None:
    assert len(DRIFTS) >= 50
    all_named_and_repaired(lab, pyinfra, target, DRIFTS)
