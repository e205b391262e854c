"""The baseline of a site's server itself: root there has every guest's disk. Each part is asked of the daemon, and has one repair."""

from dataclasses import dataclass

FILTER = "outpost-filter.service"
RULES = "/etc/outpost-site.nft"
KEYS_ONLY = "/etc/ssh/sshd_config.d/10-outpost-site.conf"
"""sshd takes the first value; cloud images have theirs in 50-cloud-init.conf."""
UPDATES = "/etc/apt/apt.conf.d/60outpost-site"
FILES = {RULES: "filter.nft", KEYS_ONLY: "keys_only.conf", UPDATES: "updates.conf"}
"""Path on the server → template."""
PACKAGES = ("nftables", "unattended-upgrades")
RELOAD_SSH = "sshd -t && systemctl try-reload-or-restart ssh.service"


@dataclass(frozen=True)
class Part:
    """A part of the baseline.

    Attributes:
        control: Its id in ``controls/``.
        name: What is true on a hardened server.
        question: Shell that changes nothing, and succeeds if it is true.
        repair: Shell.
        settings: Where a setting of somebody else may override Outpost's.
    """

    control: str
    name: str
    question: str
    repair: str
    settings: str

    @property
    def step(self) -> str:
        """Shell: repair it, and fail if it is not true afterwards. A daemon may take some seconds."""
        wrong = f"echo 'something in {self.settings} overrides the settings of Outpost' >&2; exit 1"
        asked = f"{{ {self.question}; }} </dev/null >/dev/null 2>&1 && exit 0"
        return f"{{ {self.repair}; }} || exit 1\nfor try in $(seq 10); do {asked}; sleep 1; done; {wrong}"


LISTENS = r"sshd -T | sed -n 's/^listenaddress \[\?\([^]]*\)\]\?:\([0-9]*\)$/\2 \1/p' | head -n 1"
"""Shell: a port and an address of sshd."""
BASELINE = (
    Part(
        "SSH-01", "SSH takes only keys",
        # of the running daemon; without a method to try, it answers with those that it offers
        f"set -- $({LISTENS}); LC_ALL=C ssh -F none -o PreferredAuthentications=none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        '-o ConnectTimeout=10 -p "$1" "root@$2" true 2>&1 | grep -q "Permission denied (publickey)"',
        RELOAD_SSH, "/etc/ssh",
    ),
    Part(
        "NET-01", "the packet filter accepts SSH, and no other service",
        # as the kernel lists the declared rules, loaded where nothing else is
        f'systemctl is-enabled {FILTER} && live=$(nft list table inet outpost_site) && [ "$live" = "$(unshare --net sh -c '
        f"'nft -f {RULES} && nft list table inet outpost_site')\" ]",
        f"systemctl enable --quiet {FILTER} && systemctl restart {FILTER}", "/etc/outpost-site.d or its unit",
    ),
    Part(
        "SYS-06", "security updates install themselves",
        "systemctl is-active apt-daily.timer && systemctl is-active apt-daily-upgrade.timer && [ -x /usr/bin/unattended-upgrade ] && "
        "apt-config shell lists APT::Periodic::Update-Package-Lists upgrade APT::Periodic::Unattended-Upgrade enabled APT::Periodic::Enable | "
        "sort | tr -d '\\n' | grep -qxE \"(enabled='1')?lists='1'upgrade='1'\"",
        "timers='apt-daily.timer apt-daily-upgrade.timer'; systemctl unmask --quiet $timers; systemctl enable --now --quiet $timers",
        "/etc/apt/apt.conf.d",
    ),
)  # fmt: skip
QUESTIONS = "".join(
    f"if {{ {part.question}; }} </dev/null >/dev/null 2>&1; then echo 'holds {part.control}'; fi\n"
    for part in BASELINE
)
"""Shell that prints the parts that are true, by their controls."""
