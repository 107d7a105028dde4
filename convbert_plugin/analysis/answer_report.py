"""What the report tells of answers to SQuAD: kinds of questions, thresholds, and wrong answers."""

import itertools
from functools import partial
from typing import Iterator, Optional, Sequence

from convbert_plugin.analysis.answer_files import AnswerFile, Question, WrongAnswer
from convbert_plugin.analysis.answer_pictures import draw_parts, draw_thresholds
from convbert_plugin.analysis.answer_scores import (
    Curve,
    GroupParts,
    PartScore,
    RunCurves,
    group_parts,
    run_curves,
)
from convbert_plugin.analysis.drawing import pictures
from convbert_plugin.analysis.groups import GroupAnswers
from convbert_plugin.analysis.naming import Names, short_names
from convbert_plugin.analysis.page import (
    FIRST,
    SECOND,
    Passage,
    Passages,
    Piece,
    Section,
    Table,
)
from convbert_plugin.analysis.theme import Styles
from convbert_plugin.metrics.squad_scores import SCORES

PARTS_HEADER = ("by", "kind", "questions", "runs", *SCORES)
CURVES_HEADER = (
    "runs", "seed", "threshold", *SCORES,
    *("best_exact_match", "at", "best_f1", "at", "nothing answered"),
)  # fmt: skip
LEGEND = (
    Piece("the gold answer", [FIRST]),
    Piece(", "),
    Piece("what the model found best", [SECOND]),
    Piece(", "),
    Piece("both", [FIRST, SECOND]),
)
PARTS_LEAD = (
    "Means over the seeds, and how many questions they are of. The words of an answer are those of "
    "the first gold answer; a question word is the first of these words in the question."
)
CURVES_LEAD = "Questions whose null odds are above the threshold count as unanswered."
CURVES_NOTE = (
    "The best threshold is found on the very questions that are scored, so its score is one that "
    "no threshold chosen before would have beaten: compare best with best, and fixed with fixed."
)
# A line end or tab is shown as a space, so that places stay as they are.
SPACES = str.maketrans("\n\r\t", "   ")


def answer_sections(answers: Sequence[GroupAnswers], styles: Styles) -> Iterator[Section]:
    """The sections of the groups of one task on one set."""
    name = answers[0].group.name(answers[0].subset)
    parts = list(map(group_parts, answers))
    names = short_names(styles)
    drawn = pictures(
        partial(draw_parts, parts, styles, names), f"{name}: scores by kinds of questions"
    )
    table = _parts_table(parts, names)
    yield Section(f"{name}: kinds of questions", [], table, [drawn], lead=PARTS_LEAD)
    runs = [curves for one in answers for curves in run_curves(one)]
    if runs:
        drawn = pictures(
            partial(draw_thresholds, runs, styles, names),
            f"{name}: scores over the threshold of null odds",
        )
        table = _curves_table(runs, names)
        yield Section(f"{name}: thresholds", [CURVES_NOTE], table, [drawn], lead=CURVES_LEAD)
    shown = [_passages(one, names) for one in answers if one.files[0].wrong]
    if shown:
        yield Section(f"{name}: wrong answers", passages=shown)


def answer_values(answers: GroupAnswers) -> dict:
    """The numbers of what a group answered on one set, in full precision."""
    parts = group_parts(answers).parts
    return {
        "subset": answers.subset,
        "seeds": [file.run.seed for file in answers.files],
        "kinds": [part._asdict() for part in parts],
        "thresholds": [
            {
                "seed": run.seed,
                "threshold": run.threshold,
                "nothing_answered": curve.unanswered,
                "metric": metric,
                "score": curve.score,
                "best": curve.best,
                "best_threshold": curve.best_threshold,
            }
            for run in run_curves(answers)
            for metric, curve in run.curves.items()
        ],
    }


def _parts_table(groups: Sequence[GroupParts], names: Names) -> Table:
    rows = [(part, names[group.label]) for group in groups for part in group.parts]
    kinds = list(dict.fromkeys((part.partition, part.kind) for part, _ in rows))
    rows.sort(key=lambda row: kinds.index((row[0].partition, row[0].kind)))
    cells = [
        [part.partition, part.kind, f"{part.questions:,}", name, *_means(part)]
        for part, name in rows
    ]
    return Table(PARTS_HEADER, cells, {"questions", *SCORES}, summary="In numbers", stubs=3)


def _means(part: PartScore) -> list[str]:
    return [f"{part.means[metric]:.1f}" for metric in SCORES]


def _curves_table(runs: Sequence[RunCurves], names: Names) -> Table:
    cells = [
        [names[run.label], str(run.seed), f"{run.threshold:g}", *_curve_words(run)] for run in runs
    ]
    return Table(CURVES_HEADER, cells, set(CURVES_HEADER) - {"runs"})


def _curve_words(run: RunCurves) -> list[str]:
    curves = [run.curves[metric] for metric in SCORES]
    scores = [f"{curve.score:.1f}" for curve in curves]
    bests = [(f"{curve.best:.1f}", _threshold_words(curve)) for curve in curves]
    # Nothing answered, both are the share of unanswerable questions.
    return [*scores, *itertools.chain(*bests), f"{curves[0].unanswered:.1f}"]


def _threshold_words(curve: Curve) -> str:
    return "below all" if curve.is_best_unanswered else f"{curve.best_threshold:.2f}"


def _passages(answers: GroupAnswers, names: Names) -> Passages:
    """Wrong answers of the first run of a group."""
    file = answers.files[0]
    questions = {question.id: question for question in file.questions}
    wrong = sum(question.exact_match < 100 for question in file.questions)
    summary = (
        f"{names[answers.group.label]}, seed {file.run.seed}: {len(file.wrong):,} of the "
        f"{wrong:,} wrong answers to {len(file.questions):,} questions"
    )
    passages = [_passage(questions[one.id], one, file) for one in file.wrong]
    return Passages(summary, LEGEND, passages)


def _passage(question: Question, wrong: WrongAnswer, file: AnswerFile) -> Passage:
    unanswered = "nothing; best would have been: " if file.leaves_unanswered(question) else ""
    facts = [
        ("gold", " · ".join(dict.fromkeys(question.gold)) or "no answer"),
        ("answered", unanswered + question.answer),
        ("F1", f"{question.f1:.1f}"),
    ]
    if file.threshold is not None and question.null_odds is not None:
        facts.append(("null odds", f"{question.null_odds:.2f}, threshold {file.threshold:g}"))
    gold = question.gold[0] if question.gold else ""
    spans = [
        _span(wrong.context, text, start)
        for text, start in ((gold, wrong.gold_start), (question.answer, wrong.answer_start))
    ]
    return Passage(
        question.question.translate(SPACES),
        [(name, words.translate(SPACES)) for name, words in facts],
        _pieces(wrong.context.translate(SPACES), *spans),
    )


def _span(context: str, text: str, start: Optional[int]) -> tuple[int, int]:
    """Where a text stands: at a known start, or at its first place."""
    if start is None or context[start : start + len(text)] != text:
        start = context.find(text)
    return (start, start + len(text)) if start >= 0 else (0, 0)


def _pieces(context: str, gold: tuple[int, int], answer: tuple[int, int]) -> list[Piece]:
    """The context cut where a mark begins or ends."""
    marks = {FIRST: gold, SECOND: answer}
    edges = sorted({0, len(context), *gold, *answer})
    return [
        Piece(
            context[begin:end],
            [mark for mark, (first, last) in marks.items() if first <= begin and end <= last],
        )
        for begin, end in itertools.pairwise(edges)
    ]
