"""What stands in a folder that ``convbert prepare-squad`` makes and ``--task squad`` reads.

The tokenizer and its dictionary; ``squad.json``, which says what was prepared; and a folder a
split. In that, lines of token ids: ``context`` (one a paragraph) and ``question``. Arrays:
``offsets`` (of each token of all contexts, its characters of the text), ``paragraphs`` (of each
question, the number of its own), ``answers`` (of each question, the first and the last token of its
first right answer; -1 where there is none) and ``impossible``. The texts: ``contexts.jsonl`` and
``questions.jsonl``; in ``changed.jsonl`` the answers that their tokens do not give back.
"""

import json
from pathlib import Path
from typing import NamedTuple

from convbert_plugin.errors import UserError
from convbert_plugin.files.json_files import typed, write_json
from convbert_plugin.files.text_files import PathLike

SQUAD_FILE = "squad.json"
DATA_MAKER = "convbert prepare-squad"

CONTEXTS, QUESTIONS = "context", "question"
OFFSETS, PARAGRAPHS, ANSWERS, IMPOSSIBLE = "offsets", "paragraphs", "answers", "impossible"
CONTEXT_TEXTS, QUESTION_TEXTS = "contexts.jsonl", "questions.jsonl"
CHANGED_ANSWERS = "changed.jsonl"


class PreparedSplit(NamedTuple):
    """What is known of a split: its file, and how many paragraphs and questions it has.

    ``answered``: the questions with a right answer; ``impossible``: those that have none by the
    file. ``has_gold``: the file says what is right, as that of a test set may not.
    """

    file: str
    paragraphs: int
    questions: int
    answered: int
    impossible: int
    has_gold: bool

    @property
    def has_impossible(self) -> bool:
        return self.impossible > 0


class PreparedSquad(NamedTuple):
    """What ``squad.json`` says."""

    splits: dict[str, PreparedSplit]


def read_description(folder: PathLike) -> PreparedSquad:
    """What was prepared in a folder.

    Raises:
        UserError: no prepared data there, or a damaged description.
    """
    path = Path(folder) / SQUAD_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: name a folder made by {DATA_MAKER}")
    try:
        prepared = typed(PreparedSquad, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OverflowError, RecursionError):
        prepared = None
    if prepared is None or not all(map(_is_sound, prepared.splits.values())):
        raise UserError(f"{path}: damaged: make the folder anew with {DATA_MAKER}")
    return prepared


def write_description(folder: PathLike, prepared: PreparedSquad) -> None:
    """Say in a folder what was prepared."""
    splits = {name: split._asdict() for name, split in prepared.splits.items()}
    write_json(Path(folder) / SQUAD_FILE, {"splits": splits})


def _is_sound(split: PreparedSplit) -> bool:
    told = split.answered + split.impossible
    return (
        split.questions >= split.paragraphs > 0
        and min(split.answered, split.impossible) >= 0
        and told == split.has_gold * split.questions
    )
