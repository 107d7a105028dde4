"""The answers of a fine-tuned model, and the files that SQuAD's evaluators take."""

import contextlib
import logging
import math
import tempfile
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional

import numpy as np

from convbert_plugin.analysis.predictions.fine_tuned_models import (
    checkpoint_for,
    tell_of_positions,
)
from convbert_plugin.data.splits import TEST, VALID
from convbert_plugin.data.squad.squad_answers import n_best
from convbert_plugin.data.squad.squad_dataset import SquadDataset, SquadOptions
from convbert_plugin.data.squad.squad_description import PreparedSquad, read_description
from convbert_plugin.data.squad.squad_files import load_vocabulary, open_questions
from convbert_plugin.data.squad.squad_preparing import prepare
from convbert_plugin.data.squad.squad_windows import SPECIALS
from convbert_plugin.errors import UserError, counted, shown
from convbert_plugin.files.json_files import write_json_rows
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import whole_files
from convbert_plugin.formats.finding import checkpoint_at
from convbert_plugin.formats.reading import Reading
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.dataset_outputs import Track, untracked
from convbert_plugin.models.loading import load_model, usable_positions
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD, parts_of
from convbert_plugin.models.question_answering import reading_of, table_of
from convbert_plugin.modules.span_heads import NULL_THRESHOLDS
from convbert_plugin.tasks.answered_questions import AnsweredQuestions, answered_questions
from convbert_plugin.tokenization.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

Bar = Callable[[list[PathLike], str], contextlib.AbstractContextManager[Callable[[int], None]]]
"""Shows of files, under a name, how far they are read: what it gives takes the position."""

PREDICTIONS, N_BEST, NULL_ODDS = "predictions.json", "nbest.json", "null_odds.json"


@contextlib.contextmanager
def no_bar(paths: list[PathLike], description: str) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda position: None


class Answering(NamedTuple):
    """A model that answers the questions of prepared data, and how it was trained to.

    ``kind``: of its head. ``usable_positions`` have seen training, or repeat such. ``tell`` gets a
    line for what a user should know.
    """

    model: ConvBertModel
    path: Path
    data: Path
    prepared: PreparedSquad
    kind: str
    reading: Reading
    usable_positions: int
    tell: Callable[[str], None]


@contextlib.contextmanager
def prepared_data(
    data: PathLike,
    checkpoint_path: PathLike,
    skip_broken: bool = False,
    tell: Callable[[str], None] = logger.warning,
    bar: Bar = no_bar,
) -> Iterator[Path]:
    """The folder of prepared data: one of a name, or made of a SQuAD file while it is needed.

    ``bar`` shows how far the making is.

    Raises:
        UserError: neither is there; as ``prepare``.
    """
    path = Path(data)
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise UserError(f"{data}: no such file or folder")
    tokenizer = load_tokenizer(checkpoint_at(checkpoint_path).parent)
    with tempfile.TemporaryDirectory() as folder:
        with bar([path], "prepare") as report_position:
            files = {TEST: path}
            made = prepare(
                files, Path(folder), tokenizer, skip_broken, report_position=report_position
            )
        summary = made.summaries[TEST]
        if summary.warning:
            tell(f"{data}: {summary.warning}")
        if summary.skipped:
            tell(f"{data}: passed over {len(summary.skipped):,}, the first: {summary.skipped[0]}")
        yield Path(folder)


def split_to_answer(prepared: PreparedSquad, data: PathLike, name: Optional[str] = None) -> str:
    """The split of a name; of none the test set, else the validation set.

    Raises:
        UserError: there is none.
    """
    held = ", ".join(prepared.splits)
    if name is not None:
        if name not in prepared.splits:
            raise UserError(
                f"--split {name or shown(name)}: {data} has only {held}: name one of it"
            )
        return name
    for split in (TEST, VALID):
        if split in prepared.splits:
            return split
    raise UserError(f"{data}: has no {TEST} and no {VALID}, only {held}: name one with --split")


def load_answering(
    checkpoint_path: PathLike, data: PathLike, tell: Callable[[str], None] = logger.warning
) -> Answering:
    """Load the model of a checkpoint (or of a folder) that can answer the questions of ``data``.

    Raises:
        UserError: a checkpoint or data that are missing or damaged; another vocabulary; no head.
    """
    data = Path(data)
    prepared = read_description(data)
    vocabulary = load_vocabulary(data)
    path, checkpoint = checkpoint_for(checkpoint_path, data, vocabulary)
    parts = parts_of(checkpoint.tensors)
    if QUESTION_ANSWERING_HEAD not in parts:
        raise UserError(
            f"{path}: no question-answering head: fine-tune it first, with --task squad"
        )
    kind = parts[QUESTION_ANSWERING_HEAD]["kind"]
    model = load_model(ConvBertModel, checkpoint, vocabulary, path).eval()
    usable = usable_positions(checkpoint)
    return Answering(model, path, data, prepared, kind, reading_of(checkpoint), usable, tell)


def threshold_for(
    answering: Answering, split: str, name: PathLike, null_threshold: Optional[float] = None
) -> float:
    """The null odds above which a question of a split has no answer.

    ``null_threshold``: what was asked for; ``name``: the data, in errors.

    Raises:
        UserError: unanswerable questions, or a threshold, for a model that was trained without.
    """
    path, reading = answering.path, answering.reading
    impossible = answering.prepared.splits[split].impossible
    if reading.has_impossible is False and null_threshold != math.inf:
        if impossible:
            raise UserError(
                f"{name}: has {counted(impossible, 'question')} without an answer (as SQuAD 2.0), "
                f"which {path} was not trained to tell: train it on such, or let it answer all of "
                "them with --null-threshold inf"
            )
        if null_threshold is not None:
            raise UserError(
                f"--null-threshold {null_threshold:g}: {path} was trained on questions that all "
                "have an answer: leave it out"
            )
    if null_threshold is not None:
        return null_threshold
    return reading.threshold(NULL_THRESHOLDS[answering.kind], impossible > 0)


def answer_split(
    answering: Answering,
    split: str,
    threshold: float,
    batch_size: int,
    device: str = "cpu",
    track: Track = untracked,
) -> AnsweredQuestions:
    """Answer every question of a split.

    Raises:
        UserError: data that are damaged, a question that fills a window, a model without numbers.
    """
    model, reading, path = answering.model.to(device), answering.reading, answering.path
    questions = open_questions(answering.data, answering.prepared, split, model.vocabulary)
    longest = min(int(np.max(questions.questions.sizes)) - 1, reading.max_query_length)
    if longest + SPECIALS >= reading.length:
        raise UserError(
            f"{path}: reads windows of {counted(reading.length, 'token')}, which a question of "
            f"{longest} fills, and nothing of its context fits: shorten it"
        )
    pads_visible = model.cfg.pads_visible
    options = SquadOptions(reading, pads_visible, QUESTION_ANSWERING_HEAD, has_gold=False)
    dataset = SquadDataset(questions, model.vocabulary, options)
    tell_of_positions(path, dataset, answering.usable_positions, answering.tell)
    # Damaged texts are told before the model is asked.
    texts = dataset.texts
    table = table_of(model, dataset, batch_size, track)
    answered = answered_questions(table, questions, texts, dataset.windows, threshold)
    if not np.isfinite(answered.null_odds).all():
        raise UserError(
            f"{path}: what it says of questions are no numbers: its training failed, take an "
            "earlier checkpoint"
        )
    return answered


def write_answers(output: PathLike, answered: AnsweredQuestions) -> None:
    """Write what was answered, the possible answers, and the null odds, each by question.

    Raises:
        UserError: the files cannot be written; then there is none of them.
    """
    ids, texts = answered.texts.ids, answered.texts
    odds = answered.null_odds.tolist()
    contexts = [texts.contexts[paragraph] for paragraph in answered.questions.paragraphs]
    given = zip(ids, texts_given(answered), strict=True)
    candidates = (
        [candidate._asdict() for candidate in found] for found in n_best(answered.spans, contexts)
    )
    rows = (given, zip(ids, candidates, strict=True), zip(ids, odds, strict=True))
    names = (PREDICTIONS, N_BEST, NULL_ODDS)
    with whole_files([Path(output) / name for name in names]) as files:
        for file, items in zip(files, rows, strict=True):
            write_json_rows(file, items)


def texts_given(answered: AnsweredQuestions) -> list[str]:
    """What is answered to each question: nothing where its null odds are above the threshold."""
    is_blank = (answered.null_odds > answered.threshold).tolist()
    return ["" if blank else text for blank, text in zip(is_blank, answered.answers, strict=True)]
