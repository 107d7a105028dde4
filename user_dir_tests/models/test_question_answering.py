"""``answer`` of the hub, beside a slow search through every span of every window."""

import json
import logging
import lzma
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main
from convbert_plugin.data.squad.squad_answers import window_table
from convbert_plugin.data.squad.squad_dataset import SquadDataset, SquadOptions
from convbert_plugin.formats.reading import Reading
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD as HEAD
from convbert_plugin.models.question_answering import Answer, table_of
from user_dir_tests.conftest import DATA
from user_dir_tests.data.squad.squad_toys import toy_questions
from user_dir_tests.models.answering_models import save_answering_model
from user_dir_tests.oracles.answers_by_loops import PlainJudge, ReleasedJudge, found_by_loops
from user_dir_tests.oracles.transformers_models import VOCABULARY, WORDS, save_folder, toy_model
from user_dir_tests.tolerances import relative_error

pytestmark = pytest.mark.squad

KINDS = ["released", "transformers"]
READING = Reading(30, 9, 11, 7, 5, True)
PIECES = [*VOCABULARY, "你", "好", "世", "שלום", "עולם", "مرحبا", "cafe", "?", "##x"]
TEXTS = {
    "one window": ("ba be?", "bi bo bu by ca ce."),
    "more than ten windows": ("ba be bi?", " ".join(WORDS[n * 7 % 80] for n in range(150))),
    "a long question": (" ".join(WORDS[:30]), " ".join(WORDS[20:60])),
    "equal texts": ("bo?", "ba be. " * 3 + "ci co cu " * 9 + "ba be. " * 3),
    "emoji": ("😀 ba?", "ba 😀 be 👩\u200d👩\u200d👧🇩🇪 bi 👍🏽, bo 😀."),
    "CJK": ("你好?", "你好世界 ba 世好你, be\u3000世。"),
    "right to left": ("שלום?", "שלום עולם ba مرحبا be, עולם."),
    "combining marks": ("cafe?", "cafe\u0301 ba CAFÉ be e\u0301e\u0301 \u0301 bi."),
    "spaces": ("ba  be", "  ba\t\tbe \r\n\n bi\xa0bo \u2028 bu  "),
    "one token": ("ba?", "be"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: save_answering_model(folder / kind, kind, PIECES, READING, seed=seed)
        for seed, kind in enumerate(KINDS, 1)
    }


@pytest.fixture(params=KINDS)
def hub(request, folders):
    return ConvBertModel.from_pretrained(folders[request.param])


class OwnJudge(PlainJudge):
    """As one of transformers, by the logits of the hub's own plain head."""

    def __init__(self, hub):
        def theirs(tokens, token_type_ids):
            logits = hub.model.head_logits("question_answering_head", tokens, token_type_ids)
            return SimpleNamespace(start_logits=logits[..., 0], end_logits=logits[..., 1])

        super().__init__(theirs)


def judge_of(hub):
    is_plain = hasattr(hub.model.question_answering_head, "output")
    return (OwnJudge if is_plain else ReleasedJudge)(hub)


def assert_found(answer, found, context):
    """The best span is the answer, or one that scores the same but for rounding."""
    assert isinstance(answer, Answer)
    assert answer.text == context[answer.start : answer.end]
    best = found.answers[0][0]
    equal = [one for one in found.answers if best - one[0] <= 1e-4]
    assert (answer.start, answer.end) in [one[2:] for one in equal]
    assert answer.score == pytest.approx(found.answers[0][1], rel=1e-3)


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
def test_the_answer_is_that_of_a_slow_search(hub, texts):
    question, context = texts
    found = found_by_loops(judge_of(hub), hub, question, context, READING)
    assert_found(hub.answer(question, context, null_threshold=math.inf), found, context)
    odds = found.null_odds
    assert hub.answer(question, context, null_threshold=odds - 1e-3) is None
    assert hub.answer(question, context, null_threshold=odds + 1e-3) is not None
    usual = -2.75 if isinstance(judge_of(hub), ReleasedJudge) else 0
    assert (hub.answer(question, context) is None) == (odds > usual)


def test_of_equal_texts_the_one_that_is_meant_is_told(hub):
    is_first = set()
    for times in range(3, 11):
        context = "ba be bi bo " * times
        found = found_by_loops(judge_of(hub), hub, "ci?", context, READING)
        answer = hub.answer("ci?", context, math.inf)
        assert_found(answer, found, context)
        if context.count(answer.text) > 1:
            is_first.add(context.find(answer.text) == answer.start)
    assert False in is_first


def test_a_checkpoint_keeps_when_to_answer(tmp_path):
    question, context = TEXTS["one window"]
    readings = {
        "of answerable questions": READING._replace(has_impossible=False, null_threshold=-1e9),
        "never": READING._replace(null_threshold=-1e9),
        "always": READING._replace(null_threshold=1e9),
        "not said": READING._replace(has_impossible=None, null_threshold=-1e9),
    }
    answered = {
        name: ConvBertModel.from_pretrained(
            save_answering_model(tmp_path / name, "released", PIECES, reading)
        ).answer(question, context)
        for name, reading in readings.items()
    }
    assert {name for name, answer in answered.items() if answer is None} == {"never"}
    assert len({answer for answer in answered.values() if answer}) == 1


def warnings_in(caplog):
    """The lines of warnings: what libraries say for their debugging is none."""
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("positions", "trained", "expected"),
    [
        (37, 37, Reading(37, 9, 18)),
        (37, 20, Reading(20, 5, 10)),
        (600, 600, Reading(512, 128, 64)),
        (600, 300, Reading(300, 75, 64)),
    ],
)
def test_where_nothing_says_how_to_read(tmp_path, caplog, positions, trained, expected):
    folder = save_answering_model(
        tmp_path / "model", "transformers", PIECES, trained=trained, max_positions=positions
    )
    hub = ConvBertModel.from_pretrained(folder)
    assert hub.run.reading == expected
    question, context = "ba " * 20, " ".join(WORDS * 6)
    found = found_by_loops(judge_of(hub), hub, question, context, expected)
    with caplog.at_level(logging.WARNING):
        assert_found(hub.answer(question, context), found, context)
    assert not warnings_in(caplog)
    assert hub.answer(question, context, null_threshold=found.null_odds - 1e-3) is None


def test_windows_over_untrained_positions_are_told_of_once(tmp_path, caplog):
    folder = save_answering_model(tmp_path / "model", "released", PIECES, READING, trained=19)
    hub = ConvBertModel.from_pretrained(folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            hub.answer("ba?", " ".join(WORDS), null_threshold=math.inf)
    [line] = warnings_in(caplog)
    assert "positions that were never trained, those beyond 19" in line


def test_visible_pads_are_those_of_training(tmp_path):
    """A window is filled up to its full length, as the examples of training were."""
    folder = save_answering_model(
        tmp_path / "model", "released", PIECES, READING, pads_visible=True
    )
    hub = ConvBertModel.from_pretrained(folder)
    seen = []
    hub.model.embeddings.register_forward_hook(
        lambda module, inputs, output: seen.append(output.size(1))
    )
    hub.answer("ba?", "be bi", null_threshold=math.inf)
    assert seen == [READING.length]


def test_the_model_in_half_precision_still_answers(hub):
    question, context = TEXTS["more than ten windows"]
    hub.model.bfloat16()
    answer = hub.answer(question, context, null_threshold=math.inf)
    assert answer.text == context[answer.start : answer.end]
    assert 0 < answer.score <= 1


@torch.no_grad()
def test_heads_compute_in_fp32_under_autocast(hub):
    hub.model.cfg.autocast_dtype = "bfloat16"
    tokens = hub.encode(*TEXTS["one window"], whole=True)[None]
    answerable, head = torch.ones_like(tokens, dtype=torch.bool), hub.model.question_answering_head
    features = hub.model.features(tokens).float()
    exact = head.double()(features.double(), answerable)
    head.float()
    logits = hub.model.head_logits(HEAD, tokens, None, False, answerable=answerable)
    with torch.autocast("cpu", torch.bfloat16):
        rough = head(features, answerable)
    for own, right, in_bfloat16 in zip(logits[:2], exact[:2], rough[:2], strict=True):
        assert relative_error(own, right) < 1e-5 < relative_error(in_bfloat16, right)


LONG_QUESTION = " ".join(WORDS[:40])
MISTAKES = {
    "no context": (("ba?", ""), "context: no text in it, '': give one"),
    "spaces": (("ba?", " \n\t"), "context: no text in it, ' \\n\\t': give one"),
    "no question": (("", "ba"), "question: no text in it, '': give one"),
    "another thing": (("ba?", ["ba"]), "context: give a text, not ['ba']"),
    "half a character": (("ba?", "ba \ud800"), "context: give a text, not 'ba \\ud800'"),
    "nothing": ((None, "ba"), "question: give a text, not None"),
    "no number": (
        ("ba?", "ba", math.nan),
        "null_threshold nan: give a number, or None for the usual one",
    ),
    "a word": (
        ("ba?", "ba", "high"),
        "null_threshold 'high': give a number, or None for the usual one",
    ),
    "yes": (("ba?", "ba", True), "null_threshold True: give a number, or None for the usual one"),
}


@pytest.mark.parametrize(("given", "line"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_told_in_a_line(hub, given, line):
    with pytest.raises(ValueError, match=r"^\w+") as raised:
        hub.answer(*given)
    assert str(raised.value) == line


def test_a_question_that_fills_a_window_is_told(tmp_path):
    reading = READING._replace(max_query_length=27)
    folder = save_answering_model(tmp_path / "model", "released", PIECES, reading)
    hub = ConvBertModel.from_pretrained(folder)
    assert hub.answer(" ".join(WORDS[:26]), "ba be", math.inf).text
    with pytest.raises(ValueError, match=r"^question: 27 tokens fill the window of 30 ") as raised:
        hub.answer(LONG_QUESTION, "ba be")
    assert "shorten it" in str(raised.value)


@pytest.mark.parametrize("place", [0, -1])
def test_a_model_that_gives_no_numbers_is_told(hub, place):
    list(hub.model.question_answering_head.parameters())[place].data.fill_(math.nan)
    with pytest.raises(ValueError, match="no numbers: it is damaged"):
        hub.answer("ba?", "be bi")


def test_a_checkpoint_without_the_head(tmp_path):
    folder = save_answering_model(tmp_path / "model", None, PIECES)
    with pytest.raises(ValueError, match="no question-answering head: fine-tune it with --task sq"):
        ConvBertModel.from_pretrained(folder).answer("ba?", "be")


@torch.no_grad()
def test_a_table_has_its_windows_in_their_order(hub):
    """Though the shortest go through the model first."""
    longer, shorter = list(range(10, 60)), list(range(60, 70))
    questions = toy_questions(
        [longer, shorter], [([7, 8], 0, None), ([9], 1, None), ([5, 6, 7], 0, None)]
    )
    windows = SquadDataset(questions, hub.vocabulary, SquadOptions(READING, False, HEAD, False))
    assert len(set(windows.windows.question)) == 3
    table = table_of(hub.model, windows, batch_size=2)
    assert (np.diff(windows.sizes) < 0).any()
    for number in range(len(windows)):
        batch = windows.collater([windows[number]])
        logits = hub.model(**batch["net_input"])
        sizes = READING.max_answer_length, READING.n_best_size
        alone = window_table(*logits[:4], batch, *sizes)[0].numpy()
        np.testing.assert_allclose(table[number], alone, rtol=1e-4, atol=1e-4)


def real_questions(count):
    """(question, context), spread evenly over the development set of SQuAD 2.0."""
    path = DATA / "squad" / "v2.0-dev.json.xz"
    if not path.exists():
        pytest.skip("the shared data are absent")
    with lzma.open(path, "rt", encoding="utf-8") as file:
        pairs = [
            (question["question"], paragraph["context"])
            for article in json.load(file)["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    return pairs[:: len(pairs) // count][:count]


def bert_vocabulary():
    return (DATA / "vocab" / "bert-base-uncased.txt").read_text().split()


def assert_all_found(hub, judge, reading, count):
    for question, context in real_questions(count):
        found = found_by_loops(judge, hub, question, context, reading)
        assert_found(hub.answer(question, context, math.inf), found, context)


@pytest.mark.slow
def test_real_questions_with_the_head_of_transformers(tmp_path):
    """The logits are transformers' own, of its model."""
    questions, vocabulary = real_questions(1), bert_vocabulary()
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": 256}
    theirs = toy_model("ConvBertForQuestionAnswering", **sizes, num_hidden_layers=1)
    source = save_folder(theirs, tmp_path / "source", vocabulary)
    words = ("convert", "--from", "hf", "--to", "fairseq", source, tmp_path / "here")
    assert main([str(word) for word in words]) == 0
    hub = ConvBertModel.from_pretrained(tmp_path / "here")
    assert questions
    assert_all_found(hub, PlainJudge(theirs), Reading(256, 64, 64), 200)


@pytest.mark.slow
def test_real_questions_with_the_released_head(tmp_path):
    real_questions(1)
    reading = Reading(300, 100, 64, has_impossible=True)
    sizes = {"max_positions": 300, "encoder_layers": 1, "encoder_embed_dim": 24}
    folder = save_answering_model(
        tmp_path / "model", "released", bert_vocabulary(), reading, **sizes
    )
    hub = ConvBertModel.from_pretrained(folder)
    assert_all_found(hub, ReleasedJudge(hub), reading, 200)
