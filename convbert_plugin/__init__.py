"""ConvBERT for fairseq: importing this package registers everything that it adds."""

import sys
from pathlib import Path

from convbert_plugin.errors import UserError
from convbert_plugin.formats.unsafe_loading import refuse_unsafe_loading

FAIRSEQ_MISSING = (
    "fairseq is missing: pip install --no-deps ve-fairseq==0.12.3 (or run "
    "examples/quickstart.sh, which sets everything up)"
)

refuse_unsafe_loading()

# The convbert command answers --help at once; it imports what it needs, when it needs it.
is_command = Path(sys.argv[0]).name == "convbert" or "convbert_plugin.cli" in sys.orig_argv
if not is_command:
    try:
        import fairseq  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "fairseq":
            raise
        raise UserError(FAIRSEQ_MISSING) from None
    from convbert_plugin import tasks  # noqa: F401
    from convbert_plugin.models.convbert import ConvBertModel

    __all__ = ["ConvBertModel"]
