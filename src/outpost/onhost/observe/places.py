"""The places that are scanned, and those that are left out."""

import glob
import os
import re

WATCHED = (
    "/etc", "/root/.ssh", "/root/.config", "/root/.local/bin", "/root/.local/lib", "/root/.local/share/bash-completion",
    "/root/.local/share/systemd", "/root/.vim", "/root/.terminfo", "/root/.ipython/profile_default/startup", "/run/binfmt.d", "/run/confexts", "/run/credstore", "/run/credstore.encrypted", "/run/dbus-1", "/run/environment.d", "/run/extensions", "/run/host", "/run/modprobe.d", "/run/modules-load.d", "/run/polkit-1", "/run/sysctl.d", "/run/systemd/*.conf.d", "/run/systemd/*-generators", "/run/systemd/*-preset", "/run/systemd/generator.early", "/run/systemd/network",
    "/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/system.control", "/run/systemd/user", "/run/sysusers.d",
    "/run/tmpfiles.d", "/run/udev/rules.d", "/run/userdb", "/usr/local", "/var/lib/confexts", "/var/lib/extensions", "/var/lib/knot/confdb", "/var/lib/portables",
    "/var/lib/systemd/linger", "/var/spool/cron", "/var/spool/postfix/etc", "/var/spool/postfix/lib", "/var/spool/postfix/usr", "/var/www",
)  # fmt: skip
CHROOT = "/var/spool/postfix"
"""Postfix copies files of the host into it when it starts; some of its processes see only these."""
HOMES = (
    "bin",
    ".config",
    ".local/bin",
    ".local/lib",
    ".local/share/bash-completion",
    ".local/share/systemd",
    ".ssh",
    ".vim",
    ".terminfo",
    ".ipython/profile_default/startup",
)
MERGED = ("/bin", "/lib", "/lib64", "/sbin")
"""Links to the same names below /usr; every shell script starts with the first of them."""
TRANSIENT = "/run/systemd/transient"
"""Transient units (systemd-run(1)); one with a lasting unit's name takes precedence, even over files in /etc."""
SINGLE = (
    "/boot/grub/custom.cfg", "/run/initramfs/shutdown", "/run/nologin",
    *(f"{home}/{name}" for home in ("/root", "/home/*") for name in (".[!.]*", ".gnupg/*.conf", ".emacs.d/*.el", ".docker/config.json")),
    *(f"{TRANSIENT}/*.{kind}{inner}" for kind in ("path", "service", "socket", "timer") for inner in ("", ".d/*")),
)  # fmt: skip
UNSCANNED = ("/var/lib/clamav/*", "/var/lib/clamav/.*", "/var/lib/rspamd/rspamd_dynamic*")
"""Files that change what scanners find. clamd loads any name with one of its endings, in capitals and with a dot before it, too."""
PARTS = ("/var/lib/roundcube/*",)
"""Links to parts of a package's program, which no checksum covers, and directories beside them."""
COMMANDS = ("/usr/bin", "/usr/sbin")
PROGRAMS = (*COMMANDS, "/usr/libexec", "/usr/lib", "/usr/share")
"""Packages' programs, and what runs by itself, without `FOR_PEOPLE`; each file must be the package's, and no other file may be there."""
COMMANDS_BELOW = tuple(f"{place}/" for place in COMMANDS)
PACKAGES_OWN = (*PROGRAMS, *(f"/var/lib/roundcube/{part}" for part in ("plugins", "public_html", "skins")))
"""With other places that only packages fill."""
GUARDED = (
    "/", "/home", "/run", "/srv", "/var", "/var/lib", "/var/spool", "/etc", "/etc/group", "/etc/gshadow", "/etc/outpost/tls", "/etc/passwd", "/etc/shadow", "/etc/ssh",
    "/etc/ssh/ssh_host_ed25519_key", "/etc/sudoers", "/etc/sudoers.d", "/root", "/srv/mail", "/tmp", "/usr/local/bin",
    "/var/lib/outpost", "/var/log", "/var/log/journal", "/var/spool/postfix", "/var/tmp", "/etc/rspamd/dkim",
    "/var/lib/knot/keys", "/var/lib/knot/keys/data.mdb", "/var/lib/knot/keys/lock.mdb",
)  # fmt: skip
TREES = ("/etc", "/opt", "/root", "/usr")
"""Everything below is scanned for the mark of files (`kept_answers`), except what is in `FOR_PEOPLE`."""
FOR_PEOPLE = (
    "/usr/share/bug", "/usr/share/doc", "/usr/share/info", "/usr/share/lintian", "/usr/share/locale", "/usr/share/man", "/usr/share/zoneinfo",
)  # fmt: skip
"""Files that are read and not run; a third of all files."""
DATABASE = "/var/lib/dpkg"
"""The packages' own records; they change when packages do."""
CONTAINERS = (
    ("/var/lib/docker/",) if any(map(os.path.exists, ("/usr/sbin/dockerd", "/usr/bin/dockerd"))) else ()
)
"""Other systems' files and mounts, where Docker is installed."""
ELSEWHERE = (
    "/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/srv/mail", DATABASE, *(place.rstrip("/") for place in CONTAINERS),
)  # fmt: skip
"""Where files that `SPECIAL` selects are not searched."""
SPECIAL = (
    r"-type f -perm /6000 -o -type f -perm -0002 -o -type d -perm -0002 ! -perm -1000 -o -type b -o -type c"
)
"""find(1): setuid programs, files that anybody may write, and devices."""
DEVICE = "device"
"""The value of a file's fact if the file is a device."""
STARTED = "-type f -perm /0111"
"""find(1): files that an account may start."""
LISTED = r"-printf '%m %u %g %y|%p\0' | tr '\n\0' '\001\n'"
"""One line for each; a name may contain a line feed."""
STATE_OF_DAEMONS = ("/var/lib/*", "/var/log/*", "/var/spool/*", "/var/spool/postfix/*")
PASSING = re.compile(
    # SYS-08: without \Z a name that ends in a line feed passes, too: systemd runs a generator with such a name.
    # names that no program reads as its configuration; systemd runs generators that end in .dpkg-del
    r"(^|/)\.\S*\.swp\Z|\S\.(dpkg-(bak|dist|new|old|tmp)|ucf-(dist|new|old))\Z"
    r"|^/etc/(ld\.so\.cache|(aliases|postfix/\w+)\.(db|lmdb)|cron\.\w+/\.placeholder|unbound/unbound_\w+\.(key|pem))\Z|^/usr/(?!local/)\S+/(giomodule|gconv-modules|icon-theme|immodules|loaders|mimeinfo)\.cache\Z"
    r"|^/usr/(local/share/|share/|lib/)(fonts|mime|man)/|^/usr/lib/(modules/[^/]+/modules\.[\w.]+\Z|udev/hwdb\.bin\Z)|^/var/lib/clamav/((bytecode|daily|main)\.(cld|cvd)|freshclam\.dat|tmp\.[0-9a-f]+)\Z"
    # what the system and its packages make themselves; accounts and authorities have scans of their own
    r"|^/etc/(ssl/certs/ca-certificates\.crt\Z|rc[0-6S]\.d/|init\.d/\.depend|mtab\Z|\.pwd\.lock\Z|\.updated\Z|adjtime\Z|mailcap\Z"
    r"|(passwd|shadow|group|gshadow)-?\Z|sub[ug]id-\Z|udev/hwdb\.bin\Z)"
)


NEW = ".outpost-new"
"""Ends the name under which an apply writes a declared file, before it moves the file to its place."""
COMPILED = re.compile(r"^/usr/(?!local/)\S+/__pycache__/[^/\s]+\.pyc\Z")
"""What Python makes of packages' sources, and loads instead of them."""


def expanded(places: tuple[str, ...]) -> list[str]:
    return [found for place in places for found in (glob.glob(place) if "*" in place else [place])]
