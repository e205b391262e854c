"""`python -m outpost`: what the launcher ./outpost starts."""

import sys

from outpost.cli import quick

try:
    done = quick.answered(sys.argv[1:])
except KeyboardInterrupt:
    sys.stderr.write("\noutpost: interrupted\n")
    sys.exit(130)
if not done:
    from outpost.cli.app import main

    main()
