"""``python -m convbert_plugin.cli`` is the ``convbert`` command."""

import sys

from convbert_plugin.cli import main

if __name__ == "__main__":
    # Worker processes inherit it: they too are the command, and import nothing heavy.
    sys.argv[0] = "convbert"
    sys.exit(main())
