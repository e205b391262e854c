"""Which running programs escape their AppArmor profile. Containers have no profiles, so only machines show it live."""

from __future__ import annotations

from tests.live.test_hardening import unconfined

PROFILES = {"usr.sbin.unbound", "usr.sbin.clamd"}
PROGRAMS = (
    "/proc/1:/usr/lib/systemd/systemd\n/proc/7:/usr/sbin/unbound\n/proc/8:/usr/sbin/clamd (deleted)".replace(
        ":", "/exe:"
    )
)
CONFINED = "/proc/1/attr/current:unconfined\n/proc/7/attr/current:{}\n/proc/8/attr/current:clamd (enforce)"


def test_a_program_outside_its_profile_is_named_though_another_one_is_confined() -> None:
    assert unconfined(PROFILES, PROGRAMS, CONFINED.format("/usr/sbin/unbound (enforce)")) == []
    for mode in ("unconfined", "/usr/sbin/unbound (complain)"):
        assert unconfined(PROFILES, PROGRAMS, CONFINED.format(mode)) == [f"/usr/sbin/unbound: {mode}"]
    assert unconfined(PROFILES - {"usr.sbin.unbound"}, PROGRAMS, CONFINED.format("unconfined")) == []
    ended_meanwhile = "/proc/1/attr/current:unconfined"
    assert unconfined(PROFILES, PROGRAMS, ended_meanwhile) == []
