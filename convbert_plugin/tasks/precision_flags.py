"""Say at the start which of fairseq's precision flags cannot work."""

import torch

from convbert_plugin.errors import UserError
from convbert_plugin.tasks.run_config import RunConfig

INSTEAD = "use --autocast-dtype bfloat16 instead"


def check_precision(cfg: RunConfig) -> None:
    """Refuse precision flags that fairseq takes and this machine cannot honour.

    Raises:
        UserError: ``--bf16`` on the command line, which fairseq reads as TPU; ``--fp16`` or
            ``--amp`` without a GPU.
    """
    if cfg.tpu and cfg.bf16:
        raise UserError(f"--bf16 on the command line means TPU to fairseq: {INSTEAD}")
    if cfg.cpu or not torch.cuda.is_available():
        for flag in ("fp16", "amp"):
            if getattr(cfg, flag):
                raise UserError(f"--{flag} needs a GPU: {INSTEAD}")
