"""``convbert predict-glue`` against one example at a time through the hub interface."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from convbert_plugin import ConvBertModel
from convbert_plugin.analysis.predictions.glue_predictions import load_fine_tuned
from convbert_plugin.analysis.predictions.glue_predictions import predict as predict_logits
from convbert_plugin.cli import main
from convbert_plugin.conversion.fairseq_folder import write_fairseq
from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.formats.answers import Answers
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from user_dir_tests.data.glue.glue_toys import ROWS, write_table, write_vocabulary
from user_dir_tests.models.building import TOY, random_tokens, randomize

pytestmark = pytest.mark.glue

REPOSITORY = Path(__file__).resolve().parents[2]
LONGEST = 17
ENTAILMENT = ("entailment", "not_entailment")
THREE_WAY = ("contradiction", "entailment", "neutral")
HEADS = {"rte": 2, "mnli": 3, "cola": 2, "sts-b": 1, "topic": 4}
LABELS = ("c", "a", "d", "b")
ANSWERS = {
    "rte": Answers(ENTAILMENT),
    "mnli": Answers(THREE_WAY),
    "cola": Answers(("0", "1")),
    "sts-b": Answers(score_range=(0.0, 5.0)),
    "topic": Answers(LABELS),
}
MNLI = "index|promptID|pairID|genre|s1b|s2b|s1p|s2p|sentence1|sentence2"
STS = "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with a model of random numbers and several heads."""
    folder = tmp_path_factory.mktemp("model")
    return write_checkpoint(folder, HEADS, answers=ANSWERS)


def write_checkpoint(folder, heads, rows=ROWS, trained=LONGEST, answers=None, **changes):
    vocabulary_file = write_vocabulary(folder / "bare", rows)
    config = ConvBertConfig(_name="convbert_small", **{**TOY, **changes})
    torch.manual_seed(2)
    model = ConvBertModel(config, Vocabulary.load(vocabulary_file))
    for name, classes in heads.items():
        model.register_classification_head(name, classes)
    randomize(model, std=0.3).eval()
    with torch.no_grad():
        tokens = random_tokens(99, LONGEST, vocabulary=len(rows))
        for name, head in model.classification_heads.items():
            # So that every class is the likeliest of some text.
            head.output.bias -= model.head_logits(f"classification_heads.{name}", tokens).mean(
                dim=0
            )
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokenizer = load_tokenizer(vocabulary_file)
    kept = {f"classification_heads.{head}": told for head, told in (answers or {}).items()}
    write_fairseq(PortableModel(config, tensors, tokenizer, trained, answers=kept), folder)
    return folder


def texts(count, seed=0):
    """Pairs of up to 6 letters each: [CLS] and both [SEP] come to at most 15."""
    generator = torch.Generator().manual_seed(seed)

    def text():
        length = int(torch.randint(1, 7, (), generator=generator))
        letters = torch.randint(26, (length,), generator=generator)
        return " ".join(chr(ord("a") + letter) for letter in letters)

    return [(text(), text()) for _ in range(count)]


@pytest.fixture
def prepared(tmp_path):
    """Prepare a task from its files; the folder made."""

    def make(name, *options, vocabulary=ROWS, **files):
        for file, rows in files.items():
            write_table(tmp_path / "source" / f"{file}.tsv", *rows)
        vocabulary = write_vocabulary(tmp_path / "vocabulary", vocabulary)
        words = ("--glue-task", name, "--tokenizer", vocabulary, *options)
        run("prepare-glue", *words, tmp_path / "source", tmp_path / "data")
        return tmp_path / "data"

    return make


def run(*words):
    assert main([str(word) for word in words]) == 0


@pytest.fixture
def predict(tmp_path, checkpoint):
    """Predict; the rows of each file that was written."""

    def files(data, *options, path=checkpoint):
        run("predict-glue", "--path", path, *options, data, tmp_path / "predictions")
        return {
            file.name: file.read_text().split("\n")
            for file in sorted((tmp_path / "predictions").iterdir())
        }

    return files


@pytest.fixture
def alone(checkpoint):
    """The logits of each example by itself."""
    hub = ConvBertModel.from_pretrained(str(checkpoint))

    def predict(head, examples):
        return torch.cat(
            [hub.predict(head, hub.encode(*texts), return_logits=True) for texts in examples]
        )

    return predict


def submission(words):
    return ["index\tprediction", *(f"{row}\t{word}" for row, word in enumerate(words)), ""]


def assert_classes(rows, logits, labels):
    words = [labels[index] for index in logits.argmax(dim=1).tolist()]
    # Otherwise the order of the rows or of the classes would not show.
    assert len(set(words)) == len(labels)
    assert rows == submission(words)


def test_a_class_for_each_pair_in_the_order_of_the_rows(prepared, predict, alone):
    pairs = texts(70)
    rows = [f"{row}|{first}|{second}" for row, (first, second) in enumerate(pairs)]
    data = prepared("rte", test=["index|sentence1|sentence2", *rows])
    files = predict(data, "--batch-size", "7")
    assert list(files) == ["RTE.tsv"]
    assert_classes(files["RTE.tsv"], alone("rte", pairs), ENTAILMENT)
    assert predict(data) == files


def test_a_test_set_with_labels_is_scored(prepared, predict, alone, capsys):
    pairs = texts(60)
    truth = [LABELS[row % 4] for row in range(60)]
    rows = [f"{first}|{second}|{word}" for (first, second), word in zip(pairs, truth, strict=True)]
    # In another order than that of the checkpoint.
    own = ("--text", "x", "--text-pair", "y", "--labels", "a,b,c,d", "--metrics", "accuracy,mcc")
    data = prepared("topic", *own, test=["x|y|label", *rows])
    files = predict(data)
    words = [LABELS[index] for index in alone("topic", pairs).argmax(1).tolist()]
    assert files == {"topic.tsv": submission(words)}
    accuracy = sklearn_metrics.accuracy_score(truth, words)
    mcc = sklearn_metrics.matthews_corrcoef(truth, words)
    told = f"topic.tsv: 60 predictions, accuracy {accuracy:.4f}, mcc {mcc:.4f}"
    assert capsys.readouterr().out.splitlines()[-1].endswith(told)


def test_a_class_for_each_sentence(prepared, predict, alone):
    sentences = [(first,) for first, _ in texts(40)]
    rows = [f"{row}|{first}" for row, (first,) in enumerate(sentences)]
    files = predict(prepared("cola", test=["index|sentence", *rows]))
    assert list(files) == ["CoLA.tsv"]
    assert_classes(files["CoLA.tsv"], alone("cola", sentences), ("0", "1"))


def test_a_score_for_each_pair_on_the_official_scale(prepared, predict, alone):
    pairs = texts(70)
    rows = [f"{'p|' * 7}{first}|{second}" for first, second in pairs]
    files = predict(prepared("STS-B", test=[STS, *rows]))
    assert list(files) == ["STS-B.tsv"]
    header, *lines, end = files["STS-B.tsv"]
    assert (header, end) == ("index\tprediction", "")
    written = torch.tensor([[float(cell) for cell in line.split("\t")] for line in lines]).double()
    assert written[:, 0].tolist() == list(range(len(pairs)))
    expected = (alone("sts-b", pairs)[:, 0].double() * 5).clamp(0, 5)
    assert {0.0, 5.0} < set(expected.tolist())
    # fp32, and six digits behind the point.
    assert (written[:, 1] - expected).abs().max() < 5e-5


def test_both_test_sets_of_mnli(prepared, predict, alone):
    sets = {"test_matched": texts(60, 1), "test_mismatched": texts(50, 2)}
    files = {
        name: [MNLI, *(f"{'p|' * 8}{first}|{second}" for first, second in pairs)]
        for name, pairs in sets.items()
    }
    written = predict(prepared("mnli", **files))
    assert list(written) == ["MNLI-m.tsv", "MNLI-mm.tsv"]
    for rows, pairs in zip(written.values(), sets.values(), strict=True):
        assert_classes(rows, alone("mnli", pairs), THREE_WAY)


def test_the_head_of_mnli_answers_the_diagnostic_set(prepared, predict, alone):
    pairs = texts(60)
    rows = [f"{row}|{first}|{second}" for row, (first, second) in enumerate(pairs)]
    written = predict(prepared("ax", diagnostic=["index|sentence1|sentence2", *rows]))
    assert list(written) == ["AX.tsv"]
    assert_classes(written["AX.tsv"], alone("mnli", pairs), THREE_WAY)


def test_a_task_of_ones_own(prepared, predict, alone, checkpoint):
    sentences = [(first,) for first, _ in texts(60)]
    options = ("--text", "x", "--labels", "c,a,d,b", "--tokenizer", checkpoint)
    data = prepared("topic", *options, test=["x|y", *(f"{text}|p" for (text,) in sentences)])
    written = predict(data, path=checkpoint / "model.pt")
    assert list(written) == ["topic.tsv"]
    assert_classes(written["topic.tsv"], alone("topic", sentences), ("c", "a", "d", "b"))


def test_long_pairs_are_cut_to_the_length_of_the_training(prepared, predict, alone):
    halves = [(f"{first} {first[::-1]}", second) for first, second in texts(60)]
    pairs = [(" ".join([first] * 3), f"{second} z") for first, second in halves]
    rows = [f"{row}|{first}|{second}" for row, (first, second) in enumerate(pairs)]
    files = predict(prepared("rte", test=["index|sentence1|sentence2", *rows]))
    cut = []
    for pair in pairs:
        first, second = (text.split() for text in pair)
        while len(first) + len(second) > LONGEST - 3:
            (first if len(first) > len(second) else second).pop()
        cut.append((" ".join(first), " ".join(second)))
    assert cut != pairs
    assert_classes(files["RTE.tsv"], alone("rte", cut), ENTAILMENT)


def test_texts_beyond_the_trained_positions_are_told_of(prepared, tmp_path, predict, capfd):
    """A head that was trained on short texts, and would have been on longer ones."""
    answers = {"rte": Answers(ENTAILMENT, length=15)}
    for trained, told in ((10, 1), (14, 0)):
        folder = tmp_path / f"trained_{trained}"
        write_checkpoint(folder, {"rte": 2}, trained=trained, answers=answers)
        data = prepared("rte", test=["index|sentence1|sentence2", "0|a b c d e f|g h i j k"])
        capfd.readouterr()
        predict(data, path=folder)
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == told, lines
        data.rename(tmp_path / f"data_{trained}")
        if told:
            start = f"{folder / 'model.pt'}: examples of up to 14 tokens reach positions that were"
            assert lines[0].startswith(start)
            assert f"--max-positions 14 {folder / 'model.pt'} NEW_FOLDER" in lines[0]


def test_visible_pads_fill_a_text_from_python_too(prepared, tmp_path):
    """As in training and in predict-glue, where they are part of what the convolution sees."""
    answers = {"rte": Answers(ENTAILMENT, length=LONGEST)}
    folder = tmp_path / "model"
    write_checkpoint(folder, {"rte": 2}, answers=answers, pads_visible=True)
    pairs = texts(20)
    rows = [f"{row}|{first}|{second}" for row, (first, second) in enumerate(pairs)]
    data = prepared("rte", test=["index|sentence1|sentence2", *rows])
    expected = predict_logits(load_fine_tuned(folder, data), "test", batch_size=7)
    hub = ConvBertModel.from_pretrained(folder)
    tokens = [hub.encode(*pair) for pair in pairs]
    assert min(map(len, tokens)) < LONGEST - 4
    logits = torch.cat([hub.predict("rte", text, return_logits=True) for text in tokens])
    assert (logits - expected).abs().max() <= 1e-5
    alone = torch.cat(
        [hub.model.head_logits("classification_heads.rte", text[None]) for text in tokens]
    )
    assert (alone - expected).abs().max() > 1e-2


RTE_TEST = ["index|sentence1|sentence2", "0|a|b"]


def assert_fails(tmp_path, message, *words):
    with pytest.raises(UserError, match=message) as error:
        main(["predict-glue", *map(str, words), str(tmp_path / "predictions")])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, r"model.pt: no classification head rte \(has none\): fine-tune it on rte"),
        ({"cola": 2, "mnli": 3}, r"no classification head rte \(has the heads cola, mnli\)"),
        ({"rte": 3}, r"model.pt and .*data: .* head rte has 3 outputs, this task has 2: prepare"),
        ({"rte": 1}, r"model.pt and .*data: .* head rte has 1 outputs, this task has 2: prepare"),
    ],
)
def test_a_model_without_the_head_is_one_line(prepared, tmp_path, heads, message):
    data = prepared("rte", test=RTE_TEST)
    folder = write_checkpoint(tmp_path / "model", heads)
    assert_fails(tmp_path, message, "--path", folder, data)


def test_data_of_another_vocabulary_is_one_line(prepared, checkpoint, tmp_path):
    for rows in ([*ROWS[:-2], "é", "z"], [*ROWS, "more"]):
        data = prepared("rte", vocabulary=rows, test=RTE_TEST)
        message = r"data: was prepared with another vocabulary than .*: prepare it again with"
        assert_fails(tmp_path, message, "--path", checkpoint, data)
        data.rename(tmp_path / f"{len(rows)}")


def test_missing_files_are_one_line(prepared, checkpoint, tmp_path):
    data = prepared("rte", train=["index|sentence1|sentence2|label", "0|a|b|entailment"])
    message = r"data: has no test set: prepare it from a folder that holds test.tsv"
    assert_fails(tmp_path, message, "--path", checkpoint, data)
    assert_fails(
        tmp_path, r"task.json is missing: name a folder made by", "--path", checkpoint, "."
    )
    assert_fails(tmp_path, r"nowhere: no such file", "--path", "nowhere", data)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_fails(tmp_path, r"empty: model.pt or .* is missing in it", "--path", empty, data)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: a file, where OUT has to be a folder"):
        main(["predict-glue", "--path", str(checkpoint), str(data), str(tmp_path / "file")])
    if not torch.cuda.is_available():
        words = ("--device", "cuda", "--path", checkpoint, data)
        assert_fails(tmp_path, r"--device cuda: there is no GPU here: use cpu", *words)


def test_the_command_says_nothing_but_its_own_lines(prepared, checkpoint, tmp_path):
    """Nor does it import torch's compiler, for which it has no use and which takes a second."""
    data = prepared("rte", test=RTE_TEST)
    words = ["predict-glue", "--path", checkpoint, data, tmp_path / "out"]
    code = (
        "import sys\n"
        "from convbert_plugin.cli import main\n"
        "sys.exit(main(sys.argv[1:]) or 'torch._dynamo' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{tmp_path / 'out' / 'RTE.tsv'}: 1 prediction\n"
