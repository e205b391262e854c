"""Whatever somebody changes on a host by hand is named by the plan and repaired by the apply.

Each drift is one line of data. The default run injects a seeded dozen at once, ``-m slow`` all of them.
"""

from __future__ import annotations

import json
import random
import shlex
import struct
from dataclasses import dataclass

import pytest

from outpost.engine import unchanged
from outpost.engine.run import Outcome, Silent, plan
from outpost.engine.unchanged import KEPT
from outpost.keys import secrets_file
from outpost.onhost.observe import KEY, OBSERVER
from outpost.target import Target
from outpost_lab.instance import Instance
from tests.awaiting import listening
from tests.engine import executed
from tests.lab.conftest import Pyinfra

SEED = 5
PYTHON = "/usr/local/lib/outpost/python"


@dataclass(frozen=True)
class Drift:
    """A change by hand.

    Attributes:
        thing: What the report must name, or the start of it.
        command: Shell on the host.
        cause: The cause in the report, or its start; needed if another drift has the same thing.
        cleared: Shell on the host that undoes what an apply does not repair.
    """

    host: str
    thing: str
    command: str
    cause: str = ""
    cleared: str = ""


def loaded_and_reverted(path: str, edit: str, load: str) -> str:
    """A file that is edited, loaded by its daemon and restored: only the daemon still uses the edit."""
    return (
        f"cp -p {path} /root/aside; sed -i '{edit}' {path}; {load}; cat /root/aside > {path}; rm /root/aside"
    )


def attributed(path: str, flag: int) -> str:
    """`chattr +i` where e2fsprogs is not installed (FS_IOC_SETFLAGS)."""
    return f'python3 -c \'import fcntl, os, struct; fcntl.ioctl(os.open("{path}", 0), 0x40086602, struct.pack("l", {flag}))\''


def extended(path: str, name: str, value: bytes) -> str:
    """`setfacl` and `setcap` where they are not installed."""
    return f'python3 -c \'import os; os.setxattr("{path}", "{name}", bytes.fromhex("{value.hex()}"))\''


# acl(5) as the kernel keeps it: version 2, then tag, rights and id of each entry; user 65534 may read and write
ACCESS_LIST = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 2**32 - 1), (2, 6, 65534), (4, 4, 2**32 - 1), (16, 6, 2**32 - 1), (32, 0, 2**32 - 1))
)
SETUID_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 7, 0, 0, 0)
SERVER = "/usr/bin/python3 -m http.server --bind 0.0.0.0"
EVIL_UNIT = r"[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
COMPILED = "/usr/lib/python3.13/__pycache__/this.cpython-313.pyc"
RECOMPILED = f"""python3 -m py_compile /usr/lib/python3.13/this.py; python3 -c 'import marshal; p = "{COMPILED}"; head = open(p, "rb").read(16); open(p, "wb").write(head + marshal.dumps(compile("evil = 1", p, "exec")))'"""
ZONE = "po.myertor.test."
ADVERTISED = "2001:db8:99::/48 via fe80::99 dev eth0 proto ra"


def second_key(role: str) -> tuple[str, str, str]:
    """A signing key that no rollover made: shell that creates it, the expected report, and shell that removes it."""
    kept = f"/run/evil-{role}"
    return (
        f"keymgr {ZONE} generate algorithm=ECDSAP256SHA256 {role}=yes > {kept}",
        f"a second {role.upper()} signs",
        f"keymgr {ZONE} delete $(tail -n 1 {kept}) >/dev/null; rm {kept}; knotc --blocking zone-keys-load {ZONE} >/dev/null",
    )


PAUSING = "python3 -c 'import signal, {}; {}; signal.pause()' {} >/dev/null 2>&1 </dev/null &"
"""A program that does one thing and keeps running."""
DOWNGRADED = """
cd $(mktemp -d); chmod 0755 .; apt-get -qq -o APT::Sandbox::User=root download {package}; dpkg-deb --raw-extract *.deb x
sed -i 's/^Version: .*/Version: 0/' x/DEBIAN/control; dpkg-deb --build x old.deb >/dev/null; dpkg --install old.deb >/dev/null 2>&1
"""
BUILT = r"""
cd $(mktemp -d); mkdir -p x/DEBIAN x/etc/cron.d; echo '# x' > x/etc/cron.d/evil-package
printf 'Package: evil-package\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x.test>\nDescription: x\n' > x/DEBIAN/control
dpkg-deb --build x new.deb >/dev/null; dpkg --install new.deb >/dev/null 2>&1
"""
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
    Drift("mta", "/etc/sudoers.d/evil", "echo 'nobody ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/evil; echo 'path /etc/sudoers.d/evil' > /var/lib/outpost/applied/.evil"),
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
    # What strangers try, too
    Drift("mta", "/etc/postfix/master.cf", f"echo '# x' >> /etc/postfix/master.cf; {attributed('/etc/postfix/master.cf', 0x10)}"),
    Drift("ns2", "/etc/cron.hourly/evil", f"mkdir -p /etc/cron.hourly; echo true > /etc/cron.hourly/evil; {attributed('/etc/cron.hourly/evil', 0x10)}"),
    Drift("webmail", "/etc/php/8.4/fpm/php-fpm.conf", extended("/etc/php/8.4/fpm/php-fpm.conf", "system.posix_acl_access", ACCESS_LIST)),
    Drift("ns1", "/etc/unbound/unbound.conf", "mv /etc/unbound/unbound.conf /root/kept; ln -s /root/kept /etc/unbound/unbound.conf"),
    Drift("store", "/etc/stunnel/lmtp.conf", "rm /etc/stunnel/lmtp.conf"),
    Drift("webmail", "/usr/bin/dpkg-split", "chmod u+s /usr/bin/dpkg-split"),
    Drift("store", "/usr/bin/dpkg-split", extended("/usr/bin/dpkg-split", "security.capability", SETUID_CAPABILITY)),
    Drift("mta", "/usr/bin/dpkg-split", "printf x >> /usr/bin/dpkg-split"),
    Drift("ns2", "/usr/bin/dpkg-split", "rm /usr/bin/dpkg-split"),
    Drift("ns1", "/usr/bin/evil", f"cp /usr/bin/true /usr/bin/evil; chmod 4755 /usr/bin/evil; {extended('/usr/bin/evil', 'security.capability', SETUID_CAPABILITY)}"),
    Drift("ns1", "/usr/lib/systemd/system/evil-two.service", f"printf '{EVIL_UNIT}' > /usr/lib/systemd/system/evil-two.service; systemctl daemon-reload"),
    Drift("webmail", "/etc/systemd/user/evil.service", f"mkdir -p /etc/systemd/user; printf '{EVIL_UNIT}' > /etc/systemd/user/evil.service"),
    Drift("webmail", "/root/.config/systemd/user/evil.service", f"mkdir -p /root/.config/systemd/user; printf '{EVIL_UNIT}' > /root/.config/systemd/user/evil.service"),
    Drift("store", "/root/.ssh/authorized_keys2", "echo 'ssh-ed25519 AAAA evil' > /root/.ssh/authorized_keys2"),
    Drift("mta", "/var/spool/cron/crontabs/nobody", "mkdir -p /var/spool/cron/crontabs; echo '@hourly true' > /var/spool/cron/crontabs/nobody"),
    Drift("mta", "/var/spool/cron/atjobs/evil", "mkdir -p /var/spool/cron/atjobs; echo true > /var/spool/cron/atjobs/evil"),
    Drift("ns2", "/etc/alternatives/pager", "ln -sfn /bin/cat /etc/alternatives/pager"),
    Drift("store", "/usr/bin/dpkg-realpath", "dpkg-divert --quiet --local --rename --add /usr/bin/dpkg-realpath"),
    Drift("ns1", "knot", "apt-mark hold knot >/dev/null"),
    Drift("ns2", "openssh-server", "echo 'touch /root/evil' >> /var/lib/dpkg/info/openssh-server.postinst"),
    Drift("webmail", "/usr/bin/dpkg-trigger", "dpkg-statoverride --quiet --update --add root root 4755 /usr/bin/dpkg-trigger"),
    Drift("ns2", "/etc/apt/trusted.gpg.d/evil.gpg", "echo evil > /etc/apt/trusted.gpg.d/evil.gpg"),
    Drift("webmail", "/usr/share/keyrings/evil.gpg", "echo evil > /usr/share/keyrings/evil.gpg"),
    Drift("mta", "/etc/nsswitch.conf", "sed -i 's/^hosts:.*/hosts: dns files/' /etc/nsswitch.conf; echo '# x' >> /etc/nsswitch.conf"),
    Drift("ns1", "/etc/pam.d/common-auth", "echo 'auth sufficient pam_permit.so' >> /etc/pam.d/common-auth"),
    Drift("store", "/etc/sudoers", "echo 'nobody ALL=(ALL) NOPASSWD: ALL' >> /etc/sudoers"),
    Drift("ns2", "/etc/ld.so.conf.d/evil.conf", "echo /tmp > /etc/ld.so.conf.d/evil.conf"),
    Drift("store", "EVIL_OPTION", "systemctl set-environment EVIL_OPTION=1"),
    Drift("mta", "/run/systemd/system/rspamd.service.d/evil.conf", r"mkdir -p /run/systemd/system/rspamd.service.d; printf '[Service]\nNoNewPrivileges=no\n' > /run/systemd/system/rspamd.service.d/evil.conf; systemctl daemon-reload"),
    Drift("mta", "/etc/postfix/main.cf", "postconf -e smtpd_banner=hello"),
    Drift("webmail", "net.ipv4.ip_default_ttl", "sysctl -qw net.ipv4.ip_default_ttl=37"),
    Drift("ns1", "evil0", "ip link add evil0 type dummy 2>/dev/null || ip link add evil0 type veth peer name evil1"),
    Drift("ns2", "192.0.2.66/24", "ip address add 192.0.2.66/24 dev eth0"),
    Drift("store", "4 unicast 203.0.113.0/24", "ip route add 203.0.113.0/24 dev eth0"),
    Drift("ns1", "4 100 from 203.0.113.9", "ip rule add from 203.0.113.9 lookup 7 priority 100"),
    Drift("mta", "203.0.113.7", "ip neighbour replace 203.0.113.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent"),
    Drift("webmail", "/etc/localtime", "ln -sfn /usr/share/zoneinfo/Asia/Tokyo /etc/localtime"),
    Drift("store", "/etc/locale.conf", "echo LANG=tlh > /etc/locale.conf"),
    Drift("ns2", "/etc/default/evil", "echo EVIL=1 > /etc/default/evil"),
    Drift("mta", "/etc/fstab", "echo 'tmpfs /opt tmpfs defaults 0 0' >> /etc/fstab"),
    Drift("ns1", "/var/tmp", "mount -o remount,bind,exec /var/tmp"),
    Drift("store", "/srv/mail", "chmod 0777 /srv/mail"),
    Drift("ns1", "nobody", "usermod -p '$y$j9T$x$x' nobody"),
    Drift("ns2", "/etc/shells", "chmod 0666 /etc/shells"),
    Drift("ns2", "outpost-logs.service", "systemctl stop outpost-logs"),
    Drift("store", "/etc/rsyslog.d/evil.conf", "mkdir -p /etc/rsyslog.d; echo '*.* /tmp/x' > /etc/rsyslog.d/evil.conf"),
    # Sources of code, of trust and of silence
    Drift("mta", "/var/lib/clamav/evil.ign2", "echo Eicar-Signature > /var/lib/clamav/evil.ign2"),
    Drift("mta", "/usr/lib/python3/dist-packages/sitecustomize.py", "echo pass > /usr/lib/python3/dist-packages/sitecustomize.py"),
    Drift("store", "/etc/ssl/certs/evil.pem", "cp /etc/outpost/tls/host.pem /etc/ssl/certs/evil.pem"),
    Drift("ns2", "ca-certificates", "cat /etc/outpost/tls/host.pem >> /etc/ssl/certs/ca-certificates.crt"),
    Drift("webmail", "/var/lib/roundcube/plugins/evil/evil.php", "mkdir /var/lib/roundcube/plugins/evil; echo '<?php' > /var/lib/roundcube/plugins/evil/evil.php"),
    Drift("webmail", "/usr/share/roundcube/index.php", "echo '// evil' >> /usr/share/roundcube/index.php"),
    Drift("webmail", "/var/www/webmail/evil.html", "echo evil > /var/www/webmail/evil.html"),
    Drift("ns2", "i386", "dpkg --add-architecture i386"),
    Drift("store", "/opt", "mount -t tmpfs tmpfs /opt"),
    Drift("webmail", "/etc/outpost/watch.json", "mount --bind /dev/null /etc/outpost/watch.json"),
    # Further changes that an examiner tries
    Drift("ns2", "default.target", "systemctl set-default --quiet rescue.target"),
    Drift("store", "evil-linked.service", f"mkdir -p /opt/evil; printf '{EVIL_UNIT}' > /opt/evil/evil-linked.service; systemctl link --quiet /opt/evil/evil-linked.service"),
    Drift("mta", "/etc/systemd/system/systemd-journald.service.d/evil.conf", r"mkdir -p /opt/evil /etc/systemd/system/systemd-journald.service.d; printf '[Service]\nNice=1\n' > /opt/evil/nice.conf; ln -s /opt/evil/nice.conf /etc/systemd/system/systemd-journald.service.d/evil.conf; systemctl daemon-reload"),
    Drift("webmail", "apt-daily-upgrade.timer", "systemctl stop apt-daily-upgrade.timer"),
    Drift("ns1", "run-", "systemd-run --quiet --on-active=1h /bin/true"),
    Drift("webmail", "/run/systemd/system/outpost-evil.service", f"printf '{EVIL_UNIT}' > /run/systemd/system/outpost-evil.service; systemctl daemon-reload; systemctl start outpost-evil"),
    Drift("store", "/var/lib/systemd/linger/nobody", "mkdir -p /var/lib/systemd/linger; touch /var/lib/systemd/linger/nobody"),
    Drift("ns1", "/run/udev/rules.d/evil.rules", "mkdir -p /run/udev/rules.d; echo '# evil' > /run/udev/rules.d/evil.rules"),
    Drift("store", "/var/lib/extensions/evil.raw", "mkdir -p /var/lib/extensions; echo evil > /var/lib/extensions/evil.raw"),
    Drift("webmail", "/usr/local/share/dbus-1/system-services/evil.service", "mkdir -p /usr/local/share/dbus-1/system-services; echo evil > /usr/local/share/dbus-1/system-services/evil.service"),
    Drift("mta", "/root/.vimrc", "echo '!true' > /root/.vimrc"),
    Drift("ns2", "/etc/ssh/ssh_host_ed25519_key", "rm -f /root/evil*; ssh-keygen -q -t ed25519 -N '' -f /root/evil; cat /root/evil > /etc/ssh/ssh_host_ed25519_key; cat /root/evil.pub > /etc/ssh/ssh_host_ed25519_key.pub; rm /root/evil /root/evil.pub"),
    Drift("store", "root", "chage --expiredate 0 root"),
    Drift("mta", "sudo", "gpasswd --administrators nobody sudo"),
    Drift("ns2", "games", "groupmod --non-unique --gid 0 games"),
    Drift("webmail", "/etc/subuid", "echo nobody:1:65536 >> /etc/subuid"),
    Drift("ns1", "/etc/pam.d/common-account", "chown nobody /etc/pam.d/common-account"),
    Drift("store", "/etc/services", "chmod 0600 /etc/services"),
    Drift("mta", "/var/spool/postfix/maildrop", "chmod 0755 /var/spool/postfix/maildrop; chown nobody /var/spool/postfix/maildrop"),
    Drift("ns2", "/etc/pam.d/other", attributed("/etc/pam.d/other", 0x10)),
    Drift("mta", "/usr/lib/postfix/sbin/error", "printf x >> /usr/lib/postfix/sbin/error"),
    Drift("webmail", "/usr/lib/x86_64-linux-gnu/libevil.so", "echo evil > /usr/lib/x86_64-linux-gnu/libevil.so"),
    Drift("ns1", "/usr/bin/tac", "mv /usr/bin/tac /root/tac; ln -s /root/tac /usr/bin/tac"),
    Drift("store", "/usr/bin/sh", "ln -sfn bash /usr/bin/sh"),
    Drift("webmail", "/opt/evil/libz.so.1", "mkdir -p /opt/evil; cp /usr/lib/x86_64-linux-gnu/libz.so.1 /opt/evil/; ldconfig /opt/evil"),
    Drift("store", "sensible-utils", DOWNGRADED.format(package="sensible-utils")),
    Drift("ns1", "libfstrm0", "dpkg --remove --force-depends libfstrm0 >/dev/null 2>&1"),
    Drift("ns2", "/etc/chrony/chrony.conf", "ln -f /etc/chrony/chrony.conf /root/chrony.conf"),
    Drift("webmail", "/etc/default/chrony", "rm /etc/default/chrony; mkdir /etc/default/chrony; echo x > /etc/default/chrony/x"),
    Drift("mta", "/etc/outpost/tls/public.pem", "cat /etc/outpost/tls/host.pem > /etc/outpost/tls/public.pem"),
    Drift("webmail", "127.0.0.1:8097", f"setsid /usr/bin/python3 -m http.server --bind 127.0.0.1 8097 >/dev/null 2>&1 </dev/null & {listening('127.0.0.1:8097')}"),
    Drift("store", "evil", "ip netns add evil; ip netns exec evil ip link set lo up; setsid ip netns exec evil /usr/bin/python3 -m http.server 8096 >/dev/null 2>&1 </dev/null &"),
    Drift("ns1", "192.0.2.77/32", "ip address add 192.0.2.77/32 dev lo"),
    Drift("mta", "4 local 203.0.113.64/26", "ip route add local 203.0.113.64/26 dev lo"),
    Drift("store", "net.ipv6.conf.eth0.accept_ra", "sysctl -qw net.ipv6.conf.eth0.accept_ra=2"),
    Drift("webmail", "outpost-logs.service", "kill -STOP $(systemctl show -P MainPID outpost-logs)"),
    Drift("store", "chrony.service", "chronyc -n add server 203.0.113.9 >/dev/null"),
    Drift("mta", "redis-server.service", loaded_and_reverted("/etc/redis/redis.conf", "/^user default/d", "systemctl restart redis-server")),
    Drift("ns1", "knot-zones", "z=$(basename /etc/knot/zones/po.*.zone .zone); knotc zone-begin $z; knotc zone-set $z evil 60 A 203.0.113.9; knotc zone-commit $z"),
    Drift("ns2", "knot.service", "knotc conf-begin; knotc conf-set server.identity evil; knotc conf-commit"),
    Drift("ns1", "/var/log/journal/", "rm /var/log/journal/*/system.journal"),
    # State of daemons, and the way of packets
    Drift("webmail", "/var/lib/roundcube/db/roundcube.sqlite", "sqlite3 /var/lib/roundcube/db/roundcube.sqlite \"CREATE TRIGGER evil AFTER INSERT ON contacts BEGIN DELETE FROM contacts WHERE 0; END\""),
    Drift("mta", "/var/lib/mta-sts/cache.db", "sqlite3 /var/lib/mta-sts/cache.db 'CREATE VIEW evil AS SELECT 1' 2>/dev/null || python3 -c \"import sqlite3; sqlite3.connect('/var/lib/mta-sts/cache.db').execute('CREATE VIEW evil AS SELECT 1')\""),
    Drift("mta", "/var/spool/postfix/etc/hosts", "echo '203.0.113.9 store.po.myertor.test' >> /var/spool/postfix/etc/hosts"),
    Drift("mta", "/var/spool/postfix/etc/evil", "echo evil > /var/spool/postfix/etc/evil"),
    Drift("ns1", ZONE, f"keymgr {ZONE} set $(keymgr {ZONE} list | awk '/ZSK/ {{ print $1; exit }}') retire=+1d >/dev/null", "a key's date set by hand"),
    Drift("ns2", "eth0", "tc qdisc add dev eth0 root tbf rate 1mbit burst 32k latency 400ms"),
    Drift("store", "eth0", "tc qdisc add dev eth0 clsact"),
    Drift("webmail", "eth0", "tc qdisc replace dev eth0 root handle 7: pfifo limit 999"),
    Drift("mta", "eth", "tc class change dev $(tc qdisc | awk '/htb/ { print $5; exit }') parent 1:1 classid 1:30 htb rate 8kbit", "traffic control set by hand (htb"),
    Drift("ns1", "/var/lib/docker/sh", "mkdir -p /var/lib/docker; cp /bin/dash /var/lib/docker/sh; chmod 4755 /var/lib/docker/sh"),
    # What a package's script could have made or recorded, and names that scans left out before
    Drift("ns2", "/etc/cron.d/noted", "mkdir -p /etc/cron.d; echo '@yearly nobody true' > /etc/cron.d/noted; echo \"$(md5sum < /etc/cron.d/noted | cut -c-32)  /etc/cron.d/noted\" >> /var/lib/ucf/hashfile"),
    Drift("ns2", "/usr/local/bin/id", "ln -s /usr/bin/whoami /etc/alternatives/evil; ln -s /etc/alternatives/evil /usr/local/bin/id"),
    Drift("ns2", "/etc/apparmor.d/local/evil", "mkdir -p /etc/apparmor.d/local; echo '/** rw,' > /etc/apparmor.d/local/evil"),
    Drift("mta", "/usr/share/rspamd/www/js/evil.js", "mkdir -p /usr/share/rspamd/www/js; echo evil > /usr/share/rspamd/www/js/evil.js"),
    Drift("store", "/usr/share/dovecot/protocols.d/evil.protocol", "mkdir -p /usr/share/dovecot/protocols.d; echo 'protocols = $protocols submission' > /usr/share/dovecot/protocols.d/evil.protocol"),
    Drift("ns1", "/usr/bin/tsort", "dpkg-divert --quiet --package coreutils --rename --add /usr/bin/tsort"),
    Drift("ns2", "/etc/logrotate.d/evil.cache", "echo '# evil' > /etc/logrotate.d/evil.cache"),
    Drift("ns2", "/usr/lib/python3/dist-packages/evil.pyc", "echo evil > /usr/lib/python3/dist-packages/evil.pyc"),
    Drift("ns2", "/usr/lib/x86_64-linux-gnu/libz.so.1", "mkdir -p /opt/evil; cp /usr/lib/x86_64-linux-gnu/libz.so.1 /opt/evil/libz.so; ln -sfn /opt/evil/libz.so /usr/lib/x86_64-linux-gnu/libz.so.1"),
    Drift("webmail", "/var/lib/roundcube/program", "mkdir -p /opt/evil; cp -a /usr/share/roundcube/program /opt/evil/; ln -sfn /opt/evil/program /var/lib/roundcube/program"),
    Drift("ns1", "/srv/evil", "mknod -m 0666 /srv/evil b 7 99"),
    Drift("mta", "/var/lib/clamav/evil.ftm", "echo '0:0:504b0304:evil:CL_TYPE_ANY:CL_TYPE_IGNORED' > /var/lib/clamav/evil.ftm"),
    Drift("ns2", "/run/systemd/system.attached/chrony.service.d/evil.conf", r"mkdir -p /run/systemd/system.attached/chrony.service.d; printf '[Service]\nNice=1\n' > /run/systemd/system.attached/chrony.service.d/evil.conf; systemctl daemon-reload"),
    Drift("store", "/run/systemd/transient/systemd-journald.service.d/evil.conf", r"mkdir -p /run/systemd/transient/systemd-journald.service.d; printf '[Service]\nNice=1\n' > /run/systemd/transient/systemd-journald.service.d/evil.conf; systemctl daemon-reload"),
    Drift("store", "/run/userdb/evil.user", "mkdir -p /run/userdb; echo '{}' > /run/userdb/evil.user"),
    Drift("webmail", "/root/.vim/plugin/evil.vim", "mkdir -p /root/.vim/plugin; echo '!true' > /root/.vim/plugin/evil.vim"),
    Drift("ns2", "src 0.0.0.0/0 dst 203.0.113.128/25 dir out", "ip xfrm policy add src 0.0.0.0/0 dst 203.0.113.128/25 dir out action block"),
    Drift("mta", "203.0.113.99", "ip neighbour add proxy 203.0.113.99 dev eth0"),
    Drift("ns2", "src 0.0.0.0/0 dst 203.0.113.192/26 dir out mark 0x7 mask 0xff", "ip xfrm policy add src 0.0.0.0/0 dst 203.0.113.192/26 dir out mark 0x7 mask 0xff action block"),
    Drift("webmail", "default fwd", "ip xfrm policy setdefault fwd block"),
    Drift("store", "outpost-moment.service", "systemd-run --quiet --unit=outpost-moment sleep infinity"),
    Drift("webmail", "/run/systemd/transient/dpkg-db-backup.timer", r"mkdir -p /run/systemd/transient; printf '[Timer]\nOnCalendar=yearly\n' > /run/systemd/transient/dpkg-db-backup.timer; systemctl daemon-reload"),
    Drift("ns2", "/dev/shm", "mount -t tmpfs -o nosuid,nodev,noexec tmpfs /dev/shm"),
    Drift("ns1", "/proc/sys/vm", "mount -t tmpfs tmpfs /proc/sys/vm"),
    Drift("ns1", ZONE, *second_key("zsk")),
    Drift("ns1", ZONE, *second_key("ksk")),
    Drift("ns1", "/var/lib/unbound/root.key", "cp /usr/share/dns/root.key /var/lib/unbound/root.key; echo '. 86400 IN DNSKEY 257 3 8 AwEAAevil' >> /var/lib/unbound/root.key"),
    Drift("mta", "/run/redis/redis.sock", "chmod 0777 /run/redis/redis.sock"),
    Drift("store", COMPILED, RECOMPILED),
    Drift("store", "6 2001:db8:99::/48 via fe80::99", f"ip -6 route add {ADVERTISED}", cleared=f"ip -6 route delete {ADVERTISED}"),
    # Changes that a name, an origin or a moment hid
    Drift("ns1", "/etc/systemd/system-generators/evil.outpost-new", "mkdir -p /etc/systemd/system-generators; printf '#!/bin/sh\\n' > /etc/systemd/system-generators/evil.outpost-new; chmod 755 /etc/systemd/system-generators/evil.outpost-new"),
    Drift("mta", "/usr/share/doc/evil/libz.so.1", "mkdir -p /usr/share/doc/evil; cp /usr/lib/x86_64-linux-gnu/libz.so.1 /usr/share/doc/evil/; ldconfig /usr/share/doc/evil"),
    Drift("ns1", "/libevil/libz.so.1", "mkdir -p /libevil; cp /usr/lib/x86_64-linux-gnu/libz.so.1 /libevil/; ldconfig /libevil"),
    Drift("store", "/opt/e vil/libz.so.1", "mkdir -p '/opt/e vil'; cp /usr/lib/x86_64-linux-gnu/libz.so.1 '/opt/e vil/'; ldconfig '/opt/e vil'"),
    Drift("ns1", "outpost-generated.service", "mkdir -p /usr/local/lib/systemd/system-generators; printf '#!/bin/sh\\nprintf \"[Service]\\\\nExecStart=/bin/sleep infinity\\\\n\" > $1/outpost-generated.service' > /usr/local/lib/systemd/system-generators/evil; chmod 755 /usr/local/lib/systemd/system-generators/evil; systemctl daemon-reload; rm /usr/local/lib/systemd/system-generators/evil; systemctl start outpost-generated"),
    Drift("ns2", "/run/systemd/generator.early/logrotate.service", r"mkdir -p /run/systemd/generator.early; printf '[Service]\nExecStart=/bin/true\n' > /run/systemd/generator.early/logrotate.service"),
    Drift("mta", "evil.scope", "systemd-run --quiet --scope --unit=evil sleep infinity >/dev/null 2>&1 </dev/null &"),
    Drift("ns2", "192.0.2.88/24", "ip address add 192.0.2.88/24 dev eth0 valid_lft 7200 preferred_lft 7200"),
    Drift("ns1", "4 unicast 203.0.113.0/25", "ip route add 203.0.113.0/25 dev eth0 proto dhcp"),
    Drift("mta", "4 local 203.0.113.128/26", "ip route add local 203.0.113.128/26 dev lo proto kernel"),
    Drift("store", "4 unicast 203.0.113.192/27", "ip route add 203.0.113.192/27 dev eth0 proto ra"),
    Drift("webmail", "203.0.113.8", "ip neighbour replace 203.0.113.8 lladdr 02:00:00:00:00:08 dev eth0 nud noarp"),
    Drift("ns1", "zone ", "knotc zone-freeze $(ls /etc/knot/zones/*.arpa.zone | head -n 1 | xargs basename --suffix=.zone) >/dev/null"),
    Drift("mta", "chrony.service", "chronyc offline >/dev/null"),
    Drift("ns2", "systemd-journald.service", "journalctl --relinquish-var"),
    Drift("ns2", "LogTarget", "systemctl log-target null"),
    Drift("store", "ServiceWatchdogs", "systemctl service-watchdogs no"),
    Drift("mta", "/var/lib/clamav/evil.cud", "cp /etc/hostname /var/lib/clamav/evil.cud"),
    Drift("webmail", "/dev/evil", "rm -f /dev/evil; mknod -m 0666 /dev/evil b 7 99"),
    Drift("ns1", "/usr/bin/tty", attributed("/usr/bin/tty", 0x10)),
    Drift("ns2", "/usr/local/sbin", extended("/usr/local/sbin", "system.posix_acl_default", ACCESS_LIST)),
    Drift("ns2", "/var/log/journal/", "chmod 0644 /var/log/journal/*/system.journal"),
    Drift("store", "/run/initramfs/shutdown", "mkdir -p /run/initramfs; printf '#!/bin/sh\\n' > /run/initramfs/shutdown; chmod 755 /run/initramfs/shutdown"),
    Drift("ns1", "/run/systemd/user.conf.d/evil.conf", r"mkdir -p /run/systemd/user.conf.d; printf '[Manager]\nDefaultEnvironment=LD_PRELOAD=/tmp/x\n' > /run/systemd/user.conf.d/evil.conf"),
    Drift("webmail", "/usr/lib/modules/evil/evil.ko", "mkdir -p /usr/lib/modules/evil; echo evil > /usr/lib/modules/evil/evil.ko"),
    Drift("store", "/srv/mail/", "ln -s /etc $(ls -d /srv/mail/*/ | head -n 1)evil"),
    Drift("mta", "net.netfilter.nf_conntrack_tcp_be_liberal", "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1"),
    Drift("store", "/home/evil/.bashrc", "mkdir -p /home/evil; echo 'alias sudo=x' > /home/evil/.bashrc"),
    Drift("webmail", "/run", "mount -o remount,bind,suid,exec /run"),
    Drift("ns2", "6 unicast 2001:db8:77::/48", "ip -6 route add 2001:db8:77::/48 dev eth0"),
    # Changes in the running system only
    Drift("store", "unbound.service", "unbound-control -q local_data evil.example A 203.0.113.9"),
    Drift("webmail", "eth0", "ip link set eth0 mtu 1300"),
    Drift("ns2", "eth0", "ip link set eth0 promisc on"),
    Drift("mta", "table inet outpost", "nft flush ruleset"),
    Drift("ns2", "table inet outpost", "nft add rule inet outpost inbound tcp dport 9999 accept"),
    Drift("store", "table inet evil", "nft add table inet evil; nft add chain inet evil out '{ type filter hook output priority -10; }'"),
    Drift("webmail", "net.ipv4.conf.all.accept_redirects", "sysctl -qw net.ipv4.conf.all.accept_redirects=1"),
    Drift("store", "net.ipv4.tcp_syncookies", "sysctl -qw net.ipv4.tcp_syncookies=0"),
    Drift("ns1", f"{PYTHON}/outpost/onhost/__pycache__/evil.cpython-313.pyc", f"mkdir -p {PYTHON}/outpost/onhost/__pycache__; echo 1 > {PYTHON}/outpost/onhost/__pycache__/evil.cpython-313.pyc"),
    Drift("ns1", "evil.example", "hostname evil.example"),
    Drift("ns1", "tcp 0.0.0.0 8099", f"systemd-run --quiet --unit=evil-web {SERVER} 8099; {listening('0.0.0.0:8099')}"),
    Drift("ns2", "tcp 0.0.0.0 8098", f"setsid {SERVER} 8098 >/dev/null 2>&1 </dev/null & {listening('0.0.0.0:8098')}"),
    Drift("store", "unbound.service", "unbound-control -q set_option val-permissive-mode: yes"),
    # Names, views and sockets of processes
    Drift("store", "udp 0.0.0.0 9997", "setsid " + PAUSING.format("ctypes, socket", 'ctypes.CDLL(None).prctl(15, b"unbound"); s = socket.socket(2, 2); s.bind(("0.0.0.0", 9997))', "")),
    Drift("ns1", "/memfd:kworker", "setsid " + PAUSING.format("os", 'f = os.memfd_create("kworker"); os.write(f, open("/usr/bin/sleep", "rb").read()); os.execve(f, ["kworker", "9999"], {})', "")),
    Drift("ns2", "python3.13", "setsid " + PAUSING.format("socket", "s = socket.socket(17, 3, 768)", "")),
    Drift("ns1", "chrony.service", "setsid " + PAUSING.format("ctypes, sys", "ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0)", "$(systemctl show -P MainPID chrony)"), "traced"),
    Drift("mta", "/usr/bin/sleep", "setsid sleep infinity >/dev/null 2>&1 </dev/null &", "left in the background ("),
    Drift("webmail", "/usr/bin/sleep", "sh -c 'for group in $(find /sys/fs/cgroup -path \"*/dbus.service/cgroup.procs\"); do echo $$ > $group; done; setsid sleep infinity >/dev/null 2>&1 </dev/null &'", "left in the background of dbus.service"),
    Drift("ns1", "/usr/bin/sleep", "sh -c 'group=$(ls -d /sys/fs/cgroup/systemd /sys/fs/cgroup 2>/dev/null | tail -n 1)/evil.service; mkdir -p $group; echo $$ > $group/cgroup.procs; setsid sleep infinity >/dev/null 2>&1 </dev/null &'", "left in the background"),
    Drift("webmail", "/etc/unbound/unbound.conf", "nsenter --target $(systemctl show -P MainPID unbound) --mount mount --bind /etc/hostname /etc/unbound/unbound.conf", "mounted by hand"),
    Drift("store", "ssh.service", "ln -s 0 /run/systemd/units/log-level-max:ssh.service", "journald"),
    Drift("mta", "shutdown", r"mkdir -p /run/systemd/shutdown; printf 'USEC=99999999999999999\nMODE=poweroff\n' > /run/systemd/shutdown/scheduled"),
    Drift("mta", "/run/evil", "mkdir -p /run/evil; mount -t tmpfs tmpfs /run/evil"),
    Drift("ns2", "chrony.service", "chronyc selectopts $(chronyc -c -N sources | cut -d , -f 3 | head -n 1) +noselect >/dev/null", "set not to follow"),
    Drift("webmail", "session-99.scope", "systemd-run --quiet --scope --unit=session-99 sleep infinity >/dev/null 2>&1 </dev/null &"),
    Drift("ns1", "outpost-undo-evil.timer", "systemd-run --quiet --unit=outpost-undo-evil --on-active=1h /bin/true"),
    Drift("ns2", "/etc/systemd/system-generators/evil.dpkg-del", "mkdir -p /etc/systemd/system-generators; printf '#!/bin/sh\\n' > /etc/systemd/system-generators/evil.dpkg-del; chmod 755 /etc/systemd/system-generators/evil.dpkg-del"),
    Drift("ns2", "ca-certificates", "sed -i '1,30s/^mozilla/!mozilla/' /etc/ca-certificates.conf; update-ca-certificates >/dev/null 2>&1"),
    Drift("mta", "/root/.gnupg/gpg.conf", "mkdir -p -m 700 /root/.gnupg; echo 'keyserver hkp://192.0.2.66' > /root/.gnupg/gpg.conf"),
    Drift("store", "/root/.terminfo/x/xterm", "mkdir -p /root/.terminfo/x; echo x > /root/.terminfo/x/xterm"),
    Drift("mta", "/root/.selected_editor", "echo 'SELECTED_EDITOR=\"/tmp/x\"' > /root/.selected_editor"),
    Drift("ns1", "/root/.config/git/config", r"mkdir -p /root/.config/git; printf '[core]\n\tpager = /tmp/x\n' > /root/.config/git/config"),
    Drift("ns2", "/run/host/userdb/evil.user", "mkdir -p /run/host/userdb; echo '{}' > /run/host/userdb/evil.user"),
    # Modes, links and marks that were nobody's finding, or that no repair could undo
    Drift("webmail", "/run/unbound.ctl", "chmod 0666 /run/unbound.ctl"),
    Drift("store", "/etc/shadow-", "chmod 0644 /etc/shadow-"),
    Drift("ns1", "/usr/bin/kdig", "chmod 0644 /usr/bin/kdig"),
    Drift("ns2", "/usr/bin/kdig", "chmod 0700 /usr/bin/kdig"),
    Drift("mta", "/var/spool/postfix/private", "chmod 0777 /var/spool/postfix/private"),
    Drift("webmail", "/var/spool/cron", "mkdir -p /opt/evil/cron; [ -e /var/spool/cron ] || ln -s /opt/evil/cron /var/spool/cron"),
    Drift("mta", "libnettle8t64", "apt-mark manual libnettle8t64 >/dev/null"),
    Drift("ns2", "openssh-server", "apt-mark auto openssh-server >/dev/null", "marked as installed automatically"),
    Drift("webmail", "chrony", "echo 'chrony deinstall' | dpkg --set-selections", "selected for deinstall"),
    Drift("webmail", "sensible-utils", "sed -i '/^Package: sensible-utils$/,/^$/s/^Version: .*/Version: 99:1/' /var/lib/dpkg/status", "its version was edited"),
    Drift("ns1", "/etc/ca-certificates.conf", "sed -i '1,30s/^mozilla/!mozilla/' /etc/ca-certificates.conf"),
    Drift("webmail", "/home/evil/bin/ls", "mkdir -p /home/evil/bin; echo true > /home/evil/bin/ls"),
    # Names that a pattern left out; sockets and code that no list showed
    Drift("mta", "/var/lib/clamav/.evil.NDB", "echo 'Evil:0:*:65766c' > /var/lib/clamav/.evil.NDB"),
    Drift("ns1", "/var/lib/knot/keys/data.mdb", "chmod 0644 /var/lib/knot/keys/data.mdb"),
    Drift("store", "python3.13", "setsid " + PAUSING.format("socket", 's = socket.socket(2, 2, 136); s.bind(("0.0.0.0", 9996))', "")),
    Drift("store", "/opt/evil/preloaded.so", "mkdir -p /opt/evil; cp /usr/lib/x86_64-linux-gnu/libz.so.1 /opt/evil/preloaded.so; systemctl set-environment LD_PRELOAD=/opt/evil/preloaded.so; systemctl restart outpost-logs; systemctl unset-environment LD_PRELOAD"),
    # What passed for a package's
    Drift("ns2", "/etc/cron.d/owned", r"mkdir -p /etc/cron.d; echo '# x' > /etc/cron.d/owned; printf '/.\n/etc/cron.d/owned\n' > /var/lib/dpkg/info/evil.list", cleared="rm /var/lib/dpkg/info/evil.list"),
    Drift("ns1", "evil-package", BUILT + "apt-mark auto evil-package >/dev/null", "an older version, or one that no source"),
    Drift("store", "evil-removed", r"printf '\nPackage: evil-removed\nStatus: deinstall ok config-files\nArchitecture: all\nMaintainer: x <x@x.test>\nVersion: 1\nDescription: x\n\n' >> /var/lib/dpkg/status; printf '/.\n/etc/cron.d/owned\n' > /var/lib/dpkg/info/evil-removed.list; mkdir -p /etc/cron.d; echo '# x' > /etc/cron.d/owned"),
    Drift("mta", "sensible-utils", DOWNGRADED.format(package="sensible-utils").replace("Version: 0", "Version: 99:1").replace("dpkg-deb --build", "echo >> x/usr/bin/sensible-editor; rm x/DEBIAN/md5sums; dpkg-deb --build"), "an older version, or one that no source"),
    Drift("webmail", "/usr/lib/systemd/system-generators/evil.cache", r"printf '#!/bin/sh\n' > /usr/lib/systemd/system-generators/evil.cache; chmod 755 /usr/lib/systemd/system-generators/evil.cache"),
    Drift("webmail", "/usr/share/zoneinfo/Etc/UTC", "printf x >> /usr/share/zoneinfo/Etc/UTC"),
    # Directories as a whole
    Drift("ns1", "/root/.ssh", "mkdir -p /opt/evil; mv /root/.ssh /opt/evil/ssh; ln -s /opt/evil/ssh /root/.ssh"),
    Drift("webmail", "/usr/share/roundcube/plugins/", "rm -r /usr/share/roundcube/plugins/zipdownload /usr/share/roundcube/plugins/vcard_attachments"),
    Drift("ns2", "/etc/many/", "mkdir /etc/many; for each in $(seq 600); do echo $each > /etc/many/$each; done"),
    Drift("ns2", "knot.service", loaded_and_reverted("/etc/knot/knot.conf", "s/^server:/server:\\n    rate-limit: 0/", "knotc reload >/dev/null 2>&1 || true")),
)  # fmt: skip


def inject(lab: Instance, drifts: tuple[Drift, ...]) -> None:
    """Change the hosts by hand."""
    for drift in drifts:
        on_host(lab, drift.host, drift.command)


def clear(lab: Instance, drifts: tuple[Drift, ...]) -> None:
    """Undo by hand what an apply does not repair."""
    for drift in drifts:
        if drift.cleared:
            on_host(lab, drift.host, drift.cleared)


def on_host(lab: Instance, host: str, command: str) -> str:
    """What shell says there."""
    return executed(["docker", "exec", lab.container_name(host), "sh", "-c", command], seconds=120)


def answered(lab: Instance, host: str) -> str:
    """Digest of the host's answer to the last question, which an hourly apply asks (`outpost.engine.unchanged`)."""
    checksum = on_host(lab, host, f'sh "$(ls -t {KEPT}/survey-* | head -n 1)" | sha256sum')
    return checksum.split()[0]


def named(outcome: Outcome, drift: Drift) -> bool:
    """Whether the plan's report names a drift with its cause and consequence."""
    return any(
        finding["host"] == drift.host
        and str(finding["thing"]).startswith(drift.thing)
        and finding["cause"]
        and str(finding["cause"]).startswith(drift.cause)
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
    clear(lab, drifts)
    run = pyinfra("-y", "--json")
    assert run.code == 0, run.log
    left = plan(target, connector="docker", watcher=Silent())
    assert [(change.host, change.operation) for change in left.changes] == []
    assert not left.findings


def test_a_dozen_drifts_are_named_and_repaired(lab: Instance, pyinfra: Pyinfra, target: Target) -> None:
    chosen = random.Random(SEED).sample(range(len(DRIFTS)), 12)  # noqa: S311 (no secret)
    all_named_and_repaired(lab, pyinfra, target, tuple(DRIFTS[number] for number in sorted(chosen)))


def test_a_host_that_lost_its_known_state_is_reported(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    memory = Drift("ns2", "/var/lib/outpost/known", "rm /var/lib/outpost/known")
    inject(lab, (memory,))
    assert named(plan(target, connector="docker", watcher=Silent(), limit=("ns2",)), memory)
    only = ("--limit", f"@container/{lab.container_name('ns2')}")
    assert pyinfra("-y", "--json", *only).code == 0
    assert pyinfra("--dry", "--json", *only).changes == {}


def test_a_host_that_lost_its_observer_is_reported(lab: Instance, pyinfra: Pyinfra, target: Target) -> None:
    observer = Drift("ns2", OBSERVER, f"rm {OBSERVER}")
    hidden = Drift("ns2", "/etc/sysctl.d/hidden.conf", "touch /etc/sysctl.d/hidden.conf")
    inject(lab, (observer, hidden))
    seen = plan(target, connector="docker", watcher=Silent(), limit=("ns2",))
    assert [finding["kind"] for finding in seen.findings if finding["thing"] == OBSERVER] == [
        "known state",
        "file",
    ]
    only = ("--limit", f"@container/{lab.container_name('ns2')}")
    assert pyinfra("-y", "--json", *only).code == 0
    gone = ["docker", "exec", lab.container_name("ns2"), "test", "!", "-e", hidden.thing]
    executed(gone)  # it must not be accepted, although no scan saw it arrive
    assert pyinfra("--dry", "--json", *only).changes == {}


@pytest.mark.control("SYS-08")
def test_an_apply_that_replaces_the_observer_repairs_what_the_former_one_named(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    """For a new observer everything unknown was there before it: an upgrade would leave the drift to a person."""
    drift = Drift("ns2", "/etc/cron.d/before", "mkdir -p /etc/cron.d; touch /etc/cron.d/before")
    key = secrets_file.read(target.data).seal_of(drift.host)
    former = f"echo '# of the version before' >> {PYTHON}/outpost/onhost/observe/places.py; {KEY}={key} {OBSERVER} remember"
    on_host(lab, drift.host, former)
    inject(lab, (drift,))
    assert named(plan(target, connector="docker", watcher=Silent(), limit=(drift.host,)), drift)
    only = ("--limit", f"@container/{lab.container_name(drift.host)}")
    run = pyinfra("-y", "--json", *only)
    assert run.code == 0, run.log
    assert on_host(lab, drift.host, f"ls {drift.thing} 2>/dev/null; true") == ""
    assert pyinfra("--dry", "--json", *only).changes == {}


@pytest.mark.parametrize(
    "edit",
    ["echo x >> {contract}", r"""sed -i 's|"accepted": \[|"accepted": ["file {hidden}",|' {contract}"""],
)
def test_an_apply_restores_an_edited_contract_before_it_uses_it(
    edit: str, lab: Instance, pyinfra: Pyinfra
) -> None:
    """Without its contract a host reports all accepted things as drift. A forged contract would hide what it names."""
    hidden, contract = "/etc/sysctl.d/hidden.conf", "/etc/outpost/contract.json"
    state = "sha256sum /root/.ssh/authorized_keys; systemctl is-enabled nftables console-getty; true"
    before = on_host(lab, "ns2", state)
    on_host(lab, "ns2", f"touch {hidden}; {edit.format(contract=contract, hidden=hidden)}")
    only = ("--limit", f"@container/{lab.container_name('ns2')}")
    run = pyinfra("-y", "--json", *only)
    assert run.code == 0, run.log
    assert on_host(lab, "ns2", state) == before
    assert on_host(lab, "ns2", f"ls {hidden} 2>/dev/null; true") == ""
    assert pyinfra("--dry", "--json", *only).changes == {}


FORGE = """
import os, re, subprocess, time
kept, drift = "/run/outpost/observed", "{drift}"
answers = {{name: open(f"{{kept}}/{{name}}").read() for name in os.listdir(kept) if name in ("look", "survey")}}
assert answers
def mark():
    subprocess.run(["/usr/local/lib/outpost/observe", "look"], env={{**os.environ, "OUTPOST_KEEPING_KEY": "guessed"}}, stdout=subprocess.DEVNULL)
    found = re.search("([0-9a-f]{{64}}) [0-9a-f]{{64}}", open(f"{{kept}}/look").read())
    return found and found[1]
def settled(*others):
    for _ in range(200):
        if (now := mark()) and now not in others:
            return now
    raise SystemExit("no mark")
before = re.search("([0-9a-f]{{64}}) [0-9a-f]{{64}}", open(f"{{kept}}/look").read())[1]
open(drift, "w").close()
after = settled(before)
for name, text in answers.items():
    open(f"{{kept}}/{{name}}", "w").write(text.replace(before, after))
"""
"""Give the host's cached answer the mark of its present files."""


def test_answers_that_an_intruder_writes_hide_nothing(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    """A host caches the answer to the last scan with a mark of its files. Root can compute the mark, and only the controller can seal the answer."""
    drift, only = "/etc/sysctl.d/forged.conf", ("--limit", f"@container/{lab.container_name('ns2')}")
    assert not plan(target, limit=("ns2",), connector="docker", watcher=Silent()).changes
    answers = unchanged.ask(target, "docker", ("ns2",))
    assert answers
    assert answers.as_declared() == ("ns2",)
    on_host(lab, "ns2", f"python3 -c {shlex.quote(FORGE.format(drift=drift))}")
    try:
        answers = unchanged.ask(target, "docker", ("ns2",))
        assert answers
        assert answers.as_declared() is None
        assert pyinfra("--dry", "--json", *only).changes
    finally:
        on_host(lab, "ns2", f"rm {drift}")
    assert pyinfra("--dry", "--json", *only).changes == {}


@pytest.mark.parametrize("drift", ["echo '# by hand' >> /etc/sudoers", "rm /etc/sudoers"])
def test_a_packages_file_comes_back_with_the_mode_that_its_package_gave_it(
    drift: str, lab: Instance, pyinfra: Pyinfra
) -> None:
    """The archive has another mode: sudo would refuse the file, and the check of the office's files would fail."""
    on_host(lab, "store", drift)
    assert pyinfra("-y", "--json", "--limit", f"@container/{lab.container_name('store')}").code == 0
    assert on_host(lab, "store", "visudo --check >/dev/null && stat --format=%a /etc/sudoers") == "440\n"


def test_a_program_that_a_link_replaced_comes_back_with_its_own_mode(lab: Instance, pyinfra: Pyinfra) -> None:
    """A link's own mode is 777: every account could replace a program with that mode."""
    on_host(lab, "ns1", "ln -sf /usr/bin/cat /usr/bin/tac")
    assert pyinfra("-y", "--json", "--limit", f"@container/{lab.container_name('ns1')}").code == 0
    assert on_host(lab, "ns1", "stat --format='%F %a' /usr/bin/tac") == "regular file 755\n"


@pytest.mark.slow
def test_every_known_drift_changes_what_its_host_answers(
    lab: Instance, pyinfra: Pyinfra, target: Target
) -> None:
    """Each drift is injected separately: the host never repeats its cached answer."""
    assert not plan(target, connector="docker", watcher=Silent()).changes
    reply = unchanged.ask(target, "docker", ())
    assert reply
    assert reply.as_declared()
    answers = {host.name: [answered(lab, host.name) for _ in range(3)] for host in lab.office.hosts}
    assert all(same[-1] == same[-2] for same in answers.values())
    hidden = []
    for drift in DRIFTS:
        inject(lab, (drift,))
        answers[drift.host].append(answered(lab, drift.host))
        if answers[drift.host][-1] in answers[drift.host][:-1]:
            hidden.append(drift)
    assert hidden == []
    clear(lab, DRIFTS)
    run = pyinfra("-y", "--json")
    assert run.code == 0, run.log
    assert not plan(target, connector="docker", watcher=Silent()).changes


@pytest.mark.slow
def test_every_known_drift_is_named_and_repaired(lab: Instance, pyinfra: Pyinfra, target: Target) -> None:
    assert len(DRIFTS) >= 100
    all_named_and_repaired(lab, pyinfra, target, DRIFTS)
