"""fairseq-train where it starts a worker a GPU, of which it sees two here; they are on CPUs.

They are forked, as what torch starts would import all anew.
"""

import functools

import fairseq_cli.train
import torch

if __name__ == "__main__":
    torch.cuda.device_count = lambda: 2
    fork = functools.partial(torch.multiprocessing.start_processes, start_method="fork")
    torch.multiprocessing.spawn = fork
    fairseq_cli.train.cli_main()
