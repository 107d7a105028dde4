"""A loss or gradients that are not finite: where they come from, and what becomes of the update.

In place of what fairseq does: a checkpoint, a dump of every gradient, and a traceback.
"""

import contextlib
import functools
import itertools
import logging
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Optional, Sequence

import torch
from fairseq import utils
from fairseq.logging import metrics
from torch import Tensor, distributed, nn

from convbert_plugin.errors import UserError, counted, listed
from convbert_plugin.files.whole_output import whole_file
from convbert_plugin.formats.finding import LAST_CHECKPOINT
from convbert_plugin.formats.tensor_writing import write_pickled
from convbert_plugin.training.run_config import RunConfig

logger = logging.getLogger(__name__)

# So many updates are kept: those of a run that goes on for days would fill its disk.
MOST_KEPT = 20

Loss = Callable[[dict], Tensor]
"""Of a batch, for a backward pass that may come."""


class NotFinite(Exception):
    """Raised where fairseq would write down all that is not finite."""


class Place(NamedTuple):
    """Where numbers are not finite: in which batch of an update, with its examples, and in what.

    ``in_weights``: a parameter of the model itself holds some.
    """

    batch: int
    examples: list[int]
    words: str
    in_weights: bool


class LeftOut(NamedTuple):
    """How many updates were left out in a row by now, and in all."""

    in_a_row: int = 0
    in_all: int = 0


def check_skips(cfg: RunConfig) -> None:
    """Raise UserError where --skip-nonfinite is no number of updates."""
    if cfg.skip_nonfinite < 0:
        raise UserError(f"--skip-nonfinite {cfg.skip_nonfinite}: choose 0 or more updates")


def leave_out(trainer: Any, batches: Sequence[dict], before: LeftOut) -> LeftOut:
    """Tell of an update whose gradients are not finite, and keep its batches.

    Weights, optimizer and the seed of the next update are those from before it. All workers come
    here, or none: the sum of their gradients is the same for all.

    Raises:
        UserError: more of them in a row than --skip-nonfinite leaves out; norms that differ from
            worker to worker, of which fairseq tells in the same way.
    """
    _check_norms(trainer)
    most = trainer.task.cfg.skip_nonfinite
    number = LeftOut(before.in_a_row + 1, before.in_all + 1)
    place, line = _told(trainer, batches, number)
    if number.in_a_row <= most:
        logger.warning(f"{line}: left out ({number.in_a_row} in a row, {most} at most)")
        return number
    earlier = f": after {counted(most, 'update')} that were left out" if most else ""
    raise UserError(f"{line}{earlier}: {_advice(place, most)}")


def _check_norms(trainer: Any) -> None:
    norms = trainer._grad_norm_buf
    if norms is not None and _is_finite(norms):
        low, high = norms.min().item(), norms.max().item()
        raise UserError(
            f"update {trainer.get_num_updates() + 1:,}: the norms of the workers' gradients differ "
            f"({low:.8g} to {high:.8g}): add --ddp-backend legacy_ddp, or train on GPUs of one kind"
        )


def leave_aggregation(name: str) -> None:
    """Do what ``metrics.aggregate`` leaves undone where an error passes through it."""
    metrics._active_aggregators_cnt[name] -= 1
    if not metrics._active_aggregators_cnt[name]:
        del metrics._active_aggregators[name]


def find(model: nn.Module, loss_of: Loss, batches: Iterable[dict]) -> Optional[Place]:
    """Where a number that is not finite appears first, when an update is computed once more.

    In a batch itself, the output of a module, the loss, or the gradient of the parameter that the
    backward pass reaches first. None where each is finite: their norm was too large.
    """
    parameters = dict(model.named_parameters())
    spoilt = [name for name, parameter in parameters.items() if not _is_finite(parameter)]
    learning = {name: one for name, one in parameters.items() if one.requires_grad}
    for number, batch in enumerate(batches):
        with _watched(model) as (calls, outputs):
            loss = loss_of(batch)
        words = _words_of_batch(batch) or _words_of_outputs(outputs, spoilt)
        if not words and not _is_finite(loss):
            words = f"the loss is not finite{_nor(spoilt)}"
        if not words:
            gradients = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
            words = _words_of_gradients(dict(zip(learning, gradients, strict=True)), calls)
        if words:
            return Place(number, batch["id"].tolist(), words, bool(spoilt))
    return None


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[tuple[dict[str, int], list[str]]]:
    """The modules that are called, each by the number of its last call; those with such outputs."""
    numbers, calls, outputs = itertools.count(), {}, []

    def look(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        calls[name] = next(numbers)
        if not all(map(_is_finite, _tensors_of(output))):
            outputs.append(name)

    # The whole gives the loss.
    modules = [(name, module) for name, module in model.named_modules() if name]
    hooks = [one.register_forward_hook(functools.partial(look, name)) for name, one in modules]
    # Compiled code calls no hooks.
    is_compiled = getattr(getattr(model, "cfg", None), "compile", False)
    eager = torch.compiler.set_stance("force_eager") if is_compiled else contextlib.nullcontext()
    try:
        with eager:
            yield calls, outputs
    finally:
        for hook in hooks:
            hook.remove()


def _is_finite(tensor: Tensor) -> bool:
    # Detached, for a layer that is computed again must keep the same tensors as before.
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.detach()).all())


def _tensors_of(value: Any) -> Iterator[Tensor]:
    if torch.is_tensor(value):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for held in value.values() if isinstance(value, dict) else value:
            yield from _tensors_of(held)


def _words_of_batch(batch: Mapping[str, Any]) -> str:
    inputs = batch["net_input"]
    entries = {name: one for name, one in {**batch, **inputs}.items() if one is not inputs}
    spoilt = [name for name, one in entries.items() if not all(map(_is_finite, _tensors_of(one)))]
    return f"what the data hold ({spoilt[0]}) is not finite" if spoilt else ""


def _words_of_outputs(outputs: Sequence[str], spoilt: Sequence[str]) -> str:
    if not outputs:
        return ""
    # Some parts read the weights of others, without calling these.
    own = [name for name in spoilt if name.startswith(f"{outputs[0]}.")]
    return f"the output of {outputs[0]} is not finite{_nor(own or spoilt)}"


def _words_of_gradients(gradients: Mapping[str, Optional[Tensor]], calls: Mapping) -> str:
    spoilt = [name for name, one in gradients.items() if one is not None and not _is_finite(one)]

    def last_call(name: str) -> int:
        module = name.rpartition(".")[0]
        within = [number for one, number in calls.items() if f"{one}.".startswith(f"{module}.")]
        return max(within, default=-1)

    return f"the gradient of {max(spoilt, key=last_call)} is not finite" if spoilt else ""


def _nor(spoilt: Sequence[str]) -> str:
    return f", nor is {spoilt[0]}" if spoilt else ""


def _told(trainer: Any, batches: Sequence[dict], number: LeftOut) -> tuple[Optional[Place], str]:
    """Where it was found, by whichever worker, and a line on that; keeps the batches."""
    model, criterion = trainer.get_model(), trainer.get_criterion()

    def loss_of(batch: dict) -> Tensor:
        with torch.autocast("cuda", enabled=trainer.cfg.common.amp):
            return criterion(model, batch)[0]

    # As fairseq begins an update.
    trainer._set_seed()
    place = find(model, loss_of, (trainer._prepare_sample(batch)[0] for batch in batches))
    kept = _keep(trainer, batches, place, number) if place else ""
    worker, place, kept = _of_all(trainer, place, kept)
    if place is None:
        kept = _keep(trainer, batches, place, number)
        words = "the norm of the gradients is not finite, though each is when computed again"
    else:
        words, examples = place.words, listed(list(map(str, place.examples)))
        kept = f"examples {examples}{worker}; {kept}"
    return place, f"update {trainer.get_num_updates() + 1:,}: {words} ({kept})"


def _of_all(trainer: Any, place: Optional[Place], kept: str) -> tuple[str, Optional[Place], str]:
    """The first worker that found a place, in words where there are several, and its findings."""
    workers = trainer.data_parallel_world_size
    if workers == 1:
        return "", place, kept
    found: list[Any] = [None] * workers
    group = trainer.data_parallel_process_group
    distributed.all_gather_object(found, (place, kept), group=group)
    worker = next((number for number, (one, _) in enumerate(found) if one), 0)
    return f" of worker {worker}", *found[worker]


def _keep(trainer: Any, batches: Sequence[dict], place: Optional[Place], number: LeftOut) -> str:
    """Write the batches of an update to a file beside the checkpoints; where, in words."""
    if number.in_all > MOST_KEPT:
        return f"not kept, as {MOST_KEPT} are"
    update = trainer.get_num_updates() + 1
    name = f"not_finite_{update}"
    if trainer.data_parallel_world_size > 1:
        name += f"_worker_{trainer.data_parallel_rank}"
    if number.in_a_row > 1:
        name += f"_{number.in_a_row}"
    path = Path(trainer.cfg.checkpoint.save_dir) / f"{name}.pt"
    held = {"update": update, "batches": utils.move_to_cpu(list(batches))}
    if place:
        held |= {"batch": place.batch, "found": place.words}
    try:
        with whole_file(path) as file:
            write_pickled(held, file)
    except UserError as error:
        return f"not kept: {error}"
    return f"kept as {path}"


def _advice(place: Optional[Place], most: int) -> str:
    if place and place.in_weights:
        return f"go back to an earlier checkpoint (copy it over {LAST_CHECKPOINT}), or lower --lr"
    if most:
        return "lower --lr, or go back to an earlier checkpoint"
    return "lower --lr, or leave such updates out by --skip-nonfinite 10"
