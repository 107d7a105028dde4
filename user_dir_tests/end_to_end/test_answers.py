"""What a head was trained to answer, and how long its texts were, goes with its checkpoint."""

import json
import shutil

import fairseq_cli.train
import fairseq_cli.validate
import pytest
import torch
from scipy import stats

from convbert_plugin import ConvBertModel
from convbert_plugin.analysis.predictions.glue_predictions import load_fine_tuned
from convbert_plugin.analysis.predictions.glue_predictions import predict as predict_logits
from convbert_plugin.cli import main as convbert
from convbert_plugin.data.glue.glue_files import open_rows
from convbert_plugin.errors import UserError
from user_dir_tests.end_to_end.conftest import forget_earlier_runs, run_main
from user_dir_tests.end_to_end.glue_runs import GLUE_TASK, GLUE_USUAL, write_rows

pytestmark = [pytest.mark.glue, pytest.mark.slow]

LABELS = ("A", "B", "C")
WORDS = ("old", "quick", "tired")
SCORES, NARROW = (-100, -75, -50), (-100, -90, -75)
TEXTS = [f"the {word} {noun} sees a mouse." for noun in ("dog", "cat", "bird") for word in WORDS]
# Of 8 batches of training, five times each; without dropout, whose numbers differ by machine.
UPDATES = (
    *("--max-update", "60", "--lr", "4e-3"),
    *("--dropout", "0", "--attention-dropout", "0"),
)
AGREE = 1e-6
# Two thirds of RTE's dev pairs are longer, a quarter of STS-B's.
SHORT = 40


def command(*words):
    assert convbert([str(word) for word in words]) == 0


def prepare(source, out, tokenizer, *options):
    own = ("--glue-task", "topics", "--tokenizer", tokenizer, "--text", "text")
    command("prepare-glue", *own, *options, source, out)
    return out


def write_texts(folder, answers):
    rows = [(text, str(answer)) for text, answer in zip(TEXTS, answers * 3, strict=True)]
    for split, count in (("train", 8), ("dev", 1)):
        write_rows(folder / f"{split}.tsv", ("text", "label"), rows * count)
    write_rows(folder / "test.tsv", ("text",), [(text,) for text in TEXTS])
    return folder


def trained(data, folder, *options):
    with pytest.MonkeyPatch.context() as patch:
        usual = (*GLUE_USUAL, "--save-dir", folder, *options)
        run_main(patch, fairseq_cli.train, data, *usual)
    forget_earlier_runs()
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="session")
def made(corpus, tmp_path_factory):
    """Data in two orders of the labels, of other labels, and in ranges; runs on the first ones."""
    folder = tmp_path_factory.mktemp("topics")
    words = write_texts(folder / "words", LABELS)
    other = write_texts(folder / "other_words", ("X", "Y", "Z"))
    data = {
        order: prepare(words, folder / order, corpus.pieces, "--labels", ",".join(order))
        for order in ("ABC", "CBA")
    }
    data["XYZ"] = prepare(other, folder / "XYZ", corpus.pieces, "--labels", "X,Y,Z")
    for name, scores in {"trained": SCORES, "narrow": NARROW, "beyond": (0, 500, 1000)}.items():
        source, limits = write_texts(folder / f"{name}_scores", scores), (scores[0], scores[-1])
        data[name] = prepare(source, folder / name, corpus.pieces, "--score-range", *limits)
    data["classes"] = trained(data["ABC"], folder / "run", *UPDATES)
    data["regression"] = trained(data["trained"], folder / "regression", *UPDATES)
    return data


@pytest.fixture
def validate(run_fairseq):
    """The scores of a checkpoint on data."""

    def run(data, checkpoint, *options):
        usual = (*GLUE_TASK, "--path", checkpoint, "--batch-size", "4", "--cpu")
        usual += ("--num-workers", "0", "--log-format", "json")
        logs = run_fairseq(fairseq_cli.validate, data, *usual, *options)
        return {name: float(value) for name, value in logs["valid"][-1].items() if name != "epoch"}

    return run


@pytest.fixture
def predict(tmp_path):
    def run(data, checkpoint):
        out = tmp_path / f"of_{data.name}"
        command("predict-glue", "--path", checkpoint, data, out)
        [file] = out.iterdir()
        return [row.split("\t")[1] for row in file.read_text().splitlines()[1:]]

    return run


def line_of(run, *arguments):
    with pytest.raises((UserError, SystemExit)) as ended:
        run(*arguments)
    assert "\n" not in str(ended.value)
    return str(ended.value)


def test_classes_in_another_order_are_the_same_classes(made, validate, predict, caplog, capfd):
    scores = validate(made["ABC"], made["classes"])
    assert scores["valid_accuracy"] == 1
    assert not any("brought" in line for line in caplog.messages)
    assert validate(made["CBA"], made["classes"]) == scores
    assert any("CBA: the classes C, B, A, brought to" in line for line in caplog.messages)
    assert predict(made["ABC"], made["classes"]) == list(LABELS) * 3
    assert capfd.readouterr().err == ""
    assert predict(made["CBA"], made["classes"]) == list(LABELS) * 3
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert "CBA: the classes C, B, A, brought to those of" in told[0]


def test_classes_that_are_numbers_are_places(made, corpus, validate, predict, tmp_path, capfd):
    """Official files have numbers, a head that others trained on them has words."""
    source = write_texts(tmp_path / "words", ("0", "1", "2"))
    data = prepare(source, tmp_path / "numbers", corpus.pieces, "--labels", "0,1,2")
    assert validate(data, made["classes"])["valid_accuracy"] == 1
    capfd.readouterr()
    assert predict(data, made["classes"]) == ["0", "1", "2"] * 3
    [line] = capfd.readouterr().err.splitlines()
    assert "numbers: the classes 0, 1, 2, taken for the places of those of" in line
    turned = prepare(source, tmp_path / "turned", corpus.pieces, "--labels", "2,1,0")
    assert "was trained for the classes A, B, C" in line_of(validate, turned, made["classes"])


def test_a_test_set_with_labels_is_scored_by_both_commands(
    made, corpus, run_fairseq, predict, tmp_path, caplog, capfd
):
    source = write_texts(tmp_path / "words", LABELS)
    write_rows(source / "test.tsv", ("text", "label"), [(text, "A") for text in TEXTS])
    data = prepare(source, tmp_path / "data", corpus.pieces, "--labels", "C,B,A")
    assert predict(data, made["classes"]) == list(LABELS) * 3
    assert "topics.tsv: 9 predictions, accuracy 0.3333" in capfd.readouterr().out
    usual = ("--path", made["classes"], "--batch-size", "4", "--cpu", "--log-format", "json")
    run_fairseq(fairseq_cli.validate, data, *GLUE_TASK, *usual, "--valid-subset", "test")
    [told] = [json.loads(record.message) for record in caplog.records if record.name == "test"]
    assert float(told["test_accuracy"]) == pytest.approx(1 / 3, abs=1e-3)


def test_examples_that_are_cut_otherwise_are_told_of(made, validate, caplog):
    validate(made["ABC"], made["classes"], "--tokens-per-sample", "12")
    line = "--tokens-per-sample 12: the examples that the head of the checkpoint was trained on"
    assert f"{line} were cut to 20 tokens" in caplog.messages


def test_a_run_goes_on_with_its_own_order(made, tmp_path):
    """Resumed, and begun anew, with a head that is there: as if the order had not changed."""
    here = {}
    for order in ("ABC", "CBA"):
        folder = shutil.copytree(made["classes"].parent, tmp_path / order)
        here[order] = torch.load(
            trained(made[order], folder, "--max-update", "63", "--lr", "4e-3"), weights_only=True
        )
        source = ("--finetune-from-model", made["classes"], "--max-update", "2")
        start = trained(made[order], tmp_path / f"start_{order}", *source)
        here[f"start_{order}"] = torch.load(start, weights_only=True)
    for pair in (("ABC", "CBA"), ("start_ABC", "start_CBA")):
        one, two = (here[name] for name in pair)
        for name, tensor in one["model"].items():
            assert torch.equal(tensor, two["model"][name]), name
        assert one["task_state"] == two["task_state"]
        [kept] = two["task_state"]["answers"].values()
        assert kept == {"labels": list(LABELS), "score_range": None, "length": 20}


def test_other_classes_are_refused_at_every_door(made, validate, tmp_path):
    checkpoint, data = made["classes"], made["XYZ"]
    resumed = shutil.copytree(checkpoint.parent, tmp_path / "resumed")
    begun = ("--finetune-from-model", checkpoint, "--max-update", "1")
    doors = {
        "validate": lambda: validate(data, checkpoint),
        "predict": lambda: command("predict-glue", "--path", checkpoint, data, tmp_path / "out"),
        "resume": lambda: trained(data, resumed, "--max-update", "99"),
        "restore": lambda: trained(data, tmp_path / "restored", "--restore-file", checkpoint),
        "warm start": lambda: trained(data, tmp_path / "begun", *begun),
    }
    for door, run in doors.items():
        line = line_of(run)
        assert "was trained for the classes A, B, C, and " in line, door
        assert "XYZ holds the classes X, Y, Z: prepare the data with the --labels" in line, door
    assert not (tmp_path / "out").exists()
    assert "was trained for the classes" in line_of(validate, made["trained"], checkpoint)


def test_scores_are_in_the_range_of_the_training(made, validate, predict, capfd):
    checkpoint = made["regression"]
    scores = [float(score) for score in predict(made["trained"], checkpoint)]
    assert scores == pytest.approx(SCORES * 3, abs=8)
    assert capfd.readouterr().err == ""
    again = [float(score) for score in predict(made["beyond"], checkpoint)]
    assert again == pytest.approx(scores, abs=50 * AGREE)
    assert "scores from 0 to 1000, brought to those of" in capfd.readouterr().err
    hub = ConvBertModel.from_pretrained(checkpoint.parent, checkpoint.name)
    ours = torch.cat([hub.predict("topics", hub.encode(text)) for text in TEXTS])
    assert ours.shape == (9, 1)
    assert ours.dtype == torch.float64
    assert ours[:, 0].tolist() == pytest.approx(scores, abs=50 * AGREE)
    # What is scored has to lie in the range, and is measured by it.
    logits = torch.cat([hub.predict("topics", hub.encode(t), return_logits=True) for t in TEXTS])
    expected = (logits[:, 0] - torch.tensor([0, 0.2, 0.5] * 3)).square().mean().item()
    assert validate(made["narrow"], checkpoint)["valid_loss"] == pytest.approx(expected, abs=1e-4)
    line = line_of(validate, made["beyond"], checkpoint)
    assert "was trained for scores from -100 to -50, and " in line
    assert "beyond holds scores from 0 to 1000: prepare the data with the --score-range" in line
    with pytest.raises(ValueError, match="the checkpoint keeps scores from -100 to -50: there are"):
        hub.labels("topics")


def test_the_words_of_classes_from_python(made):
    checkpoint = made["classes"]
    hub = ConvBertModel.from_pretrained(checkpoint.parent, checkpoint.name)
    assert hub.labels("topics") == list(LABELS)
    tokens = torch.stack([hub.encode(text) for text in TEXTS])
    assert hub.predict("topics", tokens, return_labels=True) == list(LABELS) * 3
    assert hub.predict("topics", tokens[0], return_labels=True) == ["A"]
    hub.register_classification_head("fresh", 2)
    for asked in (lambda: hub.labels("fresh"), lambda: hub.labels("other")):
        with pytest.raises(ValueError, match=r"head '?(fresh|other)"):
            asked()


def test_long_texts_are_cut_alike_by_every_door(made, corpus, predict, tmp_path):
    """What is beyond the length of the training is read only where Python asks for it."""
    turned = [TEXTS[place:] + TEXTS[:place] for place in range(len(TEXTS))]
    texts = [" ".join(several[:4]) for several in turned]
    write_rows(tmp_path / "source" / "test.tsv", ("text",), [(text,) for text in texts])
    data = prepare(tmp_path / "source", tmp_path / "data", corpus.pieces, "--labels", "C,B,A")
    checkpoint = made["classes"]
    hub = ConvBertModel.from_pretrained(checkpoint.parent, checkpoint.name)
    cut = torch.stack([hub.encode(text) for text in texts])
    whole = torch.stack([hub.encode(text, whole=True) for text in texts])
    # Four sentences of eight pieces; the released cut keeps the first 18 and both ends.
    assert whole.shape == (9, 34)
    assert torch.equal(cut, torch.cat([whole[:, :19], whole[:, -1:]], dim=1))
    logits = predict_logits(load_fine_tuned(checkpoint, data), "test", batch_size=4)
    assert (hub.predict("topics", cut, return_logits=True) - logits).abs().max() <= AGREE
    assert (hub.predict("topics", whole, return_logits=True) - logits).abs().max() > 1e-3
    assert predict(data, checkpoint) == hub.predict("topics", cut, return_labels=True)


def test_special_tokens_in_a_text_are_text_in_the_data_and_in_python(made, corpus, tmp_path):
    specials = ("[SEP]", "[CLS]", "[PAD]", "[UNK]", "[MASK]", "<s>", "<mask>", "</s>")
    texts = [f"the {special} sees a mouse." for special in specials]
    write_rows(tmp_path / "source" / "test.tsv", ("text",), [(text,) for text in texts])
    data = prepare(tmp_path / "source", tmp_path / "data", corpus.pieces, "--labels", "A,B,C")
    fine_tuned = load_fine_tuned(made["classes"], data)
    vocabulary = fine_tuned.model.vocabulary
    [lines] = open_rows(data, fine_tuned.prepared, "test", vocabulary).texts
    hub = ConvBertModel.from_pretrained(made["classes"].parent, made["classes"].name)
    for row, (special, text) in enumerate(zip(specials, texts, strict=True)):
        pieces = [vocabulary[index] for index in lines[row].tolist()]
        # Brackets and letters, none of which is a piece here.
        unknown = ["[UNK]"] * (4 if special == "</s>" else 3)
        assert pieces == ["the", *unknown, "see", "##s", "a", "mouse", ".", "[SEP]"]
        assert hub.encode(text).tolist() == [vocabulary.index("[CLS]"), *lines[row].tolist()]


def test_a_converted_run_keeps_them(made, predict, tmp_path, capfd):
    converted = tmp_path / "converted"
    command("convert", "--from", "fairseq", "--to", "fairseq", made["classes"], converted)
    assert " --tokens-per-sample 20" in capfd.readouterr().out
    before, after = (
        torch.load(path, weights_only=True) for path in (made["classes"], converted / "model.pt")
    )
    assert after["cfg"]["task"]["tokens_per_sample"] == 20
    for name in ("answers", "trained_positions"):
        assert after["task_state"][name] == before["task_state"][name]
    # [CLS], six words with a full stop, one of them of two pieces, and [SEP].
    assert after["task_state"]["trained_positions"] == 10
    assert predict(made["CBA"], converted / "model.pt") == list(LABELS) * 3


def real_pairs(folder, real_data, task, columns, label):
    """The official dev rows as train, dev and test; the pairs, and what they are."""
    rows = [
        line.split("\t")
        for line in (real_data / "glue" / task / "dev.tsv").read_text().splitlines()
    ]
    for split in ("train", "dev", "test"):
        write_rows(folder / f"{split}.tsv", rows[0][: label + 1], rows[1:])
    write_rows(folder / "test.tsv", rows[0][:label], [row[:label] for row in rows[1:]])
    first, second = columns
    return [(row[first], row[second]) for row in rows[1:]], [row[label] for row in rows[1:]]


@pytest.mark.parametrize("task", ["RTE", "STS-B"])
def test_all_doors_agree_on_every_row(real_data, validate, predict, tmp_path, caplog, task):
    """The dev sets, cut where training cut them; of RTE in both orders of its labels."""
    columns, label = ((1, 2), 3) if task == "RTE" else ((7, 8), 9)
    pairs, gold = real_pairs(tmp_path / task, real_data, task, columns, label)
    options = [("--glue-task", task)]
    if task == "RTE":
        own = ("--glue-task", "own", "--text", "sentence1", "--text-pair", "sentence2")
        orders = ("entailment,not_entailment", "not_entailment,entailment")
        options = [(*own, "--labels", order) for order in orders]
    folders = [tmp_path / f"data{number}" for number, _ in enumerate(options)]
    tokenizer = real_data / "vocab" / "bert-base-uncased.txt"
    for folder, words in zip(folders, options, strict=True):
        command("prepare-glue", *words, "--tokenizer", tokenizer, tmp_path / task, folder)
    length = ("--tokens-per-sample", SHORT, "--batch-size", "32")
    checkpoint = trained(folders[0], tmp_path / "run", *length, "--max-update", "9")
    hub = ConvBertModel.from_pretrained(checkpoint.parent, checkpoint.name)
    [head] = hub.model.classification_heads
    tokens = [hub.encode(*pair) for pair in pairs]
    whole = [hub.encode(*pair, whole=True) for pair in pairs]
    assert sum(len(text) > SHORT for text in whole) > len(whole) / 4
    assert {len(text) for text in tokens if len(text) >= SHORT} == {SHORT}
    told = [line for line in caplog.messages if "is cut to 40, as in training: encode" in line]
    assert len(told) == 1
    for data in folders:
        logits = predict_logits(load_fine_tuned(checkpoint, data), "valid", batch_size=64)
        ours = torch.cat([hub.predict(head, text, return_logits=True) for text in tokens])
        assert (logits - ours).abs().max() <= AGREE
        predicted, scores = predict(data, checkpoint), validate(data, checkpoint)
        if task == "RTE":
            words = [hub.predict(head, text, return_labels=True)[0] for text in tokens]
            assert predicted == words
            right = sum(word == said for word, said in zip(words, gold, strict=True))
            assert scores["valid_accuracy"] == pytest.approx(right / len(gold), abs=AGREE)
        else:
            ours = [hub.predict(head, text).item() for text in tokens]
            assert [float(score) for score in predicted] == pytest.approx(ours, abs=5 * AGREE)
            pearson = stats.pearsonr(ours, list(map(float, gold))).statistic
            assert scores["valid_pearson"] == pytest.approx(pearson, abs=10 * AGREE)


def test_positions_that_were_never_trained(
    corpus, pretrained, made, fairseq_validate, tmp_path, caplog
):
    """24 of 40 were. Every door says it in a line, and only where they are reached."""

    def told():
        lines = [line for line in caplog.messages if "--max-positions" in line]
        caplog.clear()
        return lines

    source = pretrained.folder / "checkpoint_last.pt"
    options = ("--finetune-from-model", source, "--max-update", "1", "--tokens-per-sample")
    for length, count in (("24", 0), ("30", 1)):
        run = trained(made["ABC"], tmp_path / length, *options, length)
        lines = told()
        assert len(lines) == count, lines
    assert lines[0].startswith(f"{source}: examples of up to 30 tokens reach positions that were")
    assert "those beyond 24: cut them there, or repeat" in lines[0]
    assert f"--max-positions 30 {source} " in lines[0]
    # The texts are shorter than what pretraining has trained.
    assert torch.load(run, weights_only=True)["task_state"]["trained_positions"] == 24
    hub = ConvBertModel.from_pretrained(source.parent, source.name)
    for length, count in ((24, 0), (25, 1), (40, 0)):
        hub.extract_features(torch.full((length,), 7))
        assert len(told()) == count
    repeated = tmp_path / "repeated"
    words = ("convert", "--from", "fairseq", "--to", "fairseq", "--max-positions", "40")
    command(*words, source, repeated)
    options = ("--finetune-from-model", repeated / "model.pt", *options[2:])
    trained(made["ABC"], tmp_path / "on", *options, "40")
    ConvBertModel.from_pretrained(repeated).extract_features(torch.full((40,), 7))
    assert told() == []
    for checkpoint, length, count in (
        (source, "24", 0),
        (source, "30", 1),
        (repeated / "model.pt", "40", 0),
    ):
        fairseq_validate(corpus.data, checkpoint, "--tokens-per-sample", length)
        assert len(told()) == count
