"""The predictions of a fine-tuned model, and the files that the GLUE site takes."""

import logging
from pathlib import Path
from typing import Callable, NamedTuple

import torch

from convbert_plugin.analysis.predictions.fine_tuned_models import (
    checkpoint_for,
    tell_of_positions,
)
from convbert_plugin.data.glue.glue_dataset import GlueDataset, GlueOptions
from convbert_plugin.data.glue.glue_description import PreparedTask, read_description
from convbert_plugin.data.glue.glue_files import load_vocabulary, open_rows
from convbert_plugin.data.glue.glue_tasks import GlueTask
from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import whole_file
from convbert_plugin.formats.answers import Answers, told_apart
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint
from convbert_plugin.metrics.glue_scores import METRICS_OF_CLASSES, METRICS_OF_SCORES, confusion
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.dataset_outputs import Track, outputs_of, untracked
from convbert_plugin.models.loading import (
    answers_of,
    example_length,
    load_model,
    usable_positions,
)
from convbert_plugin.models.parts import CLASSIFICATION, names_in, parts_of
from convbert_plugin.models.state import part_problem

logger = logging.getLogger(__name__)

HEADER = "index\tprediction\n"


class FineTuned(NamedTuple):
    """A model with a head for the task of prepared data.

    ``prepared`` has the classes and the range of the model. Examples are cut to ``max_length``, as
    those of its training were, of which ``usable_positions`` have seen some, or repeat such.
    ``tell`` gets a line for what a user should know.
    """

    model: ConvBertModel
    path: Path
    data: Path
    prepared: PreparedTask
    max_length: int
    usable_positions: int
    tell: Callable[[str], None]


def load_fine_tuned(
    checkpoint_path: PathLike, data: PathLike, tell: Callable[[str], None] = logger.warning
) -> FineTuned:
    """Load the model of a checkpoint (or of a folder) that can answer what ``data`` asks.

    Raises:
        UserError: a checkpoint or data that are missing or damaged; another vocabulary; no head
            for the task, or one of other classes.
    """
    data = Path(data)
    prepared = read_description(data)
    vocabulary = load_vocabulary(data)
    path, checkpoint = checkpoint_for(checkpoint_path, data, vocabulary)
    scope = f"{CLASSIFICATION}.{prepared.task.head}"
    _check_head(checkpoint, scope, prepared.task, path, data)
    model = load_model(ConvBertModel, checkpoint, vocabulary, path).eval()
    answers = answers_of(checkpoint, path)[scope]
    if line := told_apart(answers, prepared.answers, path, data, is_scored=False):
        tell(line)
    if answers.are_known:
        prepared = prepared.brought_to(answers)
    length = example_length(checkpoint, [answers])
    return FineTuned(model, path, data, prepared, length, usable_positions(checkpoint), tell)


def _check_head(
    checkpoint: FairseqCheckpoint, scope: str, task: GlueTask, path: Path, data: Path
) -> None:
    parts = parts_of(checkpoint.tensors)
    if scope not in parts:
        heads = names_in(parts, CLASSIFICATION)
        found = f"has the heads {', '.join(heads)}" if heads else "has none"
        raise UserError(
            f"{path}: no classification head {task.head} ({found}): fine-tune it on {task.head} "
            "first, with --task glue"
        )
    if problem := part_problem(scope, parts[scope], {**parts[scope], "classes": task.outputs}):
        raise UserError(f"{path} and {data}: {problem}")


def predict(
    fine_tuned: FineTuned,
    split: str,
    batch_size: int,
    device: str = "cpu",
    track: Track = untracked,
) -> torch.Tensor:
    """Logits [n, outputs] of every example of a split, in the order of the rows, in fp32."""
    model, prepared = fine_tuned.model, fine_tuned.prepared
    scope = f"{CLASSIFICATION}.{prepared.task.head}"
    options = GlueOptions(fine_tuned.max_length, False, model.cfg.pads_visible, scope)
    rows = open_rows(fine_tuned.data, prepared, split, model.vocabulary)
    dataset = GlueDataset(rows, model.vocabulary, options)
    tell_of_positions(fine_tuned.path, dataset, fine_tuned.usable_positions, fine_tuned.tell)
    logits = torch.empty(len(dataset), prepared.task.outputs)
    for batch, answers in outputs_of(model.to(device), dataset, batch_size, track):
        logits[batch["id"]] = answers.cpu()
    return logits


def prediction_words(logits: torch.Tensor, answers: Answers) -> list[str]:
    """What the official site wants for each example: the word of a class, or a score."""
    if answers.labels:
        return answers.words(logits)
    return [f"{score:.9f}" for score in answers.scores(logits.squeeze(-1)).tolist()]


def scores_of(logits: torch.Tensor, fine_tuned: FineTuned, split: str) -> dict[str, float]:
    """The metrics of what was predicted for a split; none where it has no labels."""
    data, prepared = fine_tuned.data, fine_tuned.prepared
    task = prepared.task
    targets = open_rows(data, prepared, split, fine_tuned.model.vocabulary).targets
    if targets is None:
        return {}
    gold = torch.from_numpy(targets)
    if task.is_regression:
        scores = logits.squeeze(-1)
        return {name: METRICS_OF_SCORES[name](scores, gold).item() for name in task.metrics}
    counts = confusion(logits.argmax(-1), gold, task.outputs)
    return {name: METRICS_OF_CLASSES[name](counts).item() for name in task.metrics}


def write_submission(path: Path, words: list[str]) -> None:
    """Write a submission: a header, and a row of its number (from 0) and its word for each."""
    rows = "".join(f"{number}\t{word}\n" for number, word in enumerate(words))
    with whole_file(path) as file:
        file.write((HEADER + rows).encode())
