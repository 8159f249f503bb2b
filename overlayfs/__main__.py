"""``python -m overlayfs`` is ``pyoverlay``."""

import sys

from overlayfs.cli.main import main

sys.exit(main())
