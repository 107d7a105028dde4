"""The tasks of GLUE, and those of users, as rows of one table."""

from math import isfinite
from typing import NamedTuple, Optional, Union

from convbert_plugin.data.splits import TEST, TRAIN, VALID
from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import composed
from convbert_plugin.tokenization.symbols import FAIRSEQ_FIRST

Column = Union[str, int]
"""The name of a column in the header, or its place (from 0) in a file without one."""

# The second of MNLI's sets, by fairseq's way of counting splits.
SECOND_VALID, SECOND_TEST = "valid1", "test1"
TESTS = (TEST, SECOND_TEST)

CLASSIFICATION_METRICS = ("accuracy", "f1", "mcc")
REGRESSION_METRICS = ("pearson", "spearman")


class Source(NamedTuple):
    """Where the rows of a split stand: a file, its columns of text, and that of the label."""

    file: str
    texts: tuple[Column, ...]
    label: Optional[Column] = None
    # The official QQP files hold a few broken rows, which every official reader passes over.
    skips_broken_rows: bool = False

    @property
    def has_header(self) -> bool:
        return isinstance(self.texts[0], str)


class GlueTask(NamedTuple):
    """What is to be told of texts or pairs of texts, where it stands, and how it is scored.

    ``labels``: the words of the classes in their order; none where a score in ``score_range`` is
    learned. ``metrics``: the official ones, the first of them the one to choose a checkpoint by.
    ``submissions``: the file that the official site wants for a split. ``head``: whose
    classification head answers.
    """

    name: str
    head: str
    labels: tuple[str, ...]
    score_range: Optional[tuple[float, float]]
    metrics: tuple[str, ...]
    sources: dict[str, Source]
    submissions: dict[str, str]

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def outputs(self) -> int:
        """How many numbers a classification head gives."""
        return max(1, len(self.labels))

    @property
    def is_pair(self) -> bool:
        return any(len(source.texts) == 2 for source in self.sources.values())


def _task(
    name: str,
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    texts: tuple[str, ...],
    label: str = "label",
    score_range: Optional[tuple[float, float]] = None,
    suffix: str = ".tsv",
    skips_broken_rows: bool = False,
) -> GlueTask:
    """A task of the usual three files."""
    return GlueTask(
        name=name.lower(),
        head=name.lower(),
        labels=labels,
        score_range=score_range,
        metrics=metrics,
        sources={
            TRAIN: Source(f"train{suffix}", texts, label, skips_broken_rows),
            VALID: Source(f"dev{suffix}", texts, label, skips_broken_rows),
            TEST: Source(f"test{suffix}", texts),
        },
        submissions={TEST: f"{name}.tsv"},
    )


BINARY = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
THREE_WAY = ("contradiction", "entailment", "neutral")
SENTENCES = ("sentence1", "sentence2")
QUESTIONS = ("question1", "question2")
STRINGS = ("#1 String", "#2 String")

# Two files of its own, and no header over the labelled ones: source, label, mark, sentence.
_COLA = _task("CoLA", BINARY, ("mcc",), ("sentence",))._replace(
    sources={
        TRAIN: Source("train.tsv", (3,), 1),
        VALID: Source("dev.tsv", (3,), 1),
        TEST: Source("test.tsv", ("sentence",)),
    }
)
_MNLI = _task("MNLI", THREE_WAY, ("accuracy",), SENTENCES)._replace(
    sources={
        TRAIN: Source("train.tsv", SENTENCES, "gold_label"),
        VALID: Source("dev_matched.tsv", SENTENCES, "gold_label"),
        SECOND_VALID: Source("dev_mismatched.tsv", SENTENCES, "gold_label"),
        TEST: Source("test_matched.tsv", SENTENCES),
        SECOND_TEST: Source("test_mismatched.tsv", SENTENCES),
    },
    submissions={TEST: "MNLI-m.tsv", SECOND_TEST: "MNLI-mm.tsv"},
)
# The diagnostic set has no labels, and MNLI's head answers it.
_AX = _MNLI._replace(
    name="ax",
    sources={TEST: Source("diagnostic.tsv", SENTENCES)},
    submissions={TEST: "AX.tsv"},
)

TASKS = {
    task.name: task
    for task in (
        _COLA,
        _task("SST-2", BINARY, ("accuracy",), ("sentence",)),
        _task("MRPC", BINARY, ("accuracy", "f1"), STRINGS, label="Quality"),
        _task("STS-B", (), REGRESSION_METRICS, SENTENCES, "score", score_range=(0.0, 5.0)),
        _task("QQP", BINARY, ("accuracy", "f1"), QUESTIONS, "is_duplicate", skips_broken_rows=True),
        _MNLI,
        _task("QNLI", ENTAILMENT, ("accuracy",), ("question", "sentence")),
        _task("RTE", ENTAILMENT, ("accuracy",), SENTENCES),
        _task("WNLI", BINARY, ("accuracy",), SENTENCES),
        _AX,
    )
}
"""Label orders are the released ones (classification_tasks.py)."""


def official_task(name: str) -> GlueTask:
    """The official task of a name, in any case.

    Raises:
        UserError: no such task.
    """
    if name.lower() not in TASKS:
        raise UserError(
            f"--glue-task {name or shown(name)}: choose one of {', '.join(TASKS)}, or describe "
            "your own with --text and --labels or --score-range"
        )
    return TASKS[name.lower()]


def own_task(
    name: str,
    suffix: str,
    texts: tuple[str, ...],
    label: str,
    labels: tuple[str, ...] = (),
    score_range: Optional[tuple[float, float]] = None,
    metrics: tuple[str, ...] = (),
) -> GlueTask:
    """The row for a user's own files train, dev and test with a ``suffix``.

    Its test set may have labels.

    Raises:
        UserError: labels, scores or metrics that do not go together.
    """
    label, labels = composed(label), tuple(map(composed, labels))
    if name.lower() in TASKS:
        raise UserError(f"--glue-task {name}: an official task has its own columns: rename yours")
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"--glue-task {name!r}: letters, digits, '-' and '_' make a name")
    if not all(texts):
        raise UserError("--text and --text-pair name columns of the text: an empty word names none")
    if bool(labels) == bool(score_range):
        raise UserError("give the words of the classes (--labels) or a --score-range, one of both")
    if labels and (len(labels) < 2 or len(set(labels)) < len(labels) or not all(labels)):
        raise UserError(f"--labels {','.join(labels)}: give two or more different words")
    for word in labels:
        # The dictionary of the labels has these words already, and one row for each word.
        if word in FAIRSEQ_FIRST or not word.isprintable():
            raise UserError(f"--labels: {word!r} cannot be the word of a class: rename it")
    if score_range and not (score_range[0] < score_range[1] and all(map(isfinite, score_range))):
        raise UserError(
            f"--score-range {score_range[0]:g} {score_range[1]:g}: give the lowest, then the "
            "highest, both finite"
        )
    metrics = metrics or (("accuracy",) if labels else REGRESSION_METRICS)
    possible: tuple[str, ...] = CLASSIFICATION_METRICS if labels else REGRESSION_METRICS
    if labels and len(labels) != 2:
        # The score of the second of two classes.
        possible = tuple(metric for metric in possible if metric != "f1")
    if wrong := next((metric for metric in metrics if metric not in possible), None):
        raise UserError(f"--metrics {wrong}: for this task choose from {', '.join(possible)}")
    task = _task(name, labels, metrics, tuple(map(composed, texts)), label, score_range, suffix)
    test = task.sources[TEST]._replace(label=label)
    return task._replace(sources={**task.sources, TEST: test})
