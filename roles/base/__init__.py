"""What every host has, whatever its role: `declare` (packages, SSH, logs, certificates), `hardening`, `backup`; `script` is for every role."""
