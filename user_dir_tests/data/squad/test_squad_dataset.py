import numpy as np
import pytest
import torch

from convbert_plugin.data.squad.squad_dataset import SquadDataset, SquadOptions
from convbert_plugin.formats.reading import Reading
from user_dir_tests.data.squad.squad_toys import toy_questions
from user_dir_tests.models.building import PAD, SEPARATOR, START, vocabulary_of

pytestmark = pytest.mark.squad

VOCABULARY = vocabulary_of(90)
CONTEXTS = [[20, 21, 22], [*range(30, 41)]]
QUESTIONS = [
    ([11, 12, 13], 1, (4, 5)),
    ([14], 0, (2, 2)),
    ([15, 16], 0, None),
    # Of which the last token goes.
    ([17, 18, 19, 11], 1, (0, 9)),
]
# Windows of at most five tokens of a context that has a question of three.
READING = Reading(length=11, doc_stride=3, max_query_length=3)
SEGMENTS = [0] * 5 + [1] * 6


def dataset_of(contexts=CONTEXTS, questions=QUESTIONS, reading=READING, **options):
    options = {"pad_to_max_length": False, "output": "head", "has_gold": True, **options}
    return SquadDataset(
        toy_questions(contexts, questions), VOCABULARY, SquadOptions(reading, **options)
    )


def test_the_windows_of_a_question():
    dataset = dataset_of()
    assert dataset.windows.question.tolist() == [0, 0, 0, 1, 2, 3, 3, 3]
    assert dataset.sizes.tolist() == [11, 11, 11, 7, 8, 11, 11, 11]
    batch = dataset.collater([dataset[index] for index in range(3)])
    inputs = batch["net_input"]
    question = [START, 11, 12, 13, SEPARATOR]
    assert inputs["src_tokens"].tolist() == [
        [*question, 30, 31, 32, 33, 34, SEPARATOR],
        [*question, 33, 34, 35, 36, 37, SEPARATOR],
        [*question, 36, 37, 38, 39, 40, SEPARATOR],
    ]
    assert inputs["segments"].tolist() == [SEGMENTS] * 3
    assert (inputs["has_pads"], inputs["output"]) == (False, "head")
    assert inputs["answerable"].long().tolist() == [[1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]] * 3
    assert batch["context"].long().tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0]] * 3
    assert batch["scored"].long().tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0],
    ]
    assert (batch["first"].tolist(), batch["context_position"].tolist()) == ([0, 3, 6], [5] * 3)
    # The answer is tokens 4 and 5 of the context: in part in the first window.
    assert batch["target"]["start"].tolist() == [0, 6, 0]
    assert batch["target"]["end"].tolist() == [0, 7, 0]
    assert batch["target"]["impossible"].tolist() == [False] * 3
    assert inputs["starts"].tolist() == [0, 6, 0]
    assert (batch["id"].tolist(), batch["rows"], batch["nsentences"]) == ([0, 1, 2], 8, 3)
    assert batch["ntokens"] == 33


def test_pads_are_no_answers():
    dataset = dataset_of()
    batch = dataset.collater([dataset[4], dataset[3]])
    inputs = batch["net_input"]
    assert inputs["src_tokens"].tolist() == [
        [START, 15, 16, SEPARATOR, 20, 21, 22, SEPARATOR],
        [START, 14, SEPARATOR, 20, 21, 22, SEPARATOR, PAD],
    ]
    assert inputs["segments"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 0]]
    answerable = [[1, 0, 0, 0, 1, 1, 1, 1], [1, 0, 0, 1, 1, 1, 1, 0]]
    assert inputs["answerable"].long().tolist() == answerable
    assert batch["scored"].long().tolist() == [[0, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, 0, 0]]
    assert batch["target"]["start"].tolist() == [0, 5]
    assert batch["target"]["end"].tolist() == [0, 5]
    assert batch["target"]["impossible"].tolist() == [True, False]
    # Nothing of it turns into half precision where a run does.
    kept = [*batch.values(), *inputs.values(), *batch["target"].values()]
    assert not any(torch.is_tensor(value) and value.is_floating_point() for value in kept)


def test_a_question_is_cut_and_an_answer_longer_than_a_window_is_in_none():
    dataset = dataset_of()
    batch = dataset.collater([dataset[index] for index in (5, 6, 7)])
    assert batch["net_input"]["src_tokens"][:, :5].tolist() == [[START, 17, 18, 19, SEPARATOR]] * 3
    assert batch["target"]["start"].tolist() == batch["target"]["end"].tolist() == [0] * 3
    assert batch["target"]["impossible"].tolist() == [False] * 3


def test_without_gold_batches_hold_no_answers():
    dataset = dataset_of(has_gold=False)
    batch = dataset.collater([dataset[0]])
    assert "target" not in batch
    assert "starts" not in batch["net_input"]
    assert dataset.collater([]) == {}


def test_visible_pads_fill_every_window_to_the_same_length():
    dataset = dataset_of(pad_to_max_length=True)
    batch = dataset.collater([dataset[3]])
    assert batch["net_input"]["src_tokens"].shape == batch["scored"].shape == (1, 11)
    assert batch["net_input"]["answerable"].long().tolist() == [[1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]]


def test_every_token_is_scored_in_one_window_and_every_answer_of_some_length_is_in_one():
    rng = np.random.default_rng(3)
    contexts = [[20] * length for length in rng.integers(1, 200, 30)]
    questions = [([11] * int(rng.integers(1, 9)), number, None) for number in range(30)]
    for number, (tokens, _, _) in enumerate(questions):
        begin = int(rng.integers(len(contexts[number])))
        last = min(begin + int(rng.integers(10)), len(contexts[number]) - 1)
        questions[number] = tokens, number, (begin, last)
    reading = Reading(length=40, doc_stride=11, max_query_length=8)
    dataset = dataset_of(contexts, questions, reading)
    batch = dataset.collater([dataset[index] for index in range(len(dataset))])
    offset = batch["first"] - batch["context_position"]
    places = torch.arange(40) + offset[:, None]
    found = set()
    for question, context in enumerate(contexts):
        of_question = torch.from_numpy(dataset.windows.question == question)
        scored = places[of_question][batch["scored"][of_question]]
        assert sorted(scored.tolist()) == list(range(len(context)))
        for window in of_question.nonzero().flatten().tolist():
            start, end = (batch["target"][name][window] for name in ("start", "end"))
            if start > 0:
                span = (int(start + offset[window]), int(end + offset[window]))
                assert span == questions[question][2]
                found.add(question)
    assert found == set(range(30))
