"""Whether a password may be set (AUT-02): long enough, and not what a guesser tries first. Runs on the store, too.

After NIST SP 800-63B, section 5.1.1.2: length and a blocklist, no composition rules, no expiry. The blocklist holds what
lists of leaked passwords are made of, as words: a password is judged by what is left of it when known words (common ones,
and those of the office), rows of keys, runs and repetitions are taken away. "Summer2026!!Summer" has nothing left.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

LEAST = 12
"""Characters. 12 random lower-case letters outlast Argon2id guessing at any budget; the words below do not count."""

LEAST_OWN = 6
"""Characters that must remain beside known words, rows and runs."""

LONGEST = 256
"""Most characters; a longer text is an attempt to keep the store busy with hashing."""

COMMON = frozenset(
    """
    abc access account admin administrator adobe alpha amazon america android angel anthony apple april arsenal
    august autumn azerty baby bailey banana baseball basketball batman battery beautiful bitcoin blink boston
    buster butterfly changeme charlie cheese chelsea chocolate christmas company computer cookie corona correct
    cowboys daniel december default demo dolphin dragon eagles email england example facebook family february
    flower football forever freedom friday friend gandalf garfield ginger google guest hallo hannah happy harley
    hello horse hottie hunter iloveyou internet january jennifer jessica jesus jordan joshua july june justin
    killer letmein linkedin liverpool login london love lovely maggie manager march master matrix matthew may
    merlin michael michelle microsoft monday monkey mother mustang naruto nicole ninja november october office
    orange outlook pass passphrase passwd password passwort pepper pokemon princess private purple qazwsx qwe
    qwert qwerty qwertz ranger robert saturday secret security september server shadow soccer sommer spring staple
    starwars strong summer sunday sunflower sunshine super superman support temp test thomas thursday tigger today
    trustno tuesday unknown user victory wednesday welcome whatever willkommen windows winter wizard wordpress
    work xbox yankees zxcvbn
    """.split()  # noqa: SIM905 (readable as text, not as a column)
)
"""Words of common passwords, from what is widely known about leaked lists."""

_ROWS = ("1234567890", "0987654321", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm", "abcdefghijklmnopqrstuvwxyz",
         "1q2w3e4r5t6z7u8i9o0p", "1q2w3e4r5t6y7u8i9o0p", "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "qazwsxedcrfvtgb")  # fmt: skip
_LOOKALIKES = str.maketrans("013457@$!|8", "oieastasiib")


class Objection(NamedTuple):
    """Why a password may not be set: a short code, and numbers for webmail's sentence."""

    reason: str
    numbers: Mapping[str, int]


def complaint(password: str, *, words: Iterable[str] = ()) -> Objection | None:
    """Why a password may not be set; None if it may."""
    normal = unicodedata.normalize("NFKC", password)
    if len(normal) < LEAST:
        return Objection("too_short", {"count": len(normal), "least": LEAST})
    if len(normal) > LONGEST:
        return Objection("too_long", {"most": LONGEST})
    left = _left(normal.casefold(), COMMON | words_of(words))
    return Objection("easy", {}) if len(left) < LEAST_OWN else None


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """The words in some texts that are long enough to be removed from a password."""
    words = {word for text in texts for word in re.findall(r"[^\W\d_]+", text.casefold())}
    return frozenset(word for word in words if len(word) > 2)


def _left(password: str, words: frozenset[str]) -> str:
    """What remains of a password without words, rows of keys, years, runs and repetitions; the shorter of two results."""
    return min((_strip(reading, words) for reading in (password, password.translate(_LOOKALIKES))), key=len)


def _strip(password: str, words: frozenset[str]) -> str:
    rest = password
    for word in sorted(words, key=len, reverse=True):
        rest = rest.replace(word, " ").replace(word[::-1], " ") if len(word) > 3 else rest.replace(word, " ")
    for row in _ROWS:
        for length in range(len(row), 3, -1):
            for start in range(len(row) - length + 1):
                rest = rest.replace(row[start : start + length], " ")
    rest = re.sub(r"(19|20)\d\d", " ", rest)
    rest = re.sub(r"(.{1,4}?)\1{2,}", r"\1", rest)  # aaaa, ababab
    half = len(rest) // 2
    if len(rest) % 2 == 0 and rest[:half] == rest[half:]:
        rest = rest[:half]
    # everybody adds a digit or sign here and there
    return "".join(dict.fromkeys(re.sub(r"[\W_]", "", rest)))
