"""How the workers of a run tell that it ends: what waits for others, and what fairseq started."""

import functools
import itertools
import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from convbert_plugin.errors import ANOTHER_IS_GONE, UserError
from convbert_plugin.training import several_workers
from convbert_plugin.training.checkpoints import Start

pytestmark = pytest.mark.survival

# As torch 2.13 and earlier ones have it.
GLOO = (
    "[/__w/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] {}. This is typically caused "
    "by a remote worker crashing. Check the logs of the remote worker before reporting an error."
)
NCCL = (
    "NCCL error in: ../torch/csrc/distributed/c10d/NCCLUtils.hpp:275, remote process exited or "
    "there was a network error, NCCL version 2.21.5\nncclRemoteError: A call failed possibly due "
    "to a network error or a remote process exiting prematurely."
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError(GLOO.format("Connection closed by peer [127.0.0.1]:31621")),
            "Connection closed by peer [127.0.0.1]:31621",
        ),
        (
            RuntimeError(GLOO.format("Timed out waiting 1800000ms for recv operation")),
            "Timed out waiting 1800000ms for recv operation",
        ),
        (torch.distributed.DistBackendError(NCCL), NCCL.splitlines()[0]),
    ],
)
def test_another_worker_that_is_gone_is_told_in_one_line(error, reason):
    with pytest.raises(UserError) as raised, several_workers.gone_workers_told():
        raise error
    line = str(raised.value)
    assert line.startswith(f"{ANOTHER_IS_GONE} ({reason}): ")
    assert "\n" not in line
    assert "start all again" in line


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        RuntimeError("Connection closed by peer"),
        RuntimeError("[enforce fail at ../third_party/gloo/gloo/context.cc:27] size > 0. 0 vs 0"),
        torch.distributed.DistBackendError("NCCL error: unhandled cuda error"),
        ValueError("gloo/ timed out"),
    ],
)
def test_what_else_goes_wrong_stays_what_it_is(error):
    with pytest.raises(type(error)) as raised, several_workers.gone_workers_told():
        raise error
    assert raised.value is error


def ends_by(error):
    """fairseq's ``call_main`` where it starts workers, one of which ends so."""

    def call_main(cfg, main, **kwargs):
        # It reaches them so.
        assert isinstance(pickle.loads(pickle.dumps(main)), functools.partial)
        raise error

    return several_workers._told(call_main)


def main():
    """Stands for fairseq's."""


@pytest.mark.parametrize(
    ("exit_code", "status", "errors"),
    [(1, 1, ""), (143, 143, ""), (-9, 137, "worker 1 was killed by SIGKILL\n")],
)
def test_the_status_of_a_worker_is_that_of_all(exit_code, status, errors, capsys):
    ended = ProcessExitedException("a status", 1, 4321, exit_code)
    with pytest.raises(SystemExit) as raised:
        ends_by(ended)(None, main)
    assert raised.value.code == status
    assert capsys.readouterr().err == errors


def test_a_mistake_that_no_worker_made_keeps_its_traceback():
    """torch's words for it end with the traceback."""
    words = "\n\n-- Process 1 terminated with the following error:\nTraceback\nKeyError: 'a'\n"
    error = ProcessRaisedException(words, 1, 4321)
    with pytest.raises(ProcessRaisedException) as raised:
        ends_by(error)(None, main)
    assert raised.value is error


@pytest.mark.parametrize(("before", "now"), [*itertools.permutations((1, 2, 3, 4), 2)])
@pytest.mark.parametrize("batches", [7, 24])
def test_other_workers_pass_over_no_batch_and_repeat_few(before, now, batches):
    """By lists of the batches that each sees, as fairseq deals them out, wherever they are left."""
    whole = range(batches)
    for place in range(1, math.ceil(batches / before)):
        seen = [batch for rank in range(before) for batch in whole[rank::before][:place]]
        told, kept = [], {"train_iterator": {"iterations_in_epoch": place}}
        several_workers.share_place(trainer_of(now, before, told), kept)
        left = kept["train_iterator"]["iterations_in_epoch"]
        rest = [batch for rank in range(now) for batch in whole[rank::now][left:]]
        assert set(seen) | set(rest) == set(whole)
        again = len(seen) + len(rest) - batches
        assert 0 <= again < now
        [line] = told
        assert (f"(where {again} of its batches are seen again)" in line) == (again > 0)


@pytest.mark.parametrize("before", [0, 2])
def test_the_same_workers_go_on_where_they_were(before):
    told, kept = [], {"train_iterator": {"iterations_in_epoch": 3}}
    several_workers.share_place(trainer_of(2, before, told), kept)
    assert kept["train_iterator"]["iterations_in_epoch"] == 3
    assert not told


def trainer_of(now, before, told):
    """What a trainer of so many workers says of itself that goes on from so many."""
    task = SimpleNamespace(start=Start(path="last.pt", workers=before), tell=told.append)
    return SimpleNamespace(task=task, data_parallel_world_size=now, is_data_parallel_master=True)
