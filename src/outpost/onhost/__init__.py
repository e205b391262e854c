"""Programs that run on the hosts themselves: standard library (and Debian's argon2), installed as they stand here."""
