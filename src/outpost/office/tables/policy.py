"""What mail may look like, and what looks into it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from outpost.office.tables.values import Fqdn, MirrorUrl, Part

REFUSED_ATTACHMENTS = tuple(
    (  # noqa: SIM905 (readable as lines, not as a column)
        "7z accda accde ace action ade adp ahk alz apk app appcontent-ms appimage appinstaller application appref-ms "
        "appx appxbundle arc arj asp aspx asx au3 b64 bas bat bgi bhx bz2 cab cdxml chm class cmd cnt com command cpio "
        "cpl csh deb desktop diagcab diagcfg diagpkg dll dmg docm dotm egg elf exe fileloc fxp gadget grp hlp hpj hqx "
        "hta htc img inetloc inf ins iqy iso isp its jar jnlp js jse ksh lha library-ms lnk lz lzh lzma mcf mda mdb mde "
        "mdt mdw mdz mim mof mpkg msc msh msh1 msh1xml msh2 msh2xml mshxml msi msix msixbundle msp mst msu nsh ocx one "
        "onepkg ops osd pcd pif pkg pl plg potm ppa ppam ppkg ppsm pptm prf printerexport ps1 ps1xml ps2 ps2xml psc1 "
        "psc2 psd1 psdm1 psm1 pst py pyc pyo pyw pyz pyzw qcow2 r00 r01 rar rdp reg rev rpm scf scpt scr sct search-ms "
        "searchconnector-ms settingcontent-ms sh shar shb shs sit sitx sldm slk swf sys tbz tbz2 terminal theme "
        "themepack udf udl url uue vb vbe vbp vbs vdi vhd vhdx vmdk vsmacros vsto vstx vsw vxd wbt webloc webpnp website "
        "wim wll wms wmz ws wsb wsc wsf wsh xar xbap xla xlam xll xlsm xltm xlw xnk xxe z zoo zst"
    ).split()
)
"""Windows runs, mounts or installs these at a double click (Outlook blocks most of them), or no scanner here opens them."""

Ending = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")]
Verdict = Literal["refuse", "tag", "accept"]


class Policy(Part):
    """What mail may look like (`[policy]`). `refuse` answers 554 in the session, `tag` marks and delivers."""

    forged_own: Verdict = Field(
        default="refuse",
        description="Mail from outside whose From header is an address of the office, unless the office itself signed it "
        "(DKIM): so one's own words come back from a list or a forwarder, and nobody else's do.",
    )
    forged_peer: Verdict = Field(
        default="refuse",
        description="The same for peers' addresses on mail that comes neither from their relays nor with their signature.",
    )
    impersonation: Verdict = Field(
        default="tag",
        description="Mail from outside that shows a user's name, or an address of the office, as the name of another "
        "address. Not refused by default: people write from their private addresses.",
    )
    forged_bounce: Verdict = Field(
        default="refuse",
        description="Notifications about messages the office did not send. Those it sent are remembered for ten days "
        "(a queue gives up after five), by the MTA that sent them: with two of them `refuse` is only `tag`.",
    )
    disowned: Literal["refuse", "junk"] = Field(
        default="refuse",
        description="Mail that fails DMARC where its domain asks for rejection, and that no trusted sealer vouches for. RFC 9989, "
        "section 5.4, would not refuse it for that alone: mailing lists that change what they send on lose their way here. `junk` "
        "delivers it into Junk; forged mail of banks, too.",
    )
    external_subject: str = Field(
        default="",
        max_length=40,
        pattern=r"^[ -~]*$",
        description="Put before the subject of mail from outside; empty: only the header `X-Office-Origin` says it, which "
        "leaves signatures whole.",
        examples=["[external]"],
    )
    impersonation_subject: str = Field(
        default="[Not from inside the office]",
        max_length=40,
        pattern=r"^[ -~]*$",
        description="Put before the subject of mail that is tagged as an impersonation.",
    )
    refused_attachments: tuple[Ending, ...] = Field(
        default=REFUSED_ATTACHMENTS,
        description="File name endings that no message may carry, in archives neither. Programs, scripts, shortcuts, disk "
        "images, documents with macros, and archives in which the scanner does not see everything (RAR, 7z, bzip2): an ordinary "
        "zip archive is taken. Content of such a kind is refused under any name.",
        examples=[["exe", "js", "iso"]],
    )
    refused_at_top: tuple[Ending, ...] = Field(
        default=("htm", "html", "mht", "mhtml", "shtml", "svg", "svgz", "xht", "xhtml"),
        description="Endings refused as an attachment of its own but not inside an archive: pages that imitate a login. "
        "The text of a message may of course be HTML.",
    )
    encrypted_archives: Literal["refuse", "accept"] = Field(
        default="refuse",
        description="Archives and Office documents with a password: no scanner sees into them. A PDF with one is taken: banks "
        "and authorities send them.",
    )
    macros: Literal["refuse", "accept"] = Field(
        default="refuse", description="Office documents that contain a program, whatever their name."
    )


class Scanner(Part):
    """Content checks on the MTA (`[scanner]`)."""

    signatures: Literal["freshclam", "local"] = Field(
        default="freshclam",
        description="ClamAV's signatures: fetched by freshclam, or only the local test signature (lab).",
    )
    mirror: MirrorUrl | Literal[""] = Field(
        default="",
        description="Private mirror for freshclam; empty: ClamAV's own.",
        examples=["https://clam.example.com"],
    )
    network_checks: bool = Field(
        default=True, description="Whether Rspamd may ask block lists and other services on the network."
    )
    trusted_sealers: tuple[Fqdn, ...] = Field(
        default=(),
        description="Domains of forwarders and mailing lists whose ARC seal (RFC 8617) is believed: what they saw pass DMARC "
        "is not refused because their own changes broke the signature. Peers' domains are among them by themselves.",
        examples=[["lists.example.org"]],
    )
