"""`python -m symgrad.cli`, where the command `symgrad` is not installed."""

import sys

from symgrad.cli import main

sys.exit(main())
