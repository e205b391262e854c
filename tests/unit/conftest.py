"""What the unit tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from outpost.keys import secrets_file


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Hash passwords with little work: the real hashes of every office that a test makes take a fifth of all unit tests' time."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets_file, "password_hash", lambda password: "{ARGON2ID}" + cheap.hash(password))
        yield
