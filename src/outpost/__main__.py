"""`python -m outpost`: what the launcher ./outpost starts."""

import os
import sys

from outpost.cli import quick

try:
    done = quick.answered(sys.argv[1:])
except KeyboardInterrupt:
    sys.stderr.write("\noutpost: interrupted\n")
    sys.exit(130)
if done:
    sys.stdout.flush()
    os._exit(0)  # what would be taken apart goes anyhow

from outpost.cli.app import main

main()
