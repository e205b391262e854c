"""Passkeys for webmail (WebAuthn): python3-fido2 makes the challenges and checks the answers of browsers (docs/adr/0055).

What goes to the browser and comes from it is the JSON of WebAuthn Level 3, which browsers read and write themselves.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

Question = tuple[dict[str, Any], Any]
"""Options for the browser, and what has to be kept until its answer comes."""


class Passkeys:
    """The relying party: browsers bind each passkey to the name of webmail, so that no other site can use it."""

    def __init__(self, host: str) -> None:
        from fido2 import features, server, webauthn  # type: ignore[import-not-found]  # of the store alone: python3-fido2

        features.webauthn_json_mapping.enabled = True
        self._webauthn = webauthn
        party = webauthn.PublicKeyCredentialRpEntity(name=host, id=host)
        self._server = server.Fido2Server(party, verify_origin=f"https://{host}".__eq__)

    def to_make(self, address: str, known: Iterable[str]) -> Question:
        """How a browser makes one more passkey for that account."""
        identity = hashlib.sha256(address.encode()).digest()
        user = self._webauthn.PublicKeyCredentialUserEntity(id=identity, name=address, display_name=address)
        options, kept = self._server.register_begin(user, self._read(known), user_verification="discouraged")
        return dict(options), kept

    def made(self, kept: Any, answer: str) -> str:
        """What is stored of a new passkey: its name and public key.

        Raises:
            ValueError: The answer does not fit the question.
        """
        try:
            credential = self._server.register_complete(kept, json.loads(answer)).credential_data
        except Exception as error:  # a hostile answer may make the library raise anything
            raise ValueError(f"no right answer: {type(error).__name__}") from error
        return bytes(credential).hex()

    def to_use(self, known: Iterable[str]) -> Question:
        """How a browser shows that it has one of these passkeys."""
        options, kept = self._server.authenticate_begin(self._read(known), user_verification="discouraged")
        return dict(options), kept

    def check(self, kept: Any, known: Iterable[str], answer: str) -> None:
        """Accept the answer of one of these passkeys.

        Raises:
            ValueError: The answer does not fit the question, or is from another passkey or site.
        """
        try:
            self._server.authenticate_complete(kept, self._read(known), json.loads(answer))
        except Exception as error:  # as above
            raise ValueError(f"no right answer: {type(error).__name__}") from error

    def _read(self, known: Iterable[str]) -> list[Any]:
        return [self._webauthn.AttestedCredentialData(bytes.fromhex(one)) for one in known]
