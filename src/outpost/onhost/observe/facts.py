"""Facts: names for the things in them, and which of them open a host."""

import re

from outpost.onhost.observe import debian
from outpost.onhost.observe.places import DEVICE

WORDS = {
    "account": "account {thing}", "address": "network address {thing}", "alias": "file {thing}", "architecture": "package {thing}",
    "capability": "file {thing}", "compiled": "file {thing}", "conffile": "conffile {thing}", "control": "package {thing}", "diversion": "package {thing}", "file": "file {thing}", "group": "group {thing}",
    "hold": "package {thing}", "keeper": "group {thing}", "link": "network link {thing}", "loopback": "listener {thing}",
    "manager": "environment of daemons {thing}", "member": "group {thing}: {value}", "mode": "mode {thing}", "mount": "mount {thing}",
    "mounted": "mount {thing}", "namespace": "network namespace {thing}", "neighbour": "network neighbour {thing}", "override": "package {thing}",
    "package": "package {thing}", "policy": "network policy {thing}", "program": "file {thing}", "queue": "traffic control {thing}", "route": "network route {thing}", "rule": "network rule {thing}",
    "rules": "packet filter rules of table {thing}", "running": "running {thing}", "setting": "kernel setting {thing}", "shadow": "account {thing}",
    "special": "file {thing}", "table": "packet filter table {thing}", "trigger": "database {thing}", "unit": "unit {thing}", "version": "package {thing}",
}  # fmt: skip
"""Kind of a fact → its name in a plan, and in the office file where a person accepts it."""
SEVERAL = ("member", "unit", "effective", "keeper", "rule", "neighbour", "route", "queue", "trigger")
"""Kinds of which one thing may have more than one value."""
GRAVE_KINDS = (
    "account", "capability", "group", "hold", "keeper", "manager", "member", "mounted", "namespace", "neighbour", "package", "policy", "program", "queue", "rule", "rules", "table",
    "trigger", "unit",
)  # fmt: skip
GRAVE_PLACES = (
    "/etc/apt/", "/etc/chrony/", "/etc/cron", "/etc/dovecot/", "/etc/dpkg/dpkg.cfg", "/etc/environment", "/etc/knot/", "/etc/ld.so", "/etc/modules-load.d/",
    "/etc/nginx/", "/etc/pam.d/", "/etc/php/", "/etc/postfix/", "/etc/profile", "/etc/rc.local", "/etc/redis/", "/etc/rspamd/", "/etc/security/",
    "/etc/shells", "/etc/ssh/", "/etc/ssl/certs/", "/etc/stunnel/", "/etc/sudoers", "/etc/sysctl", "/etc/systemd/", "/etc/udev/", "/etc/unbound/", "/home/", "/root/", "/usr/bin/",
    "/usr/lib/", "/usr/local/", "/usr/sbin/", "/var/lib/clamav/", "/var/lib/knot/", "/var/lib/rspamd/", "/var/lib/systemd/", "/var/spool/cron", "/var/www/",
)  # fmt: skip
"""Places where unexplained things open a host."""


def parts(fact: str) -> tuple[str, str, str]:
    """Kind, thing and value."""
    kind, thing, value = (*fact.split("\t", 2), "", "")[:3]
    return kind, thing, value


def account_of(value: str) -> tuple[str, str, str, str, str]:
    """Numbers, home, shell and state of an account; the shell may contain the separator (passwd(5))."""
    uid, gid, home, rest = value.split(":", 3)
    shell, _, state = rest.rpartition(":")
    return uid, gid, home, shell, state


def words(fact: str) -> str:
    """A fact's name for people."""
    kind, thing, value = parts(fact)
    return WORDS.get(kind, "").format(thing=thing, value=value)


def is_grave(fact: str) -> bool:
    """Whether a thing from before the first apply waits for a person's decision; of other kinds not all of the platform's are known."""
    kind, thing, value = parts(fact)
    if kind in ("mode", "special"):
        if not re.fullmatch(r"[0-7]+ \S+ \S+", value):  # a value that is no mode was written by hand
            return True
        return not harmless(value) and (kind == "mode" or bool(int(value.split(" ")[0], 8) & 0o6002))
    if kind == "conffile":
        return value != "missing"
    return (
        kind in GRAVE_KINDS
        or (kind, value) == ("file", DEVICE)
        or (kind in ("file", "alias") and thing.startswith(GRAVE_PLACES))
    )


def harmless(value: str) -> bool:
    """Whether mode and owner of a file or directory give no rights: not setuid, not writable for others, not owned by a user."""
    mode, owner, _ = value.split(" ")
    number = int(mode, 8)
    return not number & 0o6000 and (not number & 0o002 or bool(number & 0o1000)) and debian.is_system(owner)
