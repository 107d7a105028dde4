"""``python -m convbert_plugin.cli`` is the ``convbert`` command."""

import sys

from convbert_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main())
