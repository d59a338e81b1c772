"""`python -m bucketdex` is `bucketdex`."""

import sys

from bucketdex.cli.main import main

sys.exit(main())
