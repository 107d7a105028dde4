"""What the report tells of answers to SQuAD, against values worked by hand and slow loops."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from convbert_plugin.analysis import answer_pictures, score_pictures
from convbert_plugin.analysis.answer_files import Question, read_answers
from convbert_plugin.analysis.answer_pictures import draw_parts, draw_thresholds
from convbert_plugin.analysis.answer_report import answer_sections
from convbert_plugin.analysis.answer_scores import (
    answer_length,
    group_parts,
    number_of_windows,
    question_word,
    run_curves,
)
from convbert_plugin.analysis.drawing import NARROW, WIDE
from convbert_plugin.analysis.groups import summarize
from convbert_plugin.analysis.naming import short_names
from convbert_plugin.analysis.page import FIRST, SECOND
from convbert_plugin.analysis.report_files import report_json, report_page, report_text
from convbert_plugin.analysis.score_pictures import draw_dots
from convbert_plugin.analysis.theme import styles_of
from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from user_dir_tests.analysis.test_report import TRAINED, Page, alone, lines_of, texts_of, write_run

pytestmark = pytest.mark.squad

THRESHOLD = -2.75
CONTEXT = "In 1271 Kublai Khan\nfounded the Yuan; in 1271 he was emperor."
FIRST_YEAR, SECOND_YEAR = CONTEXT.index("1271"), CONTEXT.rindex("1271")
# Id, question, gold texts, best answer, null odds, windows, EM and F1 of what was answered.
ROWS = (
    ("a", "When did Kublai Khan rule?", ["1271", "1271"], "1271", -4.0, 1, 100.0, 100.0),
    # Two words of three are right, and all of the gold answer: 2 * 2/3 / (5/3).
    ("b", "Who founded it?", ["Kublai Khan"], "Kublai Khan\nfounded", -3.0, 1, 0.0, 80.0),
    # Right, but left unanswered.
    ("c", "In what year?", ["in 1271 he"], "in 1271 he", -1.0, 2, 0.0, 0.0),
    ("d", "What did Marco Polo found?", [], "the Yuan", 0.5, 2, 100.0, 100.0),
    ("e", "Name his son.", [], "1271", -5.0, 5, 0.0, 0.0),
)
NAMES = ("id", "question", "gold", "answer", "null_odds", "windows", "exact_match", "f1")
WRONG = [
    {"id": "b", "context": CONTEXT, "gold_start": 8, "answer_start": 8},
    {"id": "e", "context": CONTEXT, "gold_start": None, "answer_start": SECOND_YEAR},
]
SCORES = {"exact_match": 40.0, "f1": 56.0}


def answers(rows=ROWS, threshold=THRESHOLD, wrong=WRONG):
    questions = [dict(zip(NAMES, row, strict=True)) for row in rows]
    for question in questions:
        question["is_impossible"] = not question["gold"]
    return {"questions": questions, "threshold": threshold, "wrong": wrong}


def write_squad(folder: Path, content=None, **description) -> Path:
    """A run on SQuAD with its answers; ``content``: None where it leaves none."""
    values = {
        "task": "squad2.0",
        "metrics": list(SCORES),
        "question_answering_head": "released",
        "majority": {},
        **description,
    }
    write_run(folder, ("valid", 10, SCORES), **values)
    path = folder / "scores.json"
    record = json.loads(path.read_text())
    del record["classification_head"]
    path.write_text(json.dumps(record))
    if content is not None:
        (folder / "answers_valid.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def figures(monkeypatch):
    """Drawings as matplotlib's figures, in place of bytes."""
    for module in (answer_pictures, score_pictures):
        monkeypatch.setattr(module, "image_of", lambda figure, image_format: figure)


def group_answers(*places):
    summary = summarize(places)
    return summary.answers, styles_of(group.label for group in summary.groups)


def test_scores_of_glue_are_times_100_and_those_of_squad_are_not(tmp_path):
    write_squad(tmp_path / "squad", answers())
    write_run(tmp_path / "rte", ("valid", 10, {"accuracy": 0.5}))
    summary = summarize([tmp_path])
    assert [line.split()[-7:-2] for line in report_text(alone(summary)).splitlines()[1:]] == [
        ["50.0", "50.0", "50.0", "–", "52.7"],
        ["40.0", "40.0", "40.0", "–", "–"],
        ["56.0", "56.0", "56.0", "–", "–"],
    ]
    glue, squad = json.loads(report_json(alone(summary)))["groups"]
    assert (glue["classification_head"], squad["question_answering_head"]) == ("released",) * 2
    assert [scores["median"] for scores in squad["scores"]] == [40.0, 56.0]
    page = Page(report_page(alone(summary)))
    assert "validation of each run, times 100; std" in page.text
    assert "0 to 100 as the official evaluators give them" in page.text


def test_reports_of_glue_alone_say_nothing_of_squad(tmp_path):
    write_run(tmp_path / "rte", ("valid", 10, {"accuracy": 0.5}))
    summary = summarize([tmp_path])
    assert "SQuAD" not in report_page(alone(summary))
    assert "answers" not in json.loads(report_json(alone(summary)))["groups"][0]


def test_heads_are_told_where_they_differ(tmp_path):
    write_squad(tmp_path / "a")
    write_squad(tmp_path / "b", question_answering_head="transformers")
    labels = {group.label for group in summarize([tmp_path]).groups}
    assert labels == {"random weights, released head", "random weights, transformers head"}


def question(text="", gold=(), windows=1):
    return Question("x", text, gold, "", 0.0, windows, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("What is it?", "what"),
        ("In which year did what happen?", "which"),
        ("WHOSE was it?", "who"),
        ("To whom, and when?", "who"),
        ("What's that?", "what"),
        ("Name whatever comes somewhere.", "other"),
        ("Wer war das?", "other"),
        ("", "other"),
    ],
)
def test_question_words(text, word):
    assert question_word(question(text)) == word


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ((), "no answer"),
        (("one", "one and two"), "1"),
        (("元朝",), "1"),
        (("a b",), "2"),
        (("a b c  d",), "3 to 4"),
        (("a b c d e",), "5 to 9"),
        (("a b c d e f g h i",), "5 to 9"),
        (("a " * 40,), "10 or more"),
    ],
)
def test_lengths_of_answers(gold, kind):
    assert answer_length(question(gold=gold)) == kind


@pytest.mark.parametrize(
    ("windows", "kind"), [(1, "1"), (3, "3"), (4, "4 or more"), (70, "4 or more")]
)
def test_numbers_of_windows(windows, kind):
    assert number_of_windows(question(windows=windows)) == kind


def test_scores_of_kinds_worked_by_hand(tmp_path):
    write_squad(tmp_path / "seed_1", answers())
    # Another seed has "b" right.
    better = [(*row[:6], 100.0, 100.0) if row[0] == "b" else row for row in ROWS]
    write_squad(tmp_path / "seed_2", answers(better), seed=2)
    (one,), _ = group_answers(tmp_path)
    parts = {(part.partition, part.kind): part for part in group_parts(one).parts}
    assert {name: part.questions for name, part in parts.items()} == {
        **{("words of the answer", kind): 1 for kind in ("1", "2", "3 to 4")},
        ("words of the answer", "no answer"): 2,
        **{("question word", kind): 1 for kind in ("who", "when", "other")},
        ("question word", "what"): 2,
        **{("windows", kind): 2 for kind in ("1", "2")},
        ("windows", "4 or more"): 1,
    }
    assert parts["words of the answer", "2"].scores == {
        "exact_match": [0.0, 100.0],
        "f1": [80.0, 100.0],
    }
    assert parts["windows", "1"].means == {"exact_match": 75.0, "f1": 95.0}
    assert parts["question word", "what"].means == {"exact_match": 50.0, "f1": 50.0}


def test_curves_worked_by_hand(tmp_path):
    write_squad(tmp_path / "run", answers())
    (one,), _ = group_answers(tmp_path)
    (run,) = run_curves(one)
    exact, f1 = run.curves["exact_match"], run.curves["f1"]
    assert exact.thresholds.tolist() == [-np.inf, -5.0, -4.0, -3.0, -1.0, 0.5]
    # Nothing answered, two of five are right; then e loses one, a, b and c win, d loses.
    assert exact.scores.tolist() == pytest.approx([40, 20, 40, 40, 60, 40])
    assert f1.scores.tolist() == pytest.approx([40, 20, 40, 56, 76, 56])
    assert (exact.best, exact.best_threshold, exact.score) == (pytest.approx(60), -1.0, 40)
    assert (f1.best, f1.best_threshold, f1.score) == (pytest.approx(76), -1.0, pytest.approx(56))


def test_curves_go_through_the_scores_at_every_threshold(tmp_path):
    rng = random.Random(3)
    rows = []
    for number in range(40):
        gold = ["right"] if rng.random() < 0.6 else []
        answer, odds = rng.choice(["right", "wrong"]), rng.uniform(-6, 2)
        score = 100.0 * (not gold if odds > THRESHOLD else [answer] == gold)
        rows.append((str(number), "Who?", gold, answer, odds, 1, score, score))
    write_squad(tmp_path / "run", answers(rows, wrong=[]))
    (one,), _ = group_answers(tmp_path)
    (run,) = run_curves(one)
    curve = run.curves["exact_match"]
    for threshold, score in zip(curve.thresholds, curve.scores, strict=True):
        right = sum(
            not gold if odds > threshold else [answer] == gold
            for _, _, gold, answer, odds, *_ in rows
        )
        assert score == pytest.approx(100 * right / 40)
    assert curve.score == pytest.approx(curve.scores[curve.thresholds <= THRESHOLD][-1])
    assert curve.best == curve.scores.max()


def test_odds_beyond_all_numbers_are_above_every_threshold(tmp_path, figures):
    # A question of which no span could be scored.
    write_squad(tmp_path / "run", answers([*ROWS, ("f", "Who?", [], "", None, 1, 100.0, 100.0)]))
    (one,), styles = group_answers(tmp_path)
    (run,) = run_curves(one)
    assert run.curves["exact_match"].scores.tolist()[:-1] == pytest.approx(
        [300 / 6, 200 / 6, 300 / 6, 300 / 6, 400 / 6, 300 / 6]
    )
    assert draw_thresholds([run], styles, short_names(styles), WIDE, "png")


@pytest.mark.parametrize(
    ("rows", "cells"),
    [
        (ROWS, ["-2.75", "40.0", "56.0", "60.0", "-1.00", "76.0", "-1.00", "40.0"]),
        # Nothing that is answered is right.
        (ROWS[3:], ["-2.75", "50.0", "50.0", "100.0", "below all", "100.0", "below all", "100.0"]),
    ],
)
def test_the_table_of_thresholds(tmp_path, figures, rows, cells):
    write_squad(tmp_path / "run", answers(rows, wrong=[]))
    _, thresholds = answer_sections(*group_answers(tmp_path))
    assert thresholds.table.rows == [["random weights", "1", *cells]]


def test_without_unanswerable_questions_there_is_no_threshold(tmp_path, figures):
    write_squad(tmp_path / "run", answers(ROWS[:2], None, WRONG[:1]), task="squad1.1")
    titles = [section.title for section in answer_sections(*group_answers(tmp_path))]
    assert titles == ["squad1.1: kinds of questions", "squad1.1: wrong answers"]


def shown_passages(folder):
    (passages,) = list(answer_sections(*group_answers(folder)))[-1].passages
    return passages


def test_wrong_answers_are_marked_where_they_stand(tmp_path, figures):
    write_squad(tmp_path / "run", answers())
    passages = shown_passages(tmp_path)
    assert passages.summary == "random weights, seed 1: 2 of the 3 wrong answers to 5 questions"
    overlapping, impossible = passages.passages
    assert [(piece.text, piece.marks) for piece in overlapping.pieces] == [
        ("In 1271 ", []),
        ("Kublai Khan", [FIRST, SECOND]),
        (" founded", [SECOND]),
        (" the Yuan; in 1271 he was emperor.", []),
    ]
    assert overlapping.facts == [
        ("gold", "Kublai Khan"),
        ("answered", "Kublai Khan founded"),
        ("F1", "80.0"),
        ("null odds", "-3.00, threshold -2.75"),
    ]
    # The second of two equal texts.
    assert [piece.text for piece in impossible.pieces] == [
        CONTEXT[:SECOND_YEAR].replace("\n", " "), "1271", " he was emperor.",
    ]  # fmt: skip
    assert impossible.facts[0] == ("gold", "no answer")


@pytest.mark.parametrize("start", [None, 3000, SECOND_YEAR + 1])
def test_texts_whose_place_is_not_known_are_marked_at_their_first(tmp_path, figures, start):
    wrong = [{"id": "a", "context": CONTEXT, "gold_start": start}]
    rows = [(*ROWS[0][:6], 0.0, 0.0)]
    write_squad(tmp_path / "run", answers([*rows, ROWS[3]], -9.0, wrong))
    (passage,) = shown_passages(tmp_path).passages
    marked = [piece for piece in passage.pieces if piece.marks]
    assert [(piece.text, piece.marks) for piece in marked] == [("1271", [FIRST, SECOND])]
    assert passage.pieces[0].text == CONTEXT[:FIRST_YEAR]
    assert passage.facts[1] == ("answered", "nothing; best would have been: 1271")


def test_what_stands_in_contexts_is_text(tmp_path):
    hostile = "<script>alert(1)</script> & \x1b[2J {{ 7 }} <mark>x</mark>"
    rows = [("a", hostile, [hostile], hostile[8:20], 0.0, 1, 0.0, 0.0)]
    wrong = [{"id": "a", "context": f"x {hostile}", "gold_start": 2, "answer_start": 10}]
    write_squad(tmp_path / "run", answers(rows, None, wrong))
    page = Page(report_page(alone(summarize([tmp_path]))))
    assert "script" not in page.tags
    assert {"mark", "details"} <= page.tags
    # In pieces, one of which is marked as both.
    assert "".join(page.text.split()).count("x<script>alert(1)</script>&\\x1b[2J{{7}}<mark>") == 1


DAMAGES = {
    "cut off": json.dumps(answers())[:-20],
    "another object": "{}",
    "no object": "[1]",
    "no UTF-8": b"\xff",
    "a score that is a word": json.dumps(answers([(*ROWS[0][:6], "1", 0.0)], wrong=[])),
    "a score that is no number": json.dumps(answers([(*ROWS[0][:6], float("nan"), 0.0)], wrong=[])),
    "an id twice": json.dumps(answers([ROWS[0], ROWS[0]], wrong=[])),
    "a context of nothing": json.dumps(answers(ROWS[:1])),
    "no question": json.dumps(answers([], wrong=[])),
    "questions that are words": json.dumps({**answers(), "questions": ["a"]}),
}


def write_two(folder, damage):
    """Two seeds, of which the answers of the second are missing or damaged; where these stand."""
    write_squad(folder / "seed_1", answers())
    path = write_squad(folder / "seed_2", seed=2) / "answers_valid.json"
    if damage in DAMAGES:
        text = DAMAGES[damage]
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("damage", [*DAMAGES, "missing"])
def test_answers_that_cannot_be_read_are_a_note(tmp_path, damage):
    path = write_two(tmp_path, damage)
    summary = summarize([tmp_path])
    (note,) = summary.notes
    assert note.startswith(f"answers not shown: {path}:")
    (group,), (one,) = summary.groups, summary.answers
    assert (len(group.runs), [file.run.seed for file in one.files]) == (2, [1])
    with pytest.raises(UserError):
        read_answers(group.runs[1], "valid")


def test_the_report_stands_without_answers_that_cannot_be_read(tmp_path, capsys):
    path = write_two(tmp_path / "runs", "missing")
    assert main(["report", str(tmp_path / "runs"), str(tmp_path / "report.html")]) == 0
    note = f"answers not shown: {path}: no such file"
    assert f"note: {note}" in capsys.readouterr().out.splitlines()
    page = Page((tmp_path / "report.html").read_text())
    assert note in page.text
    assert "squad2.0: wrong answers" in page.text
    (group,) = json.loads((tmp_path / "report.json").read_text())["groups"]
    assert group["scores"][0]["seeds"] == [1, 2]
    assert group["answers"][0]["seeds"] == [1]


def test_numbers_of_the_answers_stand_in_the_json(tmp_path):
    write_squad(tmp_path / "run", answers())
    ((told,),) = (
        group["answers"]
        for group in json.loads(report_json(alone(summarize([tmp_path]))))["groups"]
    )
    assert (told["subset"], told["seeds"]) == ("valid", [1])
    assert {"partition": "windows", "kind": "4 or more", "questions": 1} | {
        "scores": {"exact_match": [0.0], "f1": [0.0]}
    } in told["kinds"]
    exact, f1 = told["thresholds"]
    assert (exact["metric"], f1["metric"]) == ("exact_match", "f1")
    assert (exact["best"], exact["best_threshold"]) == (pytest.approx(60), -1.0)
    assert (f1["threshold"], f1["nothing_answered"]) == (THRESHOLD, pytest.approx(40))


def test_dots_of_squad_stand_at_its_scores(tmp_path, figures):
    write_squad(tmp_path / "run", answers())
    summary = summarize([tmp_path])
    styles = styles_of(["random weights"])
    (axes,) = draw_dots(summary.panels(), styles, short_names(styles), WIDE, "svg").axes
    exact, _, f1, _ = lines_of(axes)
    np.testing.assert_allclose([exact[0], f1[0]], [[40], [56]])


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_lanes_of_kinds(tmp_path, figures, width):
    write_squad(tmp_path / "a", answers())
    write_squad(tmp_path / "b", answers(), start=TRAINED)
    found, styles = group_answers(tmp_path)
    parts = list(map(group_parts, found))
    figure = draw_parts(parts, styles, short_names(styles), width, "svg")
    exact, f1, *_ = figure.axes
    assert len(figure.axes) == 6
    # On a narrow screen one stands under the other.
    assert (exact.get_position().y0 == f1.get_position().y0) == (width == WIDE)
    labels = [text for text, _ in texts_of(figure) if "(" in text]
    assert labels[:4] == ["no answer (2)", "1 (1)", "2 (1)", "3 to 4 (1)"]
    # For each lane a line, its seeds and their mean; the third lane has 80.
    markers = {style.marker for style in styles.values()}
    dots = [line for line in f1.get_lines() if line.get_marker() in markers]
    assert [line.get_xdata()[0] for line in dots] == [50, 100, 80, 0] * 2
    first, second = (dots[lane].get_ydata()[0] for lane in (2, 6))
    assert 1.5 < first < 2 < second < 2.5


def test_curves_over_the_threshold_and_what_is_marked(tmp_path, figures):
    write_squad(tmp_path / "a", answers())
    (one,), styles = group_answers(tmp_path)
    exact, f1 = draw_thresholds(
        list(run_curves(one)), styles, short_names(styles), WIDE, "svg"
    ).axes
    curve, fixed, at_fixed, best = lines_of(f1)
    # A score holds from its threshold up to the next.
    assert f1.get_lines()[0].get_drawstyle() == "steps-post"
    np.testing.assert_allclose(curve[1], [40, 20, 40, 56, 76, 56, 56])
    # Between the edges, which hold all that is marked.
    left, right = f1.get_xlim()
    np.testing.assert_allclose(curve[0][1:], [-5, -4, -3, -1, 0.5, right], atol=0.05)
    assert curve[0][0] == left
    np.testing.assert_allclose(fixed[0], THRESHOLD)
    np.testing.assert_allclose(at_fixed, [[THRESHOLD], [56]])
    np.testing.assert_allclose(best, [[-1], [76]])
    assert exact.get_ylim() == f1.get_ylim()
