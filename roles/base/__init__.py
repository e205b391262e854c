"""What every host is, whatever its role: `become` (packages, SSH, logs, certificates), `hardening`, `backup`."""
