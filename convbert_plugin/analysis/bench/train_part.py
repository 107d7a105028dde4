"""``fairseq-train`` end to end beside the bare step: data, logs and the trainer's own work."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator

import torch

import convbert_plugin
from convbert_plugin.analysis.bench.comparing import Comparison, Work, Workload
from convbert_plugin.analysis.bench.encoder_part import in_mode
from convbert_plugin.analysis.bench.kept_memory import ENVIRONMENT
from convbert_plugin.analysis.bench.own_models import OwnTraining, training_options
from convbert_plugin.analysis.bench.plan import Plan, Setting
from convbert_plugin.analysis.bench.step_part import step_work
from convbert_plugin.analysis.bench.timing import wall_clock

PART = "train"
BARE, TRAINER = "the bare step", "fairseq-train"
DROPOUT = 0.1
# Of the updates between two lines of the log, by device: about a second's.
FLOPS_OF_STRETCH = {"cpu": 1e11, "cuda": 1e14}
LOG_LINE = "| train_inner |"


class BareSteps(Workload):
    """As many steps on one batch as ``fairseq-train`` makes between two lines of its log."""

    def __init__(self, setting: Setting, updates: int):
        self.training, self.updates = OwnTraining(setting), updates

    def run(self) -> None:
        for _ in range(self.updates):
            self.training.run()
        if self.training.setting.device == "cuda":
            torch.cuda.synchronize()


class TrainerRun(Workload):
    """``fairseq-train`` in processes of its own, which stand still but while ``run`` waits.

    A call lasts from one line of the log to the next.
    """

    def __init__(self, setting: Setting, updates: int):
        options = [
            *("--user-dir", str(Path(convbert_plugin.__file__).parent)),
            *("--log-format", "json", "--log-interval", str(updates)),
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fairseq_cli.train", *training_options(setting), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                **ENVIRONMENT,
                "OMP_NUM_THREADS": str(torch.get_num_threads()),
            },
            # Its workers stop and end with it.
            process_group=0,
        )

    def run(self) -> None:
        self._send(signal.SIGCONT)
        last = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if LOG_LINE in line:
                self._send(signal.SIGSTOP)
                return
            last = line.strip() or last
        raise RuntimeError(f"fairseq-train ended: {last}")

    def close(self) -> None:
        self._send(signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


def train_comparisons(plan: Plan) -> Iterator[Comparison]:
    """With dropout, as it is trained, in every size."""
    for arch in plan.archs:
        yield _comparison(plan, plan.setting(arch, dropout=DROPOUT))


def _comparison(plan: Plan, setting: Setting) -> Comparison:
    work = step_work(setting)
    of_a_second = round(FLOPS_OF_STRETCH[setting.device] / work.flops)
    updates = max(1, min(setting.sizes.updates, of_a_second))
    builds: dict[str, Callable[[], Any]] = {}
    for name, kind in {BARE: BareSteps, TRAINER: TrainerRun}.items():
        builds[name] = partial(kind, setting, updates)
        for mode in plan.modes:
            builds[in_mode(name, mode)] = partial(kind, setting.run_as(mode), updates)
    return Comparison(
        part=PART,
        title=f"{setting.words}, dropout {setting.dropout:g}, stretches of {updates} updates",
        work=Work(updates * work.tokens, updates * work.flops),
        build=builds,
        baseline=BARE,
        check=lambda workloads: {},
        clock=wall_clock,
        device=setting.device,
        has_memory=False,
    )
