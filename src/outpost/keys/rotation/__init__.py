"""Keys that roll: published before they are used, withdrawn after they are gone (invariant 7).

Each kind is a state machine kept in ``secrets.age``, so an interrupted run continues where it stopped:
``dkim`` and ``tsig`` here, certificates and the office's authority beside them, DNSSEC keys by the primary name server itself
(``dnssec`` only keeps a copy). ``engine`` holds what all kinds share, and asks the authoritative servers what they show.
``aftermath`` takes whatever step is due.
"""
