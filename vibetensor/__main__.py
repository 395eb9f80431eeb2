"""`python -m vibetensor`: the command line."""

import sys

from vibetensor.cli import main

sys.exit(main())
