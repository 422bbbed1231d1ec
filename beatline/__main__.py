"""``python -m beatline <command>``: :mod:`beatline.cli`, of the project in the current folder."""

import sys

from beatline.cli import main

sys.exit(main())
