"""Types of values in the office file: names, addresses, networks, durations; and the base of every table."""

import re
import unicodedata
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)
from pyrage import RecipientError, x25519

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_LOCAL_PART = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


_SSH_KEYS = frozenset(
    {
        "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)  # fmt: skip
SSH_RSA_BITS = 3072
"""The least that sshd on the hosts accepts (RequiredRSASize)."""


def like(pattern: str, objection: str) -> AfterValidator:
    """Makes a check for texts that match a pattern as a whole."""

    def judged(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(objection)
        return value

    return AfterValidator(judged)


def _trimmed(value: str) -> str:
    if value != value.strip():
        raise ValueError("white space at its beginning or end")
    return value


def _foreign(value: str) -> str:
    """The first character that is not ASCII, by name: many resemble one that is."""
    odd = next((character for character in value if not character.isascii()), "")
    return f"; it contains {odd} ({unicodedata.name(odd, 'a character without a name')})" if odd else ""


def _fqdn(value: str) -> str:
    labels = value.split(".")
    if len(value) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        form = "not a fully qualified domain name in lower-case A-labels (RFC 1123, section 2.1)"
        raise ValueError(f"{form}{_foreign(value)}")
    if labels[-1].isdigit():
        raise ValueError("not a fully qualified domain name: it ends in a number, like an address")
    for label in labels:
        if label.startswith("xn--") and not _is_a_label(label):
            raise ValueError(
                f"not a domain name: {label} begins like an A-label and stands for no name (RFC 5890)"
            )
    return value


def _is_a_label(label: str) -> bool:
    """Whether the label is valid Punycode for a text that is not ASCII."""
    try:
        text = label.removeprefix("xn--").encode().decode("punycode")
        return (
            not text.isascii() and text.isprintable() and f"xn--{text.encode('punycode').decode()}" == label
        )
    except (UnicodeError, OverflowError, ValueError):
        return False


def _mail_address(value: str) -> str:
    local, _, domain = value.rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or ".." in local:
        taken = "lower-case letters, digits and inner dots, hyphens and underscores, 64 at most"
        raise ValueError(f"not a mailbox address: before the @ Outpost takes {taken}{_foreign(local)}")
    _fqdn(domain)
    return value


def _to_address(value: object) -> object:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    if not isinstance(value, str) or not (address := address_in(value)):
        raise ValueError("not an IP address")
    special = address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local
    if special or address == IPv4Address("255.255.255.255") or getattr(address, "scope_id", None):
        raise ValueError("not an IP address of one machine that others can reach")
    if mapped := getattr(address, "ipv4_mapped", None):
        raise ValueError(f"an IPv4 address written as IPv6: it stands for {mapped}")
    return address


def address_in(text: str) -> IPAddress | None:
    """The address that a text is; None for a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def _to_network(value: object) -> object:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("not an IP network")
    try:
        network = ip_network(value)
    except ValueError:
        raise ValueError("not an IP network; the bits behind its prefix must be zero") from None
    if not network.prefixlen:
        raise ValueError("not a network of this office: it contains every address")
    if network.is_loopback or network.is_multicast or network.is_link_local or _maps(network):
        raise ValueError("not an IP network of hosts that others can reach")
    return network


def _maps(network: IPNetwork) -> bool:
    return getattr(network.network_address, "ipv4_mapped", None) is not None and network.prefixlen >= 96


_WITHOUT_A_SHELL = frozenset(
    {
        "_apt", "_chrony", "backup", "bin", "daemon", "games", "irc", "list", "lp", "mail", "man", "messagebus", "news",
        "nobody", "proxy", "sshd", "sync", "sys", "uucp", "www-data",
    }
)  # fmt: skip
"""Accounts of Debian itself that nobody can log in as (base-passwd, and packages of every host)."""


def _with_a_shell(value: str) -> str:
    if value in _WITHOUT_A_SHELL or value.startswith("systemd-"):
        raise ValueError("an account of Debian's own, without a shell: nobody can log in as it")
    return value


def _ssh_key(value: str) -> str:
    """`TYPE BASE64`, with a comment; the type must be the one inside the base64 (RFC 4253, section 6.6)."""
    if value.partition(" ")[0] not in _SSH_KEYS:
        raise ValueError("not a public SSH key: it begins with its kind, like ssh-ed25519")
    try:
        key = load_ssh_public_key(value.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a public SSH key: it is cut off, or altered") from None
    if isinstance(key, RSAPublicKey) and key.key_size < SSH_RSA_BITS:
        raise ValueError(f"a public SSH key of RSA with fewer than {SSH_RSA_BITS} bits, which sshd refuses")
    return value


def _age_recipient(value: str) -> str:
    try:
        x25519.Recipient.from_str(value)
    except RecipientError:
        raise ValueError("not an age public key: the age1… line that ./outpost secrets prints") from None
    return value


def _url(value: str) -> str:
    """Others split it again, and must not stumble."""
    unreadable = "not an address: its host or its port cannot be read"
    try:
        url = urlsplit(value)
        readable = not value or (url.port != 0 and all((url.hostname or "").split(".")))
    except ValueError:
        raise ValueError(unreadable) from None
    if not readable:
        raise ValueError(unreadable)
    return value


def _alarm_path(value: str) -> str:
    if urlsplit(_url(value)).password is not None:
        raise ValueError("a password in the data file, which is not encrypted")
    return value


_PASSPORT = str.maketrans(
    dict(zip("äåæöøœüßđł", ["ae", "aa", "ae", "oe", "oe", "oe", "ue", "ss", "d", "l"], strict=True))
)
"""Characters as passports transcribe them (ICAO 9303, part 3); others lose their marks."""


def plainer(value: str) -> str:
    """The domain name or mail address that a text probably means, in the form of the office file; empty without a guess.

    A word of two scripts gets none, because one of its characters probably only resembles the right one.
    """
    text = (
        unicodedata.normalize("NFC", value.strip().lower()).removeprefix("https://").removeprefix("http://")
    )
    words = re.findall(r"[^\W\d_]+", text)
    if any(len({unicodedata.name(letter, "").partition(" ")[0] for letter in word}) > 1 for word in words):
        return ""
    local, at, domain = text.rstrip("./").rpartition("@")
    plain = unicodedata.normalize("NFKD", local.translate(_PASSPORT)).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9._-]", "", plain.replace(" ", "."))
    labels = (
        label if label.isascii() else f"xn--{label.encode('punycode').decode()}"
        for label in domain.split(".")
    )
    guess = f"{plain}{at if plain else ''}{'.'.join(labels)}"
    try:
        return _mail_address(guess) if plain else _fqdn(guess)
    except ValueError:
        return ""


def _server(value: str) -> str:
    try:
        return str(_to_address(value)) if value[-1:].isdigit() or ":" in value else _fqdn(value)
    except ValueError:
        raise ValueError("neither a fully qualified domain name nor an IP address") from None


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _to_seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)([smhd])", value)
    if not match:
        raise ValueError("not a duration: a number with s, m, h or d, like 90s or 30d")
    return int(match[1]) * _UNITS[match[2]]


def _form(name: str) -> Any:
    """Its name on the reference page."""
    return Field(json_schema_extra={"format": name})


Size = Annotated[ByteSize, Field(ge=1, le=2**50), _form("size")]
"""Bytes; the file may say `25MiB` or `2GiB`. A size of nothing is a mistake."""
Line = Annotated[str, Field(max_length=200), AfterValidator(_trimmed)]
"""One line of text for people."""
Account = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$"), AfterValidator(_with_a_shell)]
SshKey = Annotated[str, AfterValidator(_ssh_key)]
AgeRecipient = Annotated[str, AfterValidator(_age_recipient)]
Server = Annotated[str, AfterValidator(_server)]
MirrorUrl = Annotated[
    str,
    like(
        r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[A-Za-z0-9._~%/+-]*)?",
        "not the address of a mirror, http://HOST/PATH or https://HOST/PATH",
    ),
    AfterValidator(_url),
]
Fqdn = Annotated[str, AfterValidator(_fqdn), _form("domain name")]
HostLabel = Annotated[
    str,
    like(
        _LABEL.pattern,
        "not a host label: lower-case letters, digits and inner hyphens, 63 at most (RFC 1123)",
    ),
    _form("host label"),
]
MailAddress = Annotated[str, AfterValidator(_mail_address), _form("mail address")]
Proxy = Annotated[
    str,
    like(r"(http://[A-Za-z0-9.:\[\]-]+(:\d{1,5})?/?)?", "not the address of an HTTP proxy, http://HOST:PORT"),
    AfterValidator(_url),
]
AlarmPath = Annotated[
    str, Field(pattern=r"^(smtps?|https?)://[!-.0->@-~]+[!-~]*$"), AfterValidator(_alarm_path)
]
"""A path of alarms."""
Address = Annotated[IPAddress, BeforeValidator(_to_address)]
Network = Annotated[IPNetwork, BeforeValidator(_to_network)]
Mac = Annotated[
    str,
    like(
        r"(?!00(:00){5})[0-9a-f][02468ace](:[0-9a-f]{2}){5}",
        "not the hardware address of one card: 52:54:00:12:34:56, in lower case",
    ),
]
FilePort = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[int, BeforeValidator(_to_seconds), Field(ge=1, le=20 * 366 * 86400), _form("duration")]
"""Seconds; the file may say `90s`, `15m`, `6h` or `30d`."""


DS_DIGESTS = {"1": 40, "2": 64, "4": 96}
"""Digest types of DS records, and the length of each in hexadecimal digits (RFC 4034, 4509, 6605)."""


def _ds_record(value: str) -> str:
    found = re.fullmatch(r"\. IN DS (\d{1,5}) \d{1,3} (\d{1,3}) ([0-9A-Fa-f]+)", value)
    if not found or int(found[1]) > 65535 or len(found[3]) != DS_DIGESTS.get(found[2]):
        raise ValueError("not a DS record of the root: . IN DS TAG ALGORITHM TYPE DIGEST")
    return value


RootKey = Annotated[str, AfterValidator(_ds_record)]


def lasting(default: str, description: str | None = None) -> Any:
    """A field for a duration with a default, written as in the file."""
    return _written(_to_seconds(default), default, "duration", description=description)


def sized(default: str, description: str | None = None, *, ge: int = 1) -> Any:
    """A field for a size with a default, written as in the file."""
    value = TypeAdapter(ByteSize).validate_python(default)
    return _written(value, default, "size", ge=ge, description=description)


def _written(value: Any, default: str, form: str, **more: Any) -> Any:
    extra: dict[str, Any] = {"format": form, "default": default}
    return Field(default=value, examples=[default], json_schema_extra=extra, **more)


def counted(
    default: int | None, description: str | None = None, *, least: int = 1, most: int = 1_000_000
) -> Any:
    """A field for a number with a default."""
    return Field(default=default, ge=least, le=most, description=description)


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"
"""Characters that names in Persian, Hindi and other scripts need."""


def _texts(value: Any) -> list[str]:
    """Strings of a value and of lists in it; tables check their own."""
    if isinstance(value, str):
        return [value]
    return [text for item in value for text in _texts(item)] if isinstance(value, list | tuple) else []


def once(value: Any) -> Any:
    """The value, unless it is a list of simple values with a duplicate."""
    if isinstance(value, tuple) and not any(isinstance(item, BaseModel) for item in value):
        for number, item in enumerate(value):
            if item in value[:number]:
                raise ValueError(f"{str(item)[:80]} stands twice")
    return value


class Part(BaseModel):
    """Base of every table in the office file: frozen, no unknown keys, nothing twice in a list."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    judged_elsewhere: ClassVar[frozenset[str]] = frozenset()
    """Fields that are files with many lines, or a copy of another field."""

    @field_validator("*", mode="before")
    @classmethod
    def _visible(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse invisible characters: elsewhere they end lines, headers and quotations."""
        switch = info.field_name and cls.model_fields[info.field_name].annotation is bool
        if isinstance(value, bool) != bool(switch):
            raise ValueError("not true or false" if switch else "true or false, where another value stands")
        for character in "" if info.field_name in cls.judged_elsewhere else "".join(_texts(value)):
            if unicodedata.category(character) in _UNSEEN and character not in _JOINERS:
                seen = f"an invisible character (U+{ord(character):04X})"
                raise ValueError(f"{seen}; only one line of text is allowed")
        return value

    _once = field_validator("*")(once)
