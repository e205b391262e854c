"""Finding templates, in one file because the first that matches wins: each kind's name, consequence, controls that it breaks, and repair."""

import shlex

from outpost.drift import network_repairs, repairs
from outpost.drift.differences import (
    Difference,
    Meaning,
    always,
    came,
    changed,
    lines,
    named,
    only_came,
    only_went,
    went,
)
from outpost.drift.repairs import APT, MOUNTS
from outpost.onhost.observe import OBSERVER
from outpost.onhost.observe.asking import REDIS
from outpost.onhost.observe.network import UNSURE
from outpost.onhost.observe.packages import REMOVED
from outpost.onhost.observe.units import SHUTDOWN
from outpost.units import restarted


def _is_another_password(it: Difference) -> bool:
    """False if a password was locked."""
    old, new = (it.old[0] if it.old else ""), (it.new[0] if it.new else "")
    locks = new.endswith(" locked") and not old.endswith(" locked")
    return went(it) and not locks


def _moded(it: Difference) -> str:
    """The change of a thing whose type, permissions and owner are known."""
    if not it.new:
        return "removed by hand"
    if it.new[0].startswith("120"):
        return "a symbolic link has taken its place"
    return "permissions or owner changed by hand"


def _asked_of(it: Difference) -> str:
    """The unit whose daemon answered; a version follows it."""
    return it.thing.partition("@")[0] if it.thing.count("@") == 1 else it.thing.rpartition("@")[0]


def _listening(it: Difference) -> tuple[str, str]:
    """Process and unit of a listener."""
    _, pid, unit = ("", "", *it.new[0].rsplit(" ", 2))[-3:]
    return pid, unit


def _running(it: Difference) -> str:
    pid, unit = _listening(it)
    return unit or f"process {pid}"


def _left(it: Difference) -> str:
    pid, unit = _listening(it)
    where = f"in the background of {unit}" if unit else "in the background"
    return f"left {where} (process {pid}); no service has it as its daemon"


def _listens(it: Difference) -> str:
    pid, unit = _listening(it)
    return f"{it.new[0].partition(' ')[0]} ({unit or f'process {pid}'}) listens; no flow leads there"


STATES = (
    Meaning(
        "conffile", came, lambda it: "missing" if it.new[0] == "missing" else "a package's file, edited by hand",
        "the daemon reads it, too: it may not work as the office declares",
        ("SYS-08",), lambda it: repairs.from_package(it.thing),
    ),
    Meaning(
        "compiled", came, "compiled code of a package's Python module, changed by hand", "every program that uses the module runs this code instead of the source", ("SYS-08",),
        lambda it: f"rm -f {it.quoted}", "file",
    ),
    Meaning(
        "running", only_went, "stopped by hand", "its service is missing on the host", ("AVL-01",),
        lambda it: f"systemctl start {it.quoted}",
    ),
    Meaning(
        "running", only_came, "started by hand; no role declares it",
        "a daemon that nobody maintains runs with a configuration that nobody has checked", ("SYS-04",),
        lambda it: f"systemctl stop {it.quoted}",
    ),
    Meaning(
        "package", lambda it: bool(it.new) and it.thing not in it.packages, "installed, or marked as wanted, by hand; no role declares it",
        "its programs and daemons can be attacked, and nobody patches them", ("SYS-04",),
        lambda it: repairs.remove_package(it.thing, it.packages),
    ),
    Meaning(
        "package", only_went, "removed by hand, or no longer marked as wanted", "the host may lack a program that it needs", ("SYS-04",),
        lambda it: f"{APT} install {it.quoted} </dev/null",
    ),
    Meaning(
        "version", came, "an older version, or one that no source of apt has, installed by hand",
        "repaired security holes are open again, or it has programs that Debian has not signed", ("SYS-06",),
        lambda it: repairs.from_source(it.thing, it.packages), "package", lines,
    ),
    Meaning(
        "version", always, "removed by hand, although other packages need it", "programs that need it fail at their next start, and apt refuses to work",
        ("SYS-04",), f"{APT} --fix-broken install </dev/null", "package",
    ),
    Meaning(
        "hold", came, lambda it: "put on hold by hand" if not it.new[0] else f"selected for {it.new[0]} by hand",
        lambda it: "it gets no security upgrades" if not it.new[0] else "the next upgrade may remove it", ("SYS-06",),
        lambda it: f"echo {it.quoted} install | dpkg --set-selections", "package",
    ),
    Meaning(
        "diversion", came, lambda it: f"diverted by hand {it.new[0]}", "upgrades of its package do not change it", ("SYS-06", "SYS-08"),
        lambda it: f"dpkg-divert --quiet --rename --remove {it.quoted} || dpkg-divert --quiet --no-rename --remove {it.quoted}", "package",
    ),
    Meaning(
        "override", came, lambda it: f"owner and mode overridden by hand ({it.new[0]})", "every upgrade sets them again", ("SYS-08",),
        lambda it: f"dpkg-statoverride --quiet --remove {it.quoted}", "package",
    ),
    Meaning(
        "architecture", came, "an architecture that was added by hand", "packages that the office has not chosen may be installed", ("SYS-04",),
        lambda it: f"dpkg --remove-architecture {it.quoted} || true", "package",
    ),
    Meaning(
        "control", lambda it: it.new == (REMOVED,), "written into dpkg's status by hand, as a package that was removed; no apply has seen it here",
        "each file that its list names counts as a package's, and no plan names it", ("SYS-08",),
        lambda it: repairs.forgotten(it.thing), "package",
    ),
    Meaning(
        "control", lambda it: bool(it.new and it.old) and it.new[0].rpartition(" ")[2] == it.old[0].rpartition(" ")[2],
        "its version was edited by hand in dpkg's status", "it gets no security upgrades", ("SYS-06",),
        lambda it: repairs.from_source(it.thing, it.packages),
        "package", lines,
    ),
    Meaning(
        "control", always, "its record in dpkg's database was edited by hand: a maintainer script, a checksum or the list of files",
        "the next upgrade runs its scripts as root, and changed programs may pass for the package's", ("SYS-06", "SYS-08"),
        lambda it: repairs.control_files(it.thing), "package", lines,
    ),
    Meaning(
        "program", came, lambda it: f"a package's program, {'removed' if it.new[0] == 'missing' else 'changed'} by hand",
        "the program is not the one that Debian signed", ("SYS-08",), lambda it: repairs.from_package(it.thing), "file",
    ),
    Meaning(
        "capability", came, "capabilities added by hand", "every account that may start it has some of root's rights", ("SYS-09",), repairs.capabilities, "file", lines,
    ),
    Meaning(
        "capability", always, "capabilities removed by hand", "programs that need it do not work", ("SYS-09",), repairs.capabilities, "file", lines,
    ),
    Meaning(
        "alias", changed, "its target was changed by hand", "its name leads to another program or file", ("SYS-08",),
        lambda it: repairs.linked_again(it.thing, it.old[0].removeprefix("link to ")), "file", lines,
    ),
    Meaning(
        "alias", only_came, "its target was changed by hand to a file of no package", "its name leads to another program or file", ("SYS-08",),
        lambda it: repairs.from_package(it.thing), "file", lines,
    ),
    Meaning(
        "group", changed, "its number was changed by hand", "files of the group belong to nobody, or to another group", ("SYS-09",),
        lambda it: repairs.numbered(it.thing, it.old[0]), shows=lines,
    ),
    Meaning(
        "group", came, "its number was changed by hand to that of another group", "members of one group have the rights of the other", ("SYS-09",),
        lambda it: f"groupdel {it.quoted}", shows=lines,
    ),
    Meaning(
        "group", went, "removed by hand", "files of the group belong to nobody, or to another group", ("SYS-09",),
        lambda it: f"groupadd --gid {shlex.quote(it.old[0])} {it.quoted}", shows=lines,
    ),
    Meaning(
        "keeper", came, lambda it: f"opened by hand to {it.new[0]}", "that account can add members to the group", ("SYS-09",),
        lambda it: f"gpasswd --remove-password {it.quoted} && gpasswd --administrators '' {it.quoted}", "group", lines,
    ),
    Meaning(
        "shadow", _is_another_password, "password or expiry date set by hand", "a stranger may be able to log in, or its user no longer can",
        ("SYS-09",), lambda it: repairs.shadow(it.thing), "account",
    ),
    Meaning(
        "mode", went, _moded,
        "other accounts may read or replace it", ("SYS-09", "SEC-01"), repairs.with_mode, shows=lines,
    ),
    Meaning(
        "mount", went, lambda it: "mounted with other options" if it.new else "not mounted",
        "programs may be stored and run where only data belongs", ("VIR-05",),
        lambda it: f"! systemctl is-enabled --quiet {MOUNTS} 2>/dev/null || systemctl restart {MOUNTS}; "
        f"mount -o {shlex.quote(f'remount,bind,{it.old[0]}')} {it.quoted}", shows=lines,
    ),
    Meaning(
        "mounted", came, "mounted by hand", "it hides the files below; the files that are visible instead may belong to anybody", ("VIR-05",),
        repairs.unmounted, "mount",
    ),
    Meaning(
        "setting", changed, "changed in the running kernel", "the kernel works differently until the next boot", ("SYS-02",),
        lambda it: f"sysctl --quiet --write {shlex.quote(f'{it.thing}={it.old[0]}')}", "kernel setting", lines,
    ),
    Meaning(
        "manager", always, lambda it: "set by hand" if it.new else "removed by hand", "every daemon that starts from now on inherits it", ("SYS-08",),
        lambda it: f"systemctl set-environment {shlex.quote(f'{it.thing}={it.old[0]}')}" if it.old
        else f"systemctl unset-environment {it.quoted}", "environment of daemons", lines,
    ),
    Meaning(
        "table", came, "added by hand", "it can refuse or redirect what the office's flows allow", ("NET-01",),
        lambda it: network_repairs.table_away(it.thing), "packet filter", thing=lambda it: f"table {it.thing}",
    ),
    Meaning(
        "rules", changed, "changed by hand", "it can refuse or redirect what the office's flows allow", ("NET-01",),
        "", "packet filter", thing=lambda it: f"rules of table {it.thing}",
    ),
    Meaning(
        "queue", came, lambda it: f"traffic control set by hand ({', '.join(it.new)})", "it can delay, drop, copy or redirect every packet of that interface",
        ("NET-02",), network_repairs.queue_away, "traffic control",
    ),
    Meaning(
        "queue", only_went, "the office's traffic control was removed by hand", "one large message holds the line for everybody", ("AMP-03",),
        restarted("outpost-shaping.service", only_running=True), "traffic control",
    ),
    Meaning(
        "policy", came, lambda it: f"an IPsec policy set by hand ({it.new[0]})", "it can drop, encapsulate or redirect these packets, past the packet filter",
        ("NET-02",), repairs.policy_away, "network policy",
    ),
    Meaning(
        "trigger", came, lambda it: f"a trigger or view added by hand ({', '.join(value.split(' ', 2)[2] for value in it.new)})",
        "it runs with each write of the daemon and can change or copy what users keep there", ("SYS-08",), repairs.trigger_away, "database",
    ),
    Meaning(
        "loopback", came, lambda it: f"{it.new[0]} listens on the loopback interface; somebody started it",
        "every account on the host can connect to it", ("SYS-05",), lambda it: repairs.end_listening(it.thing, it.new[0]), "listener",
    ),
    Meaning(
        "effective", always, "the daemon's own answer has changed since the last apply",
        "it runs with another configuration than the declared one", ("SYS-08",),
        lambda it: repairs.restart(_asked_of(it)), "effective configuration", lines, _asked_of,
    ),
)  # fmt: skip
"""Finding templates for changed states: the first match wins; without a match there is no finding."""


FAULTS = (
    Meaning(
        "blind", always, lambda it: f"cannot be observed: {it.new[0]}", "drift there is neither reported nor repaired, and nothing is remembered",
        ("SYS-08",), "", "observation",
    ),
    Meaning(
        "edited", always, "not as an apply of this office wrote it", "somebody edited it to hide things from the plan; each thing that only it explains is reported. "
        "Remedy: examine the host; the next apply seals what is left", ("SYS-08",), "", "known state",
    ),
    Meaning(
        "locked", always, lambda it: f"made {it.new[0]} by hand", "no apply can replace the file", ("SYS-08",),
        lambda it: f"{OBSERVER} release {it.quoted}", "file",
    ),
    Meaning(
        "acl", always, "an access list (ACL) added by hand", "accounts may read or write it that its mode keeps out", ("SYS-09",),
        lambda it: f"{OBSERVER} release {it.quoted}", "file",
    ),
    Meaning(
        "linked", always, "a second name (a hard link) added by hand", "an account that may write to the other name changes this file", ("SYS-09",),
        lambda it: f"{OBSERVER} release {it.quoted}", "file",
    ),
    Meaning(
        "held", always, "put on hold by hand", "nothing there is delivered until somebody releases it. Remedy: run `./outpost queue OFFICE --release all`, or "
        "`--hold` with each queue id that has to wait", ("QUE-01",), "", "messages on hold", lambda it: it.new, "mail queue",
    ),
    Meaning(
        "function", always, lambda it: f"a library of functions loaded by hand ({it.new[0]})", "it survives a restart, and its clients can run its code",
        ("SYS-08",), f"redis-cli {REDIS} function flush >/dev/null", "database",
    ),
    Meaning(
        "timer", always, lambda it: f"a key's date set by hand ({it.new[0].split(' ')[1]})" if it.new[0][-1].isdigit() and " second " not in it.new[0] else it.new[0],
        lambda it: "anybody who has that key can sign false records of the office. Remedy: run `keymgr ZONE list`, and `keymgr ZONE set KEY retire=+0 remove=+1d` "
        "for the key that no rollover made" if " second " in it.new[0]
        else "from that date its zone has no valid signature, and resolvers that validate do not find the office's names", ("DNS-01",),
        lambda it: repairs.unset_timer(it.thing, it.new[0]), "signing key",
    ),
    Meaning(
        "anchor", always, lambda it: f"a key of the root added by hand ({it.new[0]})", "anybody who has that key can forge every DNS answer to the host", ("DNS-07",),
        lambda it: f"systemctl stop unbound.service; install -T -o unbound -g unbound -m 0644 /usr/share/dns/root.key {it.quoted}; systemctl start unbound.service", "trust anchor",
    ),
    Meaning(
        "library", always, "added to the dynamic linker's configuration by hand", "it loads code into programs", ("SYS-08",), "ldconfig", "file",
    ),
    Meaning(
        "halted", always, lambda it: f"stopped by a signal ({it.new[0]})", "its process exists, and does nothing", ("AVL-01",),
        lambda it: f"kill -CONT {shlex.quote(it.new[0].rpartition(' ')[2])} 2>/dev/null || true", "unit",
    ),
    Meaning(
        "muted", always, lambda it: f"set to {it.new[0]} in the running systemd by hand",
        lambda it: "services that hang are not ended" if it.thing.startswith("Service") else "systemd does not log what it starts, ends and fails to start",
        ("LOG-01",), "systemctl log-target auto; systemctl log-level info; systemctl service-watchdogs yes", "systemd",
    ),
    Meaning(
        "astray", always, lambda it: f"a link put there by hand; it leads to {it.new[0]}", "the user of the mailbox can read, change or delete files there that are not theirs",
        ("SYS-09",), lambda it: f"runuser -u vmail -- rm -f -- {it.quoted}", "file",
    ),
    Meaning(
        "granted", always, "its rights were written by hand, or are those of former members", "users read or change mail there to whom the office gives no right",
        ("SYS-09",), lambda it: f"runuser -u vmail -- cp -- {named(it.new[0])} {it.quoted}", "file",
    ),
    Meaning(
        "paused", always, lambda it: f"{it.new[0]} by hand" if it.new[0] else "frozen by hand" if it.thing.startswith("zone ") else "set by hand to write to memory only",
        lambda it: "the clock drifts" if it.new[0] else "its signatures are not renewed, and its changes are not published" if it.thing.startswith("zone ")
        else "what is logged is lost with the next restart",
        ("AVL-01",), lambda it: restarted("chrony.service", only_running=True) if it.new[0] else f"knotc zone-thaw {shlex.quote(it.thing.removeprefix('zone '))} >/dev/null"
        if it.thing.startswith("zone ") else "journalctl --flush", "daemon",
    ),
    Meaning(
        "frozen", always, "frozen by hand", "its processes exist, and do nothing", ("AVL-01",),
        lambda it: f"echo 0 > {shlex.quote(it.new[0])}/cgroup.freeze; systemctl thaw {it.quoted} || true", "unit",
    ),
    Meaning(
        "unconfined", always, lambda it: f"its profile of AppArmor is not enforced ({it.new[0]})", "an intruder in the daemon has one barrier less to pass", ("SYS-03",),
        lambda it: f"systemctl reload apparmor.service; {restarted(it.quoted, only_running=True)}", "unit",
    ),
    Meaning(
        "traced", always, "traced by hand (ptrace(2))", "who traces it can read its memory, passwords included, and can change what it does", ("SYS-08",),
        lambda it: f"kill -KILL {shlex.quote(it.new[0].rpartition(' ')[2])} 2>/dev/null || true", "unit",
    ),
    Meaning(
        "foreign", always, lambda it: f"runs ({_running(it)}); no package and no role has this program or library",
        lambda it: f"nobody knows what it does. Remedy: if it belongs there, put `{it.thing}` into hosts.NAME.local of the office file", ("SYS-04",),
        lambda it: repairs.ended(*_listening(it)), "program",
    ),
    Meaning(
        "background", always, _left,
        lambda it: f"nobody knows what it does. Remedy: if it belongs there, put `{it.thing}` into hosts.NAME.local of the office file", ("SYS-04",),
        lambda it: repairs.ended(_listening(it)[0], ""), "program",
    ),
    Meaning(
        "sniffer", always, lambda it: f"a packet, raw or UDP-Lite socket, opened by hand ({_running(it)})", "it can read the host's traffic or take commands, and no listener shows it",
        ("NET-02",), lambda it: repairs.ended(*_listening(it)), "socket",
    ),
    Meaning(
        "within", always, lambda it: f"mounted by hand where only {_running(it)} sees it", "that daemon reads other files under this name than everybody else", ("SYS-08",),
        lambda it: repairs.ended(*_listening(it)), "mount",
    ),
    Meaning(
        "hushed", always, "journald was set by hand to drop its messages", "what its daemon does is not logged", ("LOG-01",),
        lambda it: repairs.heard(it.new[0]), "unit",
    ),
    Meaning(
        "scheduled", always, lambda it: f"scheduled by hand ({it.new[0] or 'unknown'})", "the host stops at that time, and does not come back", ("AVL-01",),
        f"shutdown -c 2>/dev/null || true; rm -f {SHUTDOWN}", "host",
    ),
    Meaning(
        "deleted", always, lambda it: f"deleted by hand, and still written by {it.new[0] or 'a process'}", "nobody can read what is logged there",
        ("LOG-01",), lambda it: restarted(shlex.quote(it.new[0]), only_running=True) if it.new[0].endswith(".service") else "", "file",
    ),
    Meaning(
        "index", always, "its index of modules was changed by hand", "the kernel may load a module from anywhere", ("SYS-02",),
        lambda it: f"depmod {named(it.thing.rpartition('/')[2])}", "kernel modules",
    ),
    Meaning(
        "module", always, "loaded by hand, although the office forbids it", "it gives an intruder more of the kernel to attack", ("SYS-02",),
        lambda it: f"modprobe --remove {it.quoted} || rmmod {it.quoted}", "kernel module",
    ),
    Meaning(
        "handler", always, "registered by hand to start programs of one format (binfmt_misc)", "it runs instead of them, with the rights of the user who starts them", ("SYS-08",),
        lambda it: f"echo -1 > {it.quoted}", "binary format",
    ),
    Meaning(
        "failed", always, "failed", "its service is missing on the host", ("AVL-01",),
        lambda it: f"systemctl reset-failed {it.quoted}; systemctl is-enabled --quiet {it.quoted} && systemctl restart {it.quoted} || true", "unit",
    ),
    Meaning(
        "sysctl", always, "changed in the running kernel, not in its file",
        "the host's network or memory has less protection than declared until the next boot", ("SYS-02",),
        "/usr/lib/systemd/systemd-sysctl", "kernel setting", lambda it: it.new,
    ),
    Meaning(
        "learned", always, lambda it: f"given to the host by another machine ({it.new[0].rpartition(' ')[2]})",
        "any machine on that network can redirect the host's IPv6 traffic", ("NET-02",),
        lambda it: network_repairs.unlearned(it.thing, it.new[0]), "network route",
    ),
    Meaning(
        "moved", always, lambda it: f"moved by hand from interface {it.new[0].split(' ')[0]} to {it.new[0].split(' ')[1]}",
        lambda it: "traffic of one zone is on the network of another. "
        f"Remedy: if it belongs there, put `network {it.thing}` into hosts.NAME.accepted of the office file"
        + ("; if not, move it back by hand: an apply does not do it, because interfaces were renamed as well" if it.new[0].endswith(UNSURE) else ""),
        ("NET-02",), network_repairs.moved_back, "network interface",
    ),
    Meaning(
        "filter", always, "the live rules are not those of /etc/nftables.conf", "packets may pass that no flow allows, or allowed packets may not", ("NET-01",),
        "systemctl reload-or-restart nftables.service", "packet filter",
        lambda it: (f"{'-' if it.thing == 'missing' else '+'}{it.new[0]}",), "table inet outpost",
    ),
    Meaning(
        "listener", always, _listens, "no flow needs it, and only the packet filter protects it from strangers", ("SYS-05",),
        lambda it: repairs.close(*_listening(it), it.units),
    ),
    Meaning(
        "exposed", always, "opened by hand to every account",
        lambda it: "every account on the host can read it, and change it past all permissions" if it.thing.startswith("/dev/") else "every account on the host can read what is logged" if it.thing.startswith("/var/")
        else "every account on the host can guess at the passwords' hashes",
        ("SYS-09",), lambda it: f"chmod -h o= {it.quoted}", "file",
    ),
    Meaning(
        "opened", always, "opened by hand to every account", "every account on the host can send commands to its daemon", ("SYS-05",),
        lambda it: restarted(shlex.quote(it.new[0]), only_running=True) if it.new[0].endswith(".service") else f"chmod -h o= {it.quoted}", "socket",
    ),
    Meaning(
        "stale", always, lambda it: f"{it.new[0]} was written after the daemon loaded it", "the daemon may run with an edit that is no longer in the file",
        ("SYS-08",), lambda it: repairs.restart(it.thing) if it.new[0].startswith(("/etc/systemd/", "its unit"))
        else f"systemctl reload-or-restart {it.quoted}", "daemon",
    ),
    Meaning(
        "hostname", always, lambda it: it.new[0], "logs, mail and certificates name another host", ("SPO-05",), "hostname --file /etc/hostname", "host name",
    ),
)  # fmt: skip
"""Finding templates for faults."""
