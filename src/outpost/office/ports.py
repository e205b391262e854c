"""Port numbers of the office, stated once.

Registered numbers come from the IANA service registry; the two unregistered ones are links between the
office's own hosts and are never open to users or strangers.
"""

SSH = 22
LMTP = 24
"""MTA to store, TLS with client certificates (RFC 2033; IANA's "any private mail system")."""
SMTP = 25
DNS = 53
HTTP = 80
"""Webmail only redirects to HTTPS there."""
NTP = 123
HTTPS = 443
SUBMISSIONS = 465
"""Message submission over implicit TLS (RFC 8314, section 3.3)."""
IMAPS = 993
MANAGESIEVE = 4190
SYSLOG_TLS = 6514
"""Where head office collects logs, unless the office file says another port (RFC 5425's, spoken as RELP)."""
SUBMISSION_RELAY = 10465
"""The MTA's trusted listener: the store's submission proxy hands users' mail over with XCLIENT LOGIN."""
RELAY = 10466
"""The store only, TLS with its own certificate on both sides: Dovecot hands users' mail to whichever MTA answers."""
ACCOUNTS = 10443
"""Webmail to store, TLS with client certificates: sessions, and what users change of their accounts."""
CALENDARS = 10444
"""Groupware to store, TLS with client certificates: whether a login opens calendars."""
SCANNER = 13310
"""Store to MTA, TLS with client certificates: mailboxes scanned again (clamd's INSTREAM)."""
LEARN_SPAM = 11335
"""Store to MTA, TLS with client certificates: a message that a user moved into Junk."""
LEARN_HAM = 11336
"""The same for one that a user moved out of it."""
QUOTA_STATUS = 10024
"""MTA to store, TLS with client certificates: whether a mailbox has room (Dovecot's quota-status)."""
LOGINS = 4001
"""Loopback of the store only: where Dovecot asks whether a login may be tried."""
