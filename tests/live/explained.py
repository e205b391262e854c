"""Warnings and errors that daemons log without a fault, each with the reason why it is harmless.

An office adds its own in `[[verification.explained]]`. A line is compared as ``DAEMON: MESSAGE``, each number as ``N``.
"""

from __future__ import annotations

import re

from outpost.office import Host, Office

STRANGERS = "anybody who reaches the port can cause it, and was refused"
THEIRS = "another organisation's server, which the delivery log and the queue's checks judge"
RESTARTS = "an apply, an upgrade or a rollover stopped, started or reloaded it"
PACE = "a machine that had more to do than it could; the clock (TIM-01) and logins (AUT-01) have checks of their own"
FIRMWARE = "clocks and tables that a machine's firmware lacks or has wrong, logged once at its start; the clock has TIM-01"
PLATFORM = "containers, whose kernel is not theirs"

EXPLAINED: dict[str, str] = {
    # Who knocks
    r"^postfix/([\w-]+/)?(smtpd|postscreen|tlsproxy): warning: ": STRANGERS,
    r"^postfix/cleanup: warning: (stripping too many comments |\S+: message rejected: )": STRANGERS,
    r"^nginx: .* \[error\] .* (client intended to send too large body|limiting (requests|connections)|access forbidden)": STRANGERS,
    r"^postfix/sendmail: fatal: User \S+ is not allowed to submit mail$": "refused (REL-06); the check asks it each time",
    r"^stunnel: LOGN\[N\]: (SSL_accept|Rejected by CERT|CERT: (Subject checks failed|Pre-verification error))": STRANGERS,
    r"^knotd: warning: \[\S+\] (DDNS|ACL|update), ": "an update or transfer that its key does not allow was refused (DNS-04)",
    r"^kernel: outpost (in|out) drop: ": "what the packet filter refused, within limits (LOG-01)",
    r"^\S+: sending held: ": "a user named more recipients than an hour allows; the postmaster got a message (REL-05)",
    r"^\S+: login shut: ": "somebody guessed passwords and was shut out (AUT-03)",
    # Whom we ask
    r"^postfix/([\w-]+/)?smtp: warning: ": THEIRS,
    # Coming and going
    r"^dovecot: master: Warning: (SIGHUP received - reloading configuration|Killed with signal N )": RESTARTS,
    r"^postfix/postqueue: warning: Mail system is down ": RESTARTS,
    r"^systemd: ssh\.service: (Found left-over process N |This usually indicates unclean termination)": "sessions outlive sshd's restart",
    r"^dbus-daemon: Unknown username ": "a package's bus policy is read before its account is made",
    r"^systemd: (Failed to start )?outpost-(certificate|backup)\.service( |: Failed )": "what they do is judged by TLS-04 and BKP-01",
    # Time
    r"^chronyd: (Forward|Backward) time jump detected!$": "the machine was paused, or its clock was set; whether it is right now, TIM-01's check asks",
    r"^chronyd: System clock (was stepped|wrong) by -?N\.N seconds$": "the clock was wrong at a start; whether it is right now, TIM-01's check asks",
    r"^dovecot: \S+ Warning: Time moved (forward|backwards) by ": PACE,
    r"^dovecot: auth: Warning: auth-worker: Auth request was queued for N seconds": PACE,
    r"^postfix/([\w-]+/)?cleanup: warning: (file system clock is N seconds ahead of local clock|resetting file time stamps )": (
        "Postfix compares whole seconds, and a new one began meanwhile; the clock has TIM-01"
    ),
    # A start of the host
    r"^systemd-sysv-generator: (SysV service '/etc/init\.d/stunnelN' |.*This compatibility logic is deprecated|Please update package)": (
        "Debian's stunnel4 still brings a script beside its units; it is off"
    ),
    r"^kernel: (\.\.MP-BIOS bug|APIC calibration|tsc: |clocksource: |Unstable clock detected|acpi |amd_pstate: |mtrr: your CPUs had inconsistent |ataN\.N: LPM support broken|platform regulatory\.N: )": FIRMWARE,
    r"^systemd-journald: File /var/log/journal/\S+ corrupted or uncleanly shut down, renaming and replacing\.$": (
        "the host lost its power; the old file stays beside the new one"
    ),
    r"^knotd: (error|warning): \[\S+\] (refresh, |zone event 'refresh' failed )": "the primary was away; whether the zone is current now, DNS-08's check asks",
    r"^knotd: warning: \[\S+\] DS check, outgoing, ": "the parent did not answer; whether the chain is whole now, DNS-01's check asks",
    r"^unbound: \[N:N\] error: SERVFAIL <[^>]*>: all the configured stub or forward servers failed": (
        "the site's resolver or somebody's name server was away; whether names resolve now, DNS-07's check asks"
    ),
    r"^kernel: (hrtimer: interrupt took N ns|hpet: Lost N RTC interrupts|kauditd_printk_skb: N callbacks suppressed)$": PACE,
    r"^stunnel: LOGN\[N\]: OCSP: No OCSP stapling response received$": (
        "stunnel as a client says so at each connection; the office's authority has no OCSP, and name and chain are checked (TLS-10)"
    ),
    # Head office's collector
    r"^pythonN: \S+: .*; lines wait in the journal$": "it was away; whether it is now, and what waits, LOG-02's check says",
    r"^pythonN: learn: \S+ \S+: .*; the next run tries again$": "an MTA was away; whether it takes lessons now, JNK-01's check asks",
    # An MTA that is down
    r"^dovecot: submission\(\S+ Error: relay: smtp-client: conn \S+ \[N\]: (connect\(\S+ failed: |Connection timed out after N seconds$)": (
        "an MTA was away, and users' programs send again; whether it takes users' mail now, SPO-02's check asks"
    ),
    r"^dovecot: auth\(\S+ Error: policy: Policy server HTTP error: (connect\(\S+ failed: |Absolute request timeout expired )": (
        "it was starting, or the machine had more to do than it could; whether guessers are shut out now, AUT-03's check asks"
    ),
    # A store that is down, or was lost
    r"^pythonN: the store does not report quotas: ConnectionRefusedError\(": "it was away; its daemons have checks of their own",
    r'^nginx: .* \[error\] .*(, subrequest: "/login"|auth request unexpected status: N )': "it was away; whether it answers, CAL-02's check says",
    r"^stunnel: LOGN\[N\]: s_connect: connect localhost:/run/outpost-davlogins/socket: ": RESTARTS,
    # The lab
    r"^systemd: cgroup compatibility translation ": PLATFORM,
    r"^\(udev-worker\): ethN: Config file \S+/N-vagrant\.link ": "Vagrant's own card gets a name by this",
}

IN_CONTAINERS: dict[str, str] = {
    # systemd starts udev where /sys can be written, which privileged containers may do
    r"^\(udev-worker\): \S+: (Failed to process device|Failed to (open|lock) block device)\b.*: Operation not permitted$": PLATFORM,
}
"""The same for ``platform = "docker"`` in the office file: on a machine it would be a fault."""


def unexplained(lines: list[str], office: Office, me: Host) -> list[str]:
    """Lines of this host that neither the project nor the office explains, with their number."""
    known = [re.compile(says) for says in EXPLAINED]
    known += [re.compile(says) for says in IN_CONTAINERS if office.platform_of(me) == "docker"]
    known += [re.compile(each.says) for each in office.verification.explained]
    return [line for line in lines if not any(says.search(line.split(maxsplit=1)[1]) for says in known)]
