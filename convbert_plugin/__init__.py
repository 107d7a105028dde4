"""ConvBERT for fairseq: importing this package registers everything that it adds."""

import os
import sys
from pathlib import Path

from convbert_plugin.errors import UserError

UNSAFE_LOADING = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"

if os.environ.get(UNSAFE_LOADING, "0") not in ("", "0"):
    raise UserError(f"{UNSAFE_LOADING} lets checkpoints run code: unset it")

# The convbert command answers --help at once; it imports what it needs, when it needs it.
is_command = Path(sys.argv[0]).name == "convbert" or "convbert_plugin.cli" in sys.orig_argv
if not is_command:
    try:
        import fairseq  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "fairseq":
            raise
        raise UserError(
            "fairseq is missing: pip install --no-deps ve-fairseq==0.12.3 (or run "
            "examples/quickstart.sh, which sets everything up)"
        ) from None
    from convbert_plugin import tasks  # noqa: F401
    from convbert_plugin.models.convbert import ConvBertModel

    __all__ = ["ConvBertModel"]
