"""What a Debian 13 has that no package lists: its own accounts, and what maintainer scripts make, enable and open.

Measured on bare images and on provisioned hosts; everything else is shown to a person, never taken for granted.
"""

import functools
import pwd
import re

from outpost.onhost.observe.reading import lines_in

ENABLED = frozenset((
    "getty@tty1.service", "remote-fs.target", "systemd-pstore.service", "ssh-agent.socket", "machines.target",
    "clamav-daemon.socket",  # installed with its service (Also=)
    "netplan-ovs-cleanup.service",  # by the generator of netplan.io
))  # fmt: skip
"""Units that systemd's own package enables."""
NETWORK = frozenset((
    "systemd-networkd.service", "systemd-networkd.socket", "systemd-network-generator.service", "systemd-networkd-wait-online.service",
))  # fmt: skip
"""Units that a machine of a cloud has enabled before its first apply."""
ALIASES = {
    "dbus-org.freedesktop.network1.service": "systemd-networkd.service",
    "sshd.service": "ssh.service",
    "syslog.service": "rsyslog.service",
    "dbus-org.freedesktop.timesync1.service": "systemd-timesyncd.service",
}
USER_UNITS = frozenset(("/usr/lib/systemd/user/ssh-agent.socket",))
PLATFORM = (
    "linux-image-", "linux-headers-", "grub-", "shim-", "firmware-", "intel-microcode", "amd64-microcode", "console-setup", "keyboard-configuration",
    "locales", "task-", "tasksel", "qemu-guest-agent", "open-vm-tools", "lvm2", "cryptsetup", "mdadm", "openssl-provider-legacy", "btrfs-progs", "xfsprogs", "systemd-timesyncd",
    "cloud-guest-utils", "cloud-init", "cloud-initramfs-growroot", "gdisk", "netplan", "polkitd",  # of Debian's cloud images
)  # fmt: skip
"""Packages whose names begin so come with the machine, or are the installer's choice."""
ESSENTIAL = frozenset((
    "base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils", "diffutils", "dpkg", "findutils", "grep", "gzip", "hostname", "init",
    "init-system-helpers", "libc-bin", "libgcc-s1", "login", "ncurses-base", "ncurses-bin", "perl-base", "sed", "systemd-sysv", "sysvinit-utils", "tar", "util-linux",
))  # fmt: skip
"""Essential or protected packages of Debian 13: each host has them."""
STANDARD = frozenset(
    ("dbus-user-session", "krb5-locales", "netcat-traditional", "readline-common", "whiptail")
)
"""Important or standard packages by the archive's priorities, which dpkg does not know."""
OF_CLOUD_INIT = frozenset(
    ("cloud-init-hotplugd.socket", "/run/systemd/generator.early/multi-user.target.wants/cloud-init.target")
)
"""What a boot starts only while cloud-init is not disabled."""
RULES = frozenset(("0 from all lookup local", "32766 from all lookup main", "32767 from all lookup default"))
MOUNTED = frozenset(("/", "/boot", "/boot/efi", "/home", "/srv", "/usr", "/var", "/var/log"))
MOUNTED_BY_DOCKER = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts")
ENVIRONMENT = frozenset(("PATH", "HOME", "container"))
OVERRIDES = {
    "/etc/chrony/chrony.keys": "root _chrony 640", "/etc/knot": "root knot 750", "/etc/knot/knot.conf": "root knot 640", "/etc/redis/redis.conf": "redis redis 640", "/usr/sbin/postdrop": "root postdrop 2555",
    "/usr/sbin/postqueue": "root postdrop 2555", "/var/lib/php/sessions": "root root 1733",
    "/usr/lib/dbus-1.0/dbus-daemon-launch-helper": "root messagebus 4754", "/var/lib/chrony": "_chrony _chrony 750",
    "/etc/dovecot/private": "root root 700", "/etc/ssl/private": "root ssl-cert 710", "/var/lib/knot": "root knot 770", "/var/log/chrony": "_chrony _chrony 750",
}  # fmt: skip
CAPABILITIES = {"/usr/bin/ping": "0100000200200000000000000000000000000000"}
MODES = {
    "/etc": "755 root root", "/etc/group": "644 root root", "/etc/gshadow": "640 root shadow", "/etc/passwd": "644 root root",
    "/etc/shadow": "640 root shadow", "/etc/sudoers": "440 root root", "/root": "700 root root", "/tmp": "1777 root root",
    "/var/tmp": "1777 root root", "/var/log/journal": "2755 root systemd-journal",
}  # fmt: skip
SPECIAL = {
    "/etc/clamav/freshclam.conf": "444 clamav adm", "/etc/redis": "2770 redis redis", "/etc/redis/redis.conf": "640 redis redis",
    "/usr/bin/chage": "2755 root shadow", "/usr/bin/chfn": "4755 root root", "/usr/bin/chsh": "4755 root root",
    "/usr/bin/crontab": "2755 root crontab", "/usr/bin/dotlockfile": "2755 root mail", "/usr/bin/expiry": "2755 root shadow", "/usr/bin/fusermount3": "4755 root root",
    "/usr/bin/gpasswd": "4755 root root", "/usr/bin/mount": "4755 root root", "/usr/bin/newgrp": "4755 root root",
    "/usr/bin/passwd": "4755 root root", "/usr/bin/pkexec": "4755 root root", "/usr/bin/ssh-agent": "2755 root _ssh",
    "/usr/bin/su": "4755 root root", "/usr/bin/sudo": "4755 root root", "/usr/bin/umount": "4755 root root",
    "/usr/lib/dbus-1.0/dbus-daemon-launch-helper": "4754 root messagebus", "/usr/lib/openssh/ssh-keysign": "4755 root root",
    "/usr/lib/polkit-1/polkit-agent-helper-1": "4755 root root", "/usr/sbin/postdrop": "2555 root postdrop",
    "/usr/sbin/postqueue": "2555 root postdrop", "/usr/sbin/unix_chkpwd": "2755 root shadow",
}  # fmt: skip
"""Path → mode, owner and group of setuid files, or of files that anybody may write."""
TEMPLATES = {
    "/etc/apt/apt.conf.d/20auto-upgrades": "/usr/share/unattended-upgrades/20auto-upgrades",
    "/etc/apt/apt.conf.d/50unattended-upgrades": "/usr/share/unattended-upgrades/50unattended-upgrades",
    "/var/www/html/index.nginx-debian.html": "/usr/share/nginx/html/index.html",
    "/etc/inputrc": "/usr/share/readline/inputrc",
    "/etc/motd": "/usr/share/base-files/motd",
    "/etc/nsswitch.conf": "/usr/share/libc-bin/nsswitch.conf",
    "/etc/profile": "/usr/share/base-files/profile",
    "/etc/ssh/sshd_config": "/usr/share/openssh/sshd_config",
    "/root/.bashrc": "/usr/share/base-files/dot.bashrc",
    "/root/.profile": "/usr/share/base-files/dot.profile",
}
"""Path → the package's own copy of it."""
EMPTY = "e3b0c44298fc1c14"
CONTENTS = {
    "/etc/default/locale": ("link to ../locale.conf",), "/etc/dpkg/origins/default": ("link to debian",), "/etc/environment": (EMPTY,),
    "/etc/dovecot/private/dovecot.key": ("link to /etc/ssl/private/ssl-cert-snakeoil.key",),
    "/etc/dovecot/private/dovecot.pem": ("link to /etc/ssl/certs/ssl-cert-snakeoil.pem",), "/etc/postfix/dynamicmaps.cf": ("5101cbe9330da132",),
    "/etc/lighttpd/conf-enabled/90-javascript-alias.conf": ("link to ../conf-available/90-javascript-alias.conf",), "/etc/hosts.allow": ("9eadbcd7ec16f4e5",), "/etc/hosts.deny": ("1d0a326106184ef6",), "/etc/networks": ("5d4e51c4918360ab",),
    "/etc/pam.d/common-account": ("aa8a63d72e79399b",), "/etc/pam.d/common-auth": ("b787b01c7e71c658",),
    "/etc/pam.d/common-password": ("a76bcfdcb1243629",), "/etc/pam.d/common-session": ("f1ee6802a30cba8a", "17daa6e8d80e82a5"),
    "/etc/pam.d/common-session-noninteractive": ("5c624c6f8a8c9b1c",), "/etc/python3/debian_config": ("baac6583459b290d",),
    "/etc/runit/runsvdir/default/ssh": ("link to /etc/sv/ssh",), "/etc/security/opasswd": (EMPTY,), "/etc/shells": ("7c3c5b8e005446ba",),
    "/etc/subgid": (EMPTY,), "/etc/subuid": (EMPTY,), "/etc/vconsole.conf": ("link to default/keyboard",), "/usr/local/man": ("link to share/man",),
    # cloud-init's file; its settings for passwords have no effect, because sshd reads the office's own file first
    "/etc/ssh/sshd_config.d/50-cloud-init.conf": ("6bf43c7543d384fe", "474ef6932d6b998e"),
    "/etc/apt/apt.conf.d/90cloud-init-pipelining": ("74feab1a037ec762",),
}  # fmt: skip
"""Path → digests (`reading.fingerprint`) of files that Debian makes, or where its links lead."""
MADE = re.compile(
    r"^/etc/(chrony/chrony\.keys|fstab|host(name|s)|machine-id|resolv\.conf|ssl/\w+/ssl-cert-snakeoil\.(pem|key)|ssh/ssh_host_\w+_key(\.pub)?)\Z"
    r"|^/usr/lib/locale/locale-archive\Z|^/usr/share/rspamd/www/(css|fonts|js)/|^/usr/share/dovecot/protocols\.d/\w+\.protocol\Z"
)
"""Files that scripts of packages and the installer make, with content specific to the host."""

CARDS = re.compile(
    r"^/etc/(netplan/[\w.-]+\.yaml|network/interfaces(\.d/[\w.-]+)?|systemd/network/[\w.-]+\.(link|netdev|network))\Z"
)
"""Files of an installer or of cloud-init that configure the host's cards."""
INTERFACES = re.compile(
    r"(#.*|source(-directory)? /etc/network/interfaces\.d(/\*)?|iface [\w.:@-]+ inet6? (auto|dhcp|loopback|manual|static)"
    r"|(address|allow-hotplug|auto|broadcast|dns-(domain|nameservers?|search)|gateway|metric|mtu|netmask|network)([ \t][\w.:/@ \t-]*)?)?"
)
"""Lines of interfaces(5), without the white space around, that start no program. The other files of cards cannot start one."""


WRITTEN = frozenset((
    # from Debian's standard system, cloud images and boot loaders
    "/etc/apt/listchanges.conf", "/etc/cloud/cloud.cfg.d/90_dpkg.cfg", "/etc/default/console-setup", "/etc/default/grub", "/etc/default/keyboard",
    "/etc/ssh/sshd_config",
    # from the roles' packages
    "/etc/clamav/freshclam.conf", "/etc/dbconfig-common/config", "/etc/dbconfig-common/roundcube.conf", "/etc/logrotate.d/clamav-freshclam",
    "/etc/roundcube/config.inc.php", "/etc/roundcube/debian-db.php",
))  # fmt: skip
"""Files that packages' scripts write and install by ucf(1); for all other files of ucf the package has the original."""


@functools.cache
def kept_by_ucf() -> frozenset[str]:
    """Digest (MD5) and path of configuration files as packages installed them (ucf(1))."""
    return frozenset(" ".join(line.split()) for line in lines_in("/var/lib/ucf/hashfile"))


@functools.cache
def accounts() -> frozenset[str]:
    """Accounts that every Debian has."""
    fields = (line.split(":") for line in lines_in("/usr/share/base-passwd/passwd.master"))
    return frozenset(":".join((name, uid, gid, home, shell)) for name, _, uid, gid, _, home, shell in fields)


@functools.cache
def groups() -> frozenset[str]:
    """Groups that every Debian has, as lines."""
    return frozenset(lines_in("/usr/share/base-passwd/group.master"))


def is_system(name: str) -> bool:
    """Whether an account is root's or a daemon's."""
    try:
        return pwd.getpwnam(name).pw_uid < 1000
    except KeyError:
        return False
