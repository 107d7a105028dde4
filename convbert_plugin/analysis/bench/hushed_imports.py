"""What the processes that measure memory share: imported once for all, in silence."""

import importlib
import logging

# fairseq tells of optional packages while it is imported, and of every file that it opens.
logging.disable(logging.INFO)
for _name in ("own_models", "peers"):
    importlib.import_module(f"convbert_plugin.analysis.bench.{_name}")
