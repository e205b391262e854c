"""Which mail is refused or tagged, and the filter's settings."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import Field

from outpost.office.tables.values import Fqdn, MirrorUrl, Part

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
        "htm",
        "html",
        "mht",
        "mhtml",
        "shtml",
        "svg",
        "svgz",
        "xht",
        "xhtml",
    )
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
