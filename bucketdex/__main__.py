"""`python -m bucketdex` is `bucketdex`."""

import sys

from bucketdex.cli import run

sys.exit(run())
