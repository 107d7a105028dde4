"""What every task here is told of the run around it."""

from dataclasses import dataclass, field
from typing import Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import II


@dataclass
class RunConfig(FairseqDataclass):
    """Options that every task follows: where to begin, how precisely to compute, what to bear."""

    # Persistent workers would keep the data set of the first epoch, and hold up the end of each
    # for five seconds.
    reuse_dataloader: bool = False
    persistent_workers: bool = False
    train_subset: str = II("dataset.train_subset")
    seed: int = II("common.seed")
    cpu: bool = II("common.cpu")
    fp16: bool = II("common.fp16")
    bf16: bool = II("common.bf16")
    amp: bool = II("common.amp")
    tpu: bool = II("common.tpu")
    save_dir: str = II("checkpoint.save_dir")
    restore_file: str = II("checkpoint.restore_file")
    finetune_from_model: Optional[str] = II("checkpoint.finetune_from_model")
    continue_once: Optional[str] = II("checkpoint.continue_once")
    reset_optimizer: bool = II("checkpoint.reset_optimizer")
    reset_lr_scheduler: bool = II("checkpoint.reset_lr_scheduler")
    reset_meters: bool = II("checkpoint.reset_meters")
    reset_dataloader: bool = II("checkpoint.reset_dataloader")
    # What a run does about trouble changes nothing where there is none: records leave it out, as
    # all that stands here.
    skip_nonfinite: int = field(
        default=0,
        metadata={
            "help": "leave out updates whose loss or gradients are not finite, up to so many in a "
            "row (0: the first one ends the run)"
        },
    )
    save_on_signal: bool = field(
        default=False,
        metadata={
            "help": "on Ctrl-C, SIGTERM, SIGHUP or SIGUSR1, finish the update and write "
            "checkpoint_last.pt before leaving, all workers at once"
        },
    )
    stop_on_divergence: bool = field(
        default=False,
        metadata={
            "help": "end a run that diverges, or whose discriminator collapses, where otherwise a "
            "line says so"
        },
    )
