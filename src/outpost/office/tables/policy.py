"""Which mail is refused or tagged: sizes and counts, rules, and the filter's settings."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import Field

from outpost.office.tables.values import Duration, Fqdn, MirrorUrl, Part, Size, counted, lasting, sized


class Limits(Part):
    """Sizes and counts (`[limits]`), each with its arithmetic."""

    message_size: Size = sized("25MiB", ge=64 * 1024)
    """Largest message, encoded (base64 adds a third: 25 MiB carry 18 MiB of files). One such message to 50 recipients
    at one destination takes 2 min 16 s of a 1544 kbit/s line; as 50 copies it would take nearly two hours."""
    scan_size: Size = sized("64MiB")
    """Largest message that the filters scan in full. It must not be below `message_size`, or large mail passes
    unscanned."""
    queue_volume: Size = sized("4GiB")
    """Size of the mail queue; it must hold at least 20 of the largest messages."""
    mailbox_quota: Size = sized("2GiB", "Default size of a mailbox.")
    calendar_quota: Size = sized("100MiB", ge=10 * 1024**2)
    """Size of one user's calendars and address books; what the office shares may take five times as much."""
    recipients_per_message: int = counted(50, most=1000)
    """Recipients a user may name in one message (strangers: RFC 5321's 100 at least)."""
    connections_per_client: int = counted(20, "Simultaneous SMTP sessions from one address on port 25.")
    connections_per_minute: int = counted(60, "New SMTP sessions a minute from one address on port 25.")
    imap_connections_per_user: int = counted(20, least=4)
    """Simultaneous IMAP sessions of one user from one address."""
    messages_per_minute: int = counted(120)
    """Messages a minute from one address on port 25 (`450 4.7.1`). 120 of 75 KiB fill a 1544 kbit/s line for 48 s of
    that minute, so one sender alone cannot keep it full."""
    client_recipients_per_minute: int = counted(600, least=100)
    """Recipients a minute from one address on port 25; a stranger may name 100 in one message (RFC 5321, section
    4.5.3.1.8)."""
    mailbox_messages: int = counted(100, least=10)
    """Messages from outside that one mailbox accepts in ten minutes (then `450 4.7.1`, so that honest senders try
    again): half of them from one network (/24, /64), three quarters from one IPv6 site (/48). 100 messages of 288 KiB
    are 28 MiB: a mail bomb uses a quarter of a 1544 kbit/s line, not all of it. A message to several details of an
    address (`alice+1`, `alice+2`) counts once for each."""
    unknown_recipients: int = Field(default=60, ge=10)
    """Unknown recipients that one network (/24, /64), and four times as many that one IPv6 site (/48), may name in
    ten minutes. After that every recipient from there gets `450 4.7.1`, known or not. A session ends after ten
    (DSN-11)."""
    user_recipients: int = counted(300, least=10)
    """Recipients to whom one user may send in an hour; then the account is put on hold and the postmaster gets a
    message. 300 recipients of 100 KiB take 2 min 39 s of a 1544 kbit/s line; a stolen password sends no more spam
    than that."""
    user_hold: Duration = lasting("1h")
    """How long an account that exceeded `user_recipients` stays on hold (`450 4.7.1`)."""
    message_budget: Size = sized("256MiB")
    """Limit for the size of a user's message, multiplied by the number of destinations outside (`552 5.3.4`). 256 MiB
    take 23 minutes of a 1544 kbit/s line; 25 MiB to 50 domains would take nearly two hours."""
    same_signature: int | None = counted(None, least=10)
    """How often in an hour the same signed message may come from outside (DKIM replay). A list that writes to each
    member separately brings it once for each: keep this above the number of users. Default: 100, or twice the users
    where that is more."""
    mime_depth: int = counted(20, "Nested parts of one message; a forward of a forward has four.", least=5)
    header_bytes: Size = sized("64KiB", ge=8 * 1024)
    """Header of one message; the largest honest ones (long lists of recipients, many hops) have about 30 KiB."""
    redirects: int = counted(4, least=0)
    """Addresses to which one user's filters may send a copy of a message."""
    alias_members: int | None = counted(None)
    """Mailboxes behind one recipient, through aliases of aliases. The copies stay in the office; 200 of the largest
    messages are 5 GiB of the store's disk. Default: 200, or all mailboxes where these are more."""
    login_failures: int = counted(10, least=3)
    """Different wrong passwords for one account within `login_ban`, from any address, before it refuses logins from
    there. The same wrong password again (a telephone with an old one) counts once. 10 in 15 minutes are 960 a day: a
    password that the rules accept lasts for centuries."""
    login_ban: Duration = lasting("15m")
    """How long an account refuses logins from an address that attacked it. Addresses that its owner used before go on
    working, and so do colleagues behind the same address."""


REFUSED_ATTACHMENTS = tuple(
    (  # noqa: SIM905 (readable as lines, not as a column)
        "7z accda accde ace action ade adp ahk alz apk app appcontent-ms appimage appinstaller application appref-ms "
        "appx appxbundle arc arj asp aspx asx au3 b64 bas bat bgi bhx bz2 cab cdxml chm class cmd cnt com command contact cpio "
        "cpl csh deb desklink desktop diagcab diagcfg diagpkg dll dmg docm dotm egg elf exe fileloc fxp gadget grp hlp hpj hqx "
        "hta htc img inetloc inf ins iqy iso isp its jar jnlp jnt job js jse ksh lha library-ms lnk lz lzh lzma mapimail mcf mda mdb mde "
        "mdt mdw mdz mim mof mpkg msc msh msh1 msh1xml msh2 msh2xml mshxml msi msix msixbundle msp mst msu nsh ocx one "
        "odc onepkg ops osd pcd pif pkg pl plg potm ppa ppam ppkg ppsm pptm prf printerexport ps1 ps1xml ps2 ps2xml psc1 "
        "psc2 psd1 psdm1 psm1 pst py pyc pyo pyw pyz pyzw qcow2 r00 r01 rar rdp reg rev rpm scf scpt scr sct search-ms "
        "searchconnector-ms settingcontent-ms sh shar shb shs sit sitx sldm slk swf sys tbz tbz2 terminal theme "
        "themepack tool udf udl url uue vb vbe vbp vbs vdi vhd vhdx vmdk vsix vsmacros vsto vstx vsw vxd wbt webloc webpnp website "
        "wim wll wms wmz ws wsb wsc wsf wsh xar xbap xla xlam xll xlsm xltm xlw xnk xxe z zoo zst"
    ).split()
)
"""Windows runs, mounts or installs these at a double click (Outlook blocks most of them), or no scanner here opens them."""

Ending = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")]
Verdict = Literal["refuse", "tag", "accept"]


class Policy(Part):
    """Which mail is refused or tagged, and how users log in (`[policy]`). `refuse` answers 554, `tag` marks and delivers."""

    forged_own: Verdict = "refuse"
    """Mail from outside with an address of the office in its From header. Mail that the office itself signed (DKIM)
    is excepted: it comes back from a list or a forwarder."""
    forged_peer: Verdict = "refuse"
    """The same for peers' addresses, on mail that neither comes from their relays nor has their signature."""
    impersonation: Verdict = "tag"
    """Mail from outside that shows a user's name, or an address of the office, as the display name of another
    address. Not refused by default: people write from their private addresses."""
    forged_bounce: Verdict = "refuse"
    """Delivery status notifications about messages that the office did not send. The MTA remembers what it sent for
    ten days (senders give up after five). With two MTAs, each knows only its own: `refuse` then only tags."""
    disowned: Literal["refuse", "junk"] = "refuse"
    """Mail that fails DMARC where the domain asks for rejection and no trusted ARC sealer vouches for it. RFC 9989,
    section 5.4, would not refuse it for that alone, because mailing lists that change messages lose mail here. `junk`
    delivers it into Junk, forged mail of banks included."""
    external_subject: str = Field(default="", max_length=40, pattern=r"^[ -~]*$", examples=["[external]"])
    """Text put before the subject of mail from outside. Empty: only the header `X-Office-Origin` marks it, and
    signatures stay valid."""
    impersonation_subject: str = Field(
        default="[Not from inside the office]", max_length=40, pattern=r"^[ -~]*$"
    )
    """Text put before the subject of mail that is tagged as an impersonation."""
    refused_attachments: tuple[Ending, ...] = Field(
        default=REFUSED_ATTACHMENTS, examples=[["exe", "js", "iso"]]
    )
    """File name endings that no message may carry, in archives neither: programs, scripts, shortcuts, disk images,
    documents with macros, and archives that the scanner cannot read in full (RAR, 7z, bzip2). Ordinary zip archives
    are accepted. Such content is refused under any name."""
    refused_at_top: tuple[Ending, ...] = (
        "htm", "html", "mht", "mhtml", "shtml", "svg", "svgz", "xht", "xhtml"
    )  # fmt: skip
    """Endings that are refused as an attachment, but not inside an archive: pages that imitate a login. The text of a
    message may be HTML."""
    encrypted_archives: Literal["refuse", "accept"] = "refuse"
    """Archives and Office documents with a password: no scanner can read them. PDF files with a password are
    accepted: banks and authorities send them."""
    macros: Literal["refuse", "accept"] = "refuse"
    """Office documents that contain a program, whatever their name."""
    second_factor: Literal["offered", "required"] = "offered"
    """`required`: users without a second factor can only set one up, in webmail. Mail programs then need a password of
    their own, made there."""
    second_factor_from: date | None = Field(default=None, examples=["2027-01-31"])
    """The day (00:00 UTC) from which `required` applies; until then webmail reminds users. Empty: at once."""

    @property
    def factor_from(self) -> int | None:
        """UNIX time from which users need a second factor; None where they need none."""
        if self.second_factor == "offered":
            return None
        day = self.second_factor_from
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) if day else 0


class Scanner(Part):
    """Content checks on the MTA (`[scanner]`)."""

    signatures: Literal["freshclam", "local"] = "freshclam"
    """ClamAV's signatures: fetched by freshclam, or only the local test signature (lab)."""
    mirror: MirrorUrl | Literal[""] = Field(default="", examples=["https://clam.example.com"])
    """Private mirror for freshclam; empty: ClamAV's own."""
    network_checks: bool = True
    """Whether Rspamd may query block lists and other services on the network."""
    trusted_sealers: tuple[Fqdn, ...] = Field(default=(), examples=[["lists.example.org"]])
    """Domains of forwarders and mailing lists whose ARC seal (RFC 8617) is trusted: mail that passed DMARC there is
    not refused because the forwarder's changes broke the signature. Peers' domains are included."""
