"""What stands in a folder that ``convbert prepare-glue`` makes and ``--task glue`` reads.

It is the layout of fairseq's sentence_prediction: ``input0/`` (with the dictionary and the
tokenizer), ``input1/`` for pairs, and ``label/``; ``task.json`` beside them says what was prepared.
"""

import json
from pathlib import Path
from typing import NamedTuple

from convbert_plugin.data.glue.glue_tasks import (
    CLASSIFICATION_METRICS,
    REGRESSION_METRICS,
    GlueTask,
)
from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import typed, write_json
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.answers import Answers

DESCRIPTION_FILE = "task.json"
INPUTS = ("input0", "input1")
LABELS = "label"
DATA_MAKER = "convbert prepare-glue"


class PreparedSplit(NamedTuple):
    """What is known of a split: its file, its rows, and how many of them each class has."""

    file: str
    rows: int
    label_counts: tuple[int, ...]


class PreparedTask(NamedTuple):
    """What ``task.json`` says, perhaps brought to the classes or the range of a model."""

    task: GlueTask
    splits: dict[str, PreparedSplit]

    @property
    def answers(self) -> Answers:
        return Answers(self.task.labels, self.task.score_range)

    def brought_to(self, answers: Answers) -> "PreparedTask":
        """The same with the order of the classes, or the range of the scores, of a model.

        Classes of other names are in the same order already.
        """
        if set(self.task.labels) != set(answers.labels):
            return self
        task = self.task._replace(labels=answers.labels, score_range=answers.score_range)
        places = [self.task.labels.index(word) for word in answers.labels]
        splits = {}
        for name, split in self.splits.items():
            counts = split.label_counts and tuple(split.label_counts[place] for place in places)
            splits[name] = split._replace(label_counts=counts)
        return self._replace(task=task, splits=splits)


def read_description(folder: PathLike) -> PreparedTask:
    """What was prepared in a folder.

    Raises:
        UserError: no prepared data there, or a damaged description.
    """
    path = Path(folder) / DESCRIPTION_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: name a folder made by {DATA_MAKER}")
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise UserError(f"{path}: damaged: make the folder anew with {DATA_MAKER}") from None


def write_description(folder: PathLike, prepared: PreparedTask) -> None:
    """Say in a folder what was prepared."""
    task = prepared.task._asdict()
    task["sources"] = {name: source._asdict() for name, source in task["sources"].items()}
    splits = {name: split._asdict() for name, split in prepared.splits.items()}
    write_json(Path(folder) / DESCRIPTION_FILE, {**task, "splits": splits})


def _from_json(values: dict) -> PreparedTask:
    splits = values.pop("splits")
    prepared = typed(PreparedTask, {"task": values, "splits": splits})
    if not _is_sound(*prepared):
        raise ValueError
    return prepared


def _is_sound(task: GlueTask, splits: dict[str, PreparedSplit]) -> bool:
    metrics = REGRESSION_METRICS if task.is_regression else CLASSIFICATION_METRICS
    return (
        bool(task.labels) != bool(task.score_range)
        and set() < set(task.metrics) <= set(metrics)
        and splits.keys() <= task.sources.keys()
        and all(
            len(split.label_counts) == (task.sources[name].label is not None) * len(task.labels)
            for name, split in splits.items()
        )
        # Predictions are written under these names: into the folder asked for, nowhere else.
        and all(Path(file).name == file for file in task.submissions.values())
    )
