"""``convbert predict-squad`` against an evaluator by the published rules, and the hub interface."""

import json
import math

import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from convbert_plugin.formats.reading import Reading
from user_dir_tests.models.answering_models import save_answering_model
from user_dir_tests.oracles.squad_evaluator import evaluate_1, evaluate_2, questions_of

pytestmark = pytest.mark.squad

TOLERANCE = 1e-9
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the a cat dog sat ran on mat who did what where was red big house ##s ##ing . ? , 元 朝 红"
PIECES = [*SPECIALS, *WORDS.split(), "é", "e"]
READING = Reading(length=30, doc_stride=8, max_query_length=6, max_answer_length=5)
# Of each head, with what null odds the models here leave about half of the questions unanswered.
HEADS = {"released": -30.0, "transformers": -6.0}
ARTICLES = ("the", "a")
FILES = ["nbest.json", "null_odds.json", "predictions.json"]


def paragraphs(count, impossible, seed=0):
    """Contexts of 3 to 70 words, with odd spaces and characters, and three questions each."""
    generator = torch.Generator().manual_seed(seed)

    def draw(most):
        return int(torch.randint(most, (), generator=generator))

    words = ["the", "a", "cat", "Dogs", "sat.", "running", "on", "Mat", "红", "元朝", "é", "house,"]
    spaces = [" ", " ", " ", "  ", "\t", "\n", "\u00a0"]
    for number in range(count):
        parts = [words[draw(len(words))] + spaces[draw(len(spaces))] for _ in range(3 + draw(68))]
        context, asked = "".join(parts).rstrip(), []
        for place in range(3):
            name = f"q{number}-{place}"
            text = " ".join(words[draw(len(words))] for _ in range(3 + draw(5)))
            question = {"id": name, "question": text + "?", "answers": []}
            if impossible:
                question["is_impossible"] = place == 1
            if not (impossible and place == 1):
                # Not an article alone: odds above the threshold count as wrong beside one, and
                # the blank that is written for them as right.
                firsts = [number for number, part in enumerate(parts) if part[:-1] not in ARTICLES]
                for _ in range(1 + draw(3)):
                    first = firsts[draw(len(firsts))]
                    text = "".join(parts[first : first + 1 + draw(3)]).rstrip()
                    start = len("".join(parts[:first]))
                    question["answers"].append({"text": text, "answer_start": start})
            asked.append(question)
        yield {"context": context, "qas": asked}


def write_squad(path, count=12, impossible=True, **changes):
    content = {"data": [{"paragraphs": list(paragraphs(count, impossible, **changes))}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def run(*words):
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of 2.0 and of 1.1, one prepared, and a model of each head for each."""
    folder = tmp_path_factory.mktemp("squad")
    for version, impossible in (("2.0", True), ("1.1", False)):
        write_squad(folder / f"dev-v{version}.json", impossible=impossible)
        for kind in HEADS:
            reading = READING._replace(
                has_impossible=impossible, null_threshold=HEADS[kind] if impossible else None
            )
            save_answering_model(folder / f"{kind}-{version}", kind, PIECES, reading)
    run("prepare-squad", "--tokenizer", folder / "released-2.0", folder / "dev-v2.0.json",
        folder / "prepared")  # fmt: skip
    return folder


@pytest.fixture
def predict(tmp_path, capsys):
    """Predict; the folder of the files, and what was printed of scores."""

    def files(model, data, *options):
        output = tmp_path / "out"
        capsys.readouterr()
        run("predict-squad", "--path", model, *options, data, output)
        assert sorted(path.name for path in output.iterdir()) == FILES
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{output / 'predictions.json'}: 36 questions")
        return output, {name: float(value) for name, value in map(str.split, lines)}

    return files


def read(path):
    def refuse(word):
        raise AssertionError(f"{path}: {word}")

    return json.loads(path.read_bytes(), parse_constant=refuse)


def assert_equal(scores, expected):
    for name, value in expected.items():
        assert abs(scores[name] - value) <= TOLERANCE, name


@pytest.mark.parametrize("kind", HEADS)
def test_what_is_printed_is_what_an_evaluator_says_of_the_files(kind, folder, predict):
    data = folder / "dev-v2.0.json"
    everything, printed = predict(folder / f"{kind}-2.0", data, "--null-threshold", "inf")
    odds = read(everything / "null_odds.json")
    said = read(everything / "predictions.json")
    assert list(odds) == list(said) == [question["id"] for question in questions_of(data)]
    assert all(type(value) is float for value in odds.values())
    assert len(set(odds.values())) == 36
    assert "" not in said.values()
    files = everything / "predictions.json", everything / "null_odds.json"
    expected = evaluate_2(data, *files, threshold=math.inf)
    assert printed.keys() == expected.keys()
    assert_equal(printed, expected)
    # Between the odds, where some are answered, and at one of them, which is not above itself.
    middle = sorted(odds.values())[20]
    for threshold in (middle, middle + 1e-5, HEADS[kind]):
        output, printed = predict(
            folder / f"{kind}-2.0", data, f"--null-threshold={threshold!r}", "--batch-size", "5"
        )
        given = read(output / "predictions.json")
        assert given == {
            name: "" if odds[name] > threshold else text for name, text in said.items()
        }
        # Of what is answered alone, and with odds and threshold of what would be.
        assert_equal(printed, evaluate_2(data, output / "predictions.json"))
    default, also = predict(folder / f"{kind}-2.0", folder / "prepared")
    assert (read(default / "predictions.json"), also) == (given, printed)


@pytest.mark.parametrize("kind", HEADS)
def test_questions_that_all_have_an_answer(kind, folder, predict):
    data = folder / "dev-v1.1.json"
    output, printed = predict(folder / f"{kind}-1.1", data)
    said = read(output / "predictions.json")
    assert "" not in said.values()
    assert printed.keys() == {"exact_match", "f1"}
    assert_equal(printed, evaluate_1(data, output / "predictions.json"))
    # One that was trained on others too may leave them out.
    output, printed = predict(folder / f"{kind}-2.0", data, "--null-threshold", "-1000000")
    assert set(read(output / "predictions.json").values()) == {""}
    assert_equal(printed, evaluate_1(data, output / "predictions.json"))


@pytest.mark.parametrize("kind", HEADS)
def test_answers_are_spans_of_the_contexts_and_those_of_the_hub(kind, folder, predict):
    data = folder / "dev-v2.0.json"
    output, _ = predict(folder / f"{kind}-2.0", data)
    said, n_best = read(output / "predictions.json"), read(output / "nbest.json")
    odds = read(output / "null_odds.json")
    hub = ConvBertModel.from_pretrained(folder / f"{kind}-2.0")
    held = json.loads(data.read_text())["data"][0]["paragraphs"]
    blanks = 0
    for context, question in ((held["context"], one) for held in held for one in held["qas"]):
        entries = n_best[question["id"]]
        assert 1 < len(entries) <= 20
        for entry in entries:
            assert entry["text"] == context[entry["start"] : entry["end"]] != ""
            assert list(entry) == ["text", "probability", "score", "start", "end"]
        assert len({entry["text"] for entry in entries}) == len(entries)
        scores = [entry["score"] for entry in entries]
        assert scores == sorted(scores, reverse=True)
        weights = [math.exp(score - scores[0]) for score in scores]
        probabilities = [entry["probability"] for entry in entries]
        assert probabilities == pytest.approx([weight / sum(weights) for weight in weights])
        found = hub.answer(question["question"], context, null_threshold=math.inf)
        assert (found.text, found.start) == (entries[0]["text"], entries[0]["start"])
        assert found.score == pytest.approx(probabilities[0], abs=1e-5)
        is_blank = odds[question["id"]] > HEADS[kind]
        assert said[question["id"]] == ("" if is_blank else found.text)
        blanks += said[question["id"]] == ""
        assert (hub.answer(question["question"], context) is None) == (said[question["id"]] == "")
    assert 0 < blanks < 36


def test_batches_and_the_file_or_its_folder_make_no_difference(folder, predict):
    model = folder / "transformers-2.0"
    outputs = []
    for data, size in ((folder / "dev-v2.0.json", 64), (folder / "prepared", 3)):
        output, printed = predict(model, data, "--batch-size", size)
        outputs.append((read(output / "predictions.json"), printed, read(output / "nbest.json")))
        odds = read(output / "null_odds.json")
        outputs[-1] += (list(odds), pytest.approx(list(odds.values()), abs=1e-5))
    (said, printed, n_best, ids, close), (*others, other_ids, other_odds) = outputs
    assert (said, printed, ids) == (*others[:2], other_ids)
    assert close.expected == other_odds
    for name, entries in n_best.items():
        assert entries[0]["text"] == others[2][name][0]["text"]


def test_how_a_checkpoint_reads_decides(folder, tmp_path, predict):
    """One best answer, of one token, to a threshold of its own."""
    reading = READING._replace(
        max_answer_length=1, n_best_size=1, has_impossible=True, null_threshold=-1e9
    )
    model = save_answering_model(tmp_path / "model", "transformers", PIECES, reading)
    output, _ = predict(model, folder / "dev-v2.0.json")
    assert set(read(output / "predictions.json").values()) == {""}
    for entries in read(output / "nbest.json").values():
        assert len(entries) == 1
        assert entries[0]["probability"] == 1.0
        assert not any(space in entries[0]["text"] for space in " \t\n\u00a0")


def test_a_file_without_answers_of_a_model_that_says_nothing_of_its_training(
    folder, tmp_path, predict, capsys
):
    """As one from transformers: every question is answered, unless a threshold is given."""
    content = json.loads((folder / "dev-v1.1.json").read_text())
    for question in (one for held in content["data"][0]["paragraphs"] for one in held["qas"]):
        del question["answers"]
    (tmp_path / "mine.json").write_text(json.dumps(content))
    model = save_answering_model(tmp_path / "model", "transformers", PIECES)
    output, printed = predict(model, tmp_path / "mine.json")
    assert printed == {}
    assert "" not in read(output / "predictions.json").values()
    output, _ = predict(model, tmp_path / "mine.json", "--null-threshold", "-1000000")
    assert set(read(output / "predictions.json").values()) == {""}
    # That there are unanswerable ones is told by the data alone.
    capsys.readouterr()
    run("predict-squad", "--path", model, folder / "dev-v2.0.json", tmp_path / "out")
    assert "an answer (null odds above 0)\n" in capsys.readouterr().out


def assert_fails(tmp_path, message, *words):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message) as error:
        main(["predict-squad", *map(str, words), str(tmp_path / "answers")])
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_answered_is_one_line(folder, tmp_path):
    data, prepared = folder / "dev-v2.0.json", folder / "prepared"
    bare = save_answering_model(tmp_path / "bare", None, PIECES)
    message = r"bare/model.pt: no question-answering head: fine-tune it first, with --task squad$"
    assert_fails(tmp_path, message, "--path", bare, data)
    message = r"v2.0.json: has 12 questions without an answer .*released-1.1/model.pt was not "
    message += r"trained to tell: train it on such, or let it answer all .*--null-threshold inf$"
    assert_fails(tmp_path, message, "--path", folder / "released-1.1", data)
    words = ("--null-threshold", "1", "--path", folder / "released-1.1", folder / "dev-v1.1.json")
    assert_fails(tmp_path, r"--null-threshold 1: .* all have an answer: leave it out$", *words)
    other = save_answering_model(tmp_path / "other", "released", [*PIECES, "more"])
    message = r"prepared: was prepared with another vocabulary than .*: prepare it again with"
    assert_fails(tmp_path, message, "--path", other, prepared)
    own = ("--path", folder / "released-2.0")
    message = r"--split train: .*prepared has only valid: name one of it$"
    assert_fails(tmp_path, message, *own, "--split", "train", prepared)
    assert_fails(tmp_path, r"nowhere: no such file or folder$", *own, tmp_path / "nowhere")
    assert_fails(tmp_path, r"squad.json is missing: name a folder made by", *own, tmp_path)
    short = READING._replace(length=9, has_impossible=True)
    narrow = save_answering_model(tmp_path / "narrow", "released", PIECES, short)
    message = (
        r"narrow/model.pt: reads windows of 9 tokens, which a question of 6 fills, and nothing"
    )
    assert_fails(tmp_path, message, "--path", narrow, data)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: a file, where OUT has to be a folder"):
        main(["predict-squad", *map(str, own), str(data), str(tmp_path / "file")])
    if not torch.cuda.is_available():
        assert_fails(
            tmp_path, r"--device cuda: there is no GPU here", "--device", "cuda", *own, data
        )
    for value in ("nan", "high"):
        with pytest.raises(SystemExit) as ended:
            main(["predict-squad", *map(str, own), "--null-threshold", value, str(data), "out"])
        assert ended.value.code == 2


def test_broken_questions_are_passed_over_if_asked_to(folder, tmp_path, capsys):
    content = json.loads((folder / "dev-v2.0.json").read_text())
    content["data"][0]["paragraphs"][2]["qas"][0]["answers"][0]["answer_start"] += 1
    (tmp_path / "dev.json").write_text(json.dumps(content))
    words = ("--path", folder / "released-2.0", tmp_path / "dev.json")
    assert_fails(
        tmp_path, r"question 'q2-0': .* pass over what is broken with --skip-broken", *words
    )
    capsys.readouterr()
    run("predict-squad", "--skip-broken", *words, tmp_path / "answers")
    told = capsys.readouterr()
    assert "35 questions" in told.out
    assert "dev.json: passed over 1, the first: question 'q2-0'" in told.err


def test_a_model_without_numbers_writes_nothing(folder, tmp_path):
    model = save_answering_model(tmp_path / "model", "transformers", PIECES, READING)
    checkpoint = torch.load(model / "model.pt", weights_only=True)
    checkpoint["model"]["question_answering_head.output.bias"][:] = 3e38
    torch.save(checkpoint, model / "model.pt")
    message = r"model.pt: what it says of questions are no numbers: its training failed, take an"
    assert_fails(tmp_path, message, "--path", model, folder / "dev-v2.0.json")
