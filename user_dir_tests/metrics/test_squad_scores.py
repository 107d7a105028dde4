"""Against what the official evaluators said, and values worked out by hand."""

import json
import lzma
import time

import numpy as np
import pytest

from convbert_plugin.metrics.squad_scores import (
    BEST_THRESHOLDS,
    SCORES_WITH_IMPOSSIBLE,
    exact_match,
    f1,
    normalize_answer,
    question_scores,
    squad_scores,
    threshold_curve,
)
from user_dir_tests.conftest import DATA

pytestmark = pytest.mark.squad

# Sums of at most 1e5 numbers in float64.
TOLERANCE = 1e-9
OFFICIAL_NAMES = {
    "exact": "exact_match",
    "f1": "f1",
    "HasAns_exact": "has_answer_exact_match",
    "HasAns_f1": "has_answer_f1",
    "NoAns_exact": "no_answer_exact_match",
    "NoAns_f1": "no_answer_f1",
    "best_exact": "best_exact_match",
    "best_exact_thresh": "best_exact_match_threshold",
    "best_f1": "best_f1",
    "best_f1_thresh": "best_f1_threshold",
    "exact_match": "exact_match",
}
SETS = [
    *(f"v1.1-dev/{kind}" for kind in ("gold", "empty", "random", "perturbed", "first 700 only")),
    *(f"v2.0-dev/{kind}" for kind in ("gold", "empty", "random", "perturbed")),
]


def unpacked(name):
    with lzma.open(DATA / "squad" / f"{name}.json.xz", "rt", encoding="utf-8") as file:
        return json.load(file)


@pytest.fixture(scope="module")
def oracle():
    if not DATA.exists():
        pytest.skip("the shared data are absent")
    return unpacked("oracle")


@pytest.fixture(scope="module")
def gold_of():
    """The gold texts of each question of both development sets, by its id."""
    return {
        name: {
            question["id"]: [answer["text"] for answer in question["answers"]]
            for article in unpacked(name)["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        }
        for name in ("v1.1-dev", "v2.0-dev")
    }


def assert_official(scores, official):
    counted = {"total", "HasAns_total", "NoAns_total"}
    assert {OFFICIAL_NAMES[name] for name in official.keys() - counted} <= scores.keys()
    for name, value in official.items():
        if name not in counted:
            assert abs(scores[OFFICIAL_NAMES[name]] - value) <= TOLERANCE, name


@pytest.mark.parametrize("name", SETS)
def test_the_official_evaluators(name, oracle, gold_of):
    assert set(SETS) == set(oracle)
    said, gold = oracle[name], gold_of[name.split("/")[0]]
    predictions = [said["predictions"].get(number) for number in gold]
    scores = squad_scores(predictions, None, list(gold.values()), 0.0)
    assert_official(scores, said["scores"])
    odds = [said["null_odds"][number] for number in gold] if "null_odds" in said else None
    for threshold, official in said.get("with_null_odds", {}).items():
        scores = squad_scores(predictions, odds, list(gold.values()), float(threshold))
        assert_official(scores, official)
        assert scores.keys() == {*SCORES_WITH_IMPOSSIBLE, *BEST_THRESHOLDS}
        assert all(type(value) is float for value in scores.values())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel\tTower.", "eiffel tower"),
        ("a\n", ""),
        ("an apple, the pear & a fig!", "apple pear fig"),
        ("theatre another aa", "theatre another aa"),
        ("U.S.A.'s", "usas"),
        # Punctuation goes first, so that what it parted becomes one word.
        ("a-the", "athe"),
        ("the-end", "theend"),
        # Only ASCII's punctuation goes; letters of any script have a lower case.
        ("“Quoted” — ÄRGER…", "“quoted” — ärger…"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        # A space without a break is one, a letter with a mark ends no article.
        ("the\u00a0year\u2003two", "year two"),
        ("a\u0301 the", "\u0301"),
        ("元朝 the 😀", "元朝 😀"),
        ("", ""),
    ],
)
def test_normalizing(text, normal):
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "overlap"),
    [
        ("the Norman Conquest", ["Norman conquest!"], 1, 1),
        ("Norman", ["norman conquest"], 0, 2 / 3),
        ("red red blue", ["red green"], 0, 2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2)),
        ("in 1066", ["1067", "1066", "the year 1066 AD"], 0, 2 / 3),
        ("", ["something"], 0, 0),
        ("x", ["y"], 0, 0),
    ],
)
def test_one_answer(prediction, gold, exact, overlap):
    assert exact_match(prediction, gold) == exact
    for blanks_agree in (False, True):
        assert f1(prediction, gold, blanks_agree) == pytest.approx(overlap, abs=1e-15)


def test_nothing_left_of_a_text():
    # 1.1: an article alone equals a blank by exact match, but shares no word with it.
    scores = squad_scores(["", "the", "b"], None, [["A"], ["."], ["b"]], 0.0)
    assert scores == {"exact_match": 100.0, "f1": pytest.approx(100 / 3)}
    # 2.0: such a gold answer does not count beside others, and blanks agree.
    scores = squad_scores(["the", "", "the"], None, [["a"], ["a", "b"], []], 0.0)
    assert (scores["exact_match"], scores["f1"]) == pytest.approx((200 / 3, 200 / 3))
    assert scores["no_answer_f1"] == 100.0


def test_thresholds():
    predictions, gold = ["a b", "c d", "e", "f"], [["b"], ["d x"], [], []]
    scores = squad_scores(predictions, [-2.0, 1.0, 0.0, 3.0], gold, 0.0)
    # The first is answered, the second is not, the third is at the threshold, which is not above.
    assert scores == pytest.approx(
        {
            **{"exact_match": 50.0, "f1": 50.0},
            **{"has_answer_exact_match": 50.0, "has_answer_f1": 50.0},
            **{"no_answer_exact_match": 50.0, "no_answer_f1": 50.0},
            **{"best_exact_match": 75.0, "best_exact_match_threshold": -2.0},
            **{"best_f1": 75.0, "best_f1_threshold": -2.0},
        }
    )
    everything = squad_scores(predictions, [-2.0, 1.0, 0.0, 3.0], gold, float("inf"))
    assert (everything["no_answer_f1"], everything["has_answer_f1"]) == (0.0, 75.0)
    # With nothing to gain the official search stays where it begins.
    worse = squad_scores(["x", "y"], [-1.0, -2.0], [["b"], []], 0.0)
    assert (worse["best_f1"], worse["best_f1_threshold"]) == (50.0, 0.0)


def test_a_model_of_2_0_on_questions_that_all_have_answers():
    scores = squad_scores(["b", "c", "d"], [1.0, -1.0, 1.0], [["b"], ["c"], ["the"]], 0.0)
    # The last is blank, and so equals an article by the rules of 1.1.
    assert scores == {"exact_match": pytest.approx(200 / 3), "f1": pytest.approx(100 / 3)}


def test_sets_of_one_kind_and_empty_ones():
    assert squad_scores([], [], [], 0.0) == {"exact_match": 0.0, "f1": 0.0}
    scores = squad_scores(["x", "y"], [1.0, -1.0], [[], []], 0.0)
    assert (scores["exact_match"], scores["has_answer_f1"]) == (50.0, 0.0)


def slow_best(scored, null_odds, name):
    """Every threshold that parts the questions tried, each from the beginning."""
    values = getattr(scored, name)
    best = (~scored.has_answer).sum()
    for threshold in null_odds:
        total = 0.0
        for value, odds, has_answer, has_text in zip(
            values, null_odds, scored.has_answer, scored.has_text, strict=True
        ):
            if odds > threshold or not has_text:
                total += not has_answer
            elif has_answer:
                total += value
        best = max(best, total)
    return 100 * best / len(values)


def random_questions(count, seed=0):
    rng = np.random.default_rng(seed)
    words = np.array(["the", "one", "two", "three", "four.", "Five", ""])
    texts = [" ".join(rng.choice(words, 3)).strip() for _ in range(5 * count)]
    gold = [texts[5 * n : 5 * n + rng.integers(0, 5)] for n in range(count)]
    # Never without a word: the official search and its scores take "the" differently.
    return [f"one {texts[5 * n + 4]}" for n in range(count)], rng.normal(size=count), gold


def test_the_best_threshold_is_the_best():
    predictions, odds, gold = random_questions(150)
    scored = question_scores(predictions, gold)
    scores = squad_scores(predictions, odds, gold, 0.0)
    for name in ("exact_match", "f1"):
        assert scores[f"best_{name}"] == pytest.approx(slow_best(scored, odds, name))
        thresholds, curve = threshold_curve(scored, odds, name)
        assert len(curve) == 151
        for place in (*range(0, 151, 15), 150):
            at = squad_scores(predictions, odds, gold, thresholds[place])[name]
            assert abs(at - curve[place]) <= TOLERANCE


def test_twelve_thousand_questions_take_no_time():
    predictions, odds, gold = random_questions(12_000)
    squad_scores(predictions, odds, gold, 0.0)
    before = time.process_time()
    squad_scores(predictions, odds, gold, 0.0)
    assert time.process_time() - before < 0.8
