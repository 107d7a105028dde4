"""The predictions of a fine-tuned model, and the files that the GLUE site takes."""

from pathlib import Path
from typing import Callable, Iterable, NamedTuple, Sequence

import torch

from convbert_plugin.data.glue.glue_dataset import GlueDataset, GlueOptions
from convbert_plugin.data.glue.glue_files import (
    PreparedTask,
    load_vocabulary,
    open_rows,
    read_description,
)
from convbert_plugin.data.glue.glue_tasks import GlueTask
from convbert_plugin.data.vocabulary import check_same_vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import whole_file
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint, read_checkpoint
from convbert_plugin.formats.finding import checkpoint_at
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import load_model
from convbert_plugin.models.parts import CLASSIFICATION, names_in, parts_of
from convbert_plugin.models.state import part_problem

HEADER = "index\tprediction\n"


class FineTuned(NamedTuple):
    """A model with a head for the task of prepared data."""

    model: ConvBertModel
    data: Path
    prepared: PreparedTask
    max_length: int


def load_fine_tuned(checkpoint_path: PathLike, data: PathLike) -> FineTuned:
    """Load the model of a checkpoint (or of a folder) that can answer what ``data`` asks.

    Raises:
        UserError: a checkpoint or data that are missing or damaged; another vocabulary; no head
            for the task, or one of another number of classes.
    """
    path, data = checkpoint_at(checkpoint_path), Path(data)
    prepared = read_description(data)
    vocabulary = load_vocabulary(data)
    checkpoint = read_checkpoint(path)
    check_same_vocabulary(
        vocabulary,
        checkpoint.vocabulary,
        f"{data}: was prepared with another vocabulary than {path}: prepare it again with "
        f"--tokenizer {path.parent}",
    )
    _check_head(checkpoint, prepared.task, path, data)
    model = load_model(ConvBertModel, checkpoint, vocabulary, path).eval()
    length = checkpoint.task.get("tokens_per_sample")
    positions = model.max_positions()
    return FineTuned(
        model, data, prepared, min(length, positions) if type(length) is int else positions
    )


def _check_head(checkpoint: FairseqCheckpoint, task: GlueTask, path: Path, data: Path) -> None:
    parts = parts_of(checkpoint.tensors)
    scope = f"{CLASSIFICATION}.{task.head}"
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
    track: Callable[[Sequence], Iterable] = lambda batches: batches,
) -> torch.Tensor:
    """Logits [n, outputs] of every example of a split, in the order of the rows, in fp32."""
    model = fine_tuned.model.to(device)
    prepared = fine_tuned.prepared
    scope = f"{CLASSIFICATION}.{prepared.task.head}"
    options = GlueOptions(fine_tuned.max_length, False, model.cfg.pads_visible, scope)
    rows = open_rows(fine_tuned.data, prepared, split, model.vocabulary)
    dataset = GlueDataset(rows, model.vocabulary, options)
    batches = dataset.batch_by_size(dataset.ordered_indices(), max_sentences=batch_size)
    logits = torch.empty(len(dataset), prepared.task.outputs)
    for batch in track(batches):
        inputs = dataset.collater([dataset[int(index)] for index in batch])["net_input"]
        with torch.no_grad():
            answers = model.head_logits(
                scope,
                inputs["src_tokens"].to(device),
                inputs["segments"].to(device),
                inputs["has_pads"],
            )
        logits[torch.as_tensor(batch)] = answers.cpu()
    return logits


def prediction_words(logits: torch.Tensor, task: GlueTask) -> list[str]:
    """What the official site wants for each example: the word of a class, or a score."""
    if task.score_range is None:
        return [task.labels[label] for label in logits.argmax(-1).tolist()]
    lowest, highest = task.score_range
    scores = lowest + logits.squeeze(-1).double() * (highest - lowest)
    return [f"{score:.6f}" for score in scores.clamp(lowest, highest).tolist()]


def write_submission(path: Path, words: list[str]) -> None:
    """Write a submission: a header, and a row of its number (from 0) and its word for each."""
    rows = "".join(f"{number}\t{word}\n" for number, word in enumerate(words))
    with whole_file(path) as file:
        file.write((HEADER + rows).encode())
