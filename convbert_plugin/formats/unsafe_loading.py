"""The one environment variable under which loading a checkpoint would run what stands in it.

Neither torch nor fairseq is imported here: the plugin looks before it does anything with them.
"""

import os

from convbert_plugin.errors import UserError

VARIABLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def refuse_unsafe_loading() -> None:
    """Raise UserError while the environment asks torch to run what a pickle says."""
    if os.environ.get(VARIABLE, "0") not in ("", "0"):
        raise UserError(f"{VARIABLE} lets checkpoints run code: unset it")
