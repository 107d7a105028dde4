"""The prepared folder: read by fairseq's own task, and when it is damaged."""

import contextlib
import functools
import json
import operator
import shutil
import subprocess

import numpy as np
import pytest
from fairseq.tasks.sentence_prediction import SentencePredictionConfig, SentencePredictionTask

from convbert_plugin.data.glue.glue_description import read_description
from convbert_plugin.data.glue.glue_files import load_vocabulary, open_rows
from convbert_plugin.data.glue.glue_preparing import prepare
from convbert_plugin.data.glue.glue_tasks import TASKS, own_task
from convbert_plugin.errors import UserError
from convbert_plugin.metrics.glue_scores import majority_scores
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from user_dir_tests.data.glue.glue_toys import ROWS, read_back, write_table, write_vocabulary

pytestmark = pytest.mark.glue

PAIRS = ["0|a b|c d .|not_entailment", "1|e|f|entailment", "2|g h i|j|not_entailment"]
SINGLES = ["p|1||a b c", "p|0||d"]
CLASSES = {
    "rte": ("train.tsv", ["index|sentence1|sentence2|label", *PAIRS], [1, 0, 1]),
    "cola": ("train.tsv", SINGLES, [1, 0]),
}
SCORES = ["a|b|-1", "c|d|3", "e|f|0.1"]


def prepare_files(task, tmp_path, **files):
    for name, rows in files.items():
        write_table(tmp_path / "source" / f"{name}.tsv", *rows)
    tokenizer = load_tokenizer(write_vocabulary(tmp_path / "vocabulary"))
    (tmp_path / "prepared").mkdir()
    prepare(task, tmp_path / "source", tmp_path / "prepared", tokenizer)
    return tmp_path / "prepared"


@pytest.fixture
def rte(tmp_path):
    return prepare_files(TASKS["rte"], tmp_path, train=CLASSES["rte"][1])


@pytest.fixture
def scores(tmp_path):
    task = own_task("likeness", ".tsv", ("x", "y"), "score", score_range=(-1.0, 3.0))
    return prepare_files(task, tmp_path, train=["x|y|score", *SCORES])


def stock_examples(folder, **options):
    """What fairseq's sentence_prediction makes of the training split."""
    cfg = SentencePredictionConfig(
        data=str(folder), init_token=ROWS.index("[CLS]"), no_shuffle=True, **options
    )
    cfg.seed = 1
    task = SentencePredictionTask.setup_task(cfg)
    dataset = task.load_dataset("train")
    examples = [dataset[index] for index in range(len(dataset))]
    tokens = [example["net_input.src_tokens"].tolist() for example in examples]
    return tokens, [example["target"] for example in examples], task


@pytest.mark.parametrize("name", CLASSES)
def test_fairseqs_own_task_reads_the_classes(name, tmp_path):
    _, rows, classes = CLASSES[name]
    folder = prepare_files(TASKS[name], tmp_path, train=rows)
    tokens, targets, task = stock_examples(folder, num_classes=2, regression_target=False)
    columns = (1, 2) if name == "rte" else (3,)
    rows = [row.split("|") for row in rows if row.split("|")[0] != "index"]
    texts = [[f"{row[column]} [SEP]" for column in columns] for row in rows]
    words = [" ".join(["[CLS]", *text]).split() for text in texts]
    assert tokens == [list(map(ROWS.index, example)) for example in words]
    assert [int(target) for target in targets] == classes
    nspecial = task.label_dictionary.nspecial
    labels = TASKS[name].labels
    assert tuple(task.label_dictionary[nspecial + n] for n in range(len(labels))) == labels


def test_fairseqs_own_task_reads_the_scores(scores):
    tokens, targets, _ = stock_examples(scores, num_classes=1, regression_target=True)
    assert tokens[1] == [ROWS.index(word) for word in ("[CLS]", "c", "[SEP]", "d", "[SEP]")]
    assert np.ravel(targets).tolist() == [-1, 3, 0.1]


@pytest.mark.parametrize("bounds", [(-1.0, 3.0), (-1, 3)])
def test_scores_are_brought_to_one(bounds, tmp_path):
    task = own_task("likeness", ".tsv", ("x", "y"), "score", score_range=bounds)
    folder = prepare_files(task, tmp_path, train=["x|y|score", *SCORES])
    assert read_back(folder, "train").targets == [0, 1, 1.1 / 4]
    describe(lambda values: values.update(score_range=[0, 10**400]))(folder)
    with pytest.raises(UserError, match=r"task.json: damaged"):
        read_description(folder)


def test_sentencepiece_takes_fairseqs_special_tokens(tmp_path):
    from convbert_plugin.cli import main

    write_table(tmp_path / "source" / "train.tsv", "p|1||the cat sat", "p|0||the mat")
    (tmp_path / "text").write_text("the cat sat on the mat\n" * 300)
    main(["train-vocab", "--vocab-size", "15", str(tmp_path / "text"), str(tmp_path / "spm")])
    tokenizer = load_tokenizer(tmp_path / "spm")
    prepare(TASKS["cola"], tmp_path / "source", tmp_path / "out", tokenizer)
    vocabulary = load_vocabulary(tmp_path / "out")
    rows = open_rows(tmp_path / "out", read_description(tmp_path / "out"), "train", vocabulary)
    pieces = [[vocabulary[token] for token in rows.texts[0][row].tolist()] for row in range(2)]
    assert [line[-1] for line in pieces] == ["</s>"] * 2
    assert [tokenizer.detokenize(line[:-1]) for line in pieces] == ["the cat sat", "the mat"]


def cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-3])


def remove(name):
    return lambda folder: (folder / name).unlink()


def describe(change):
    def apply(folder):
        path = folder / "task.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return apply


DAMAGES = {
    "no description": (remove("task.json"), r"task.json is missing: name a folder made by"),
    "cut description": (cut("task.json"), r"task.json: damaged: make the folder anew"),
    "empty description": (
        lambda folder: (folder / "task.json").write_text("[]"),
        r"task.json: damaged",
    ),
    "a key less": (describe(lambda values: values.pop("labels")), r"task.json: damaged"),
    "a key more": (describe(lambda values: values.update(more=1)), r"task.json: damaged"),
    "a file elsewhere": (
        describe(lambda values: values["submissions"].update(test="../RTE.tsv")),
        r"task.json: damaged",
    ),
    "no dictionary": (remove("input0/dict.txt"), r"input0/dict.txt is missing"),
    "no text": (remove("input1/train.idx"), r"input1/train.idx is missing: .*prepare-glue"),
    "cut text": (cut("input0/train.bin"), r"input0/train.bin does not fit .*prepare-glue"),
    "no label": (remove("label/train.bin"), r"label/train.bin is missing: .*prepare-glue"),
    "another count": (
        describe(lambda values: values["splits"]["train"].update(rows=4)),
        r"the files of train have 3 rows, where 4 were prepared: .*prepare-glue",
    ),
}


def flip(name, place=0):
    def apply(folder):
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 1
        (folder / name).write_bytes(content)

    return apply


# What no structure tells, the sums do.
DAMAGES |= {
    "another class": (flip("label/train.bin"), r"label/train.bin is missing or damaged: "),
    "another token": (flip("input0/train.bin"), r"input0/train.bin: is not what .*prepare-glue wr"),
    "damaged sums": (
        lambda folder: (folder / "SHA256SUMS").write_text("abc"),
        r"SHA256SUMS: damaged: make the folder anew with convbert prepare-glue",
    ),
}


def test_a_folder_that_an_earlier_version_wrote_has_no_sums(rte):
    flip("input0/train.bin")(rte)
    (rte / "SHA256SUMS").unlink()
    assert read_back(rte, "train").targets == [1, 0, 1]


def test_the_sums_are_those_of_sha256sum(rte):
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=rte, check=True)
    rows = (rte / "SHA256SUMS").read_text().splitlines()
    files = {path.relative_to(rte).as_posix() for path in rte.rglob("*") if path.is_file()}
    assert {row.split("  ")[1] for row in rows} == files - {"SHA256SUMS"}


@pytest.mark.parametrize("damage", [flip, remove])
def test_a_tokenizer_that_is_not_its_own_is_one_line(rte, damage):
    """Without its settings a vocabulary is that of another tokenizer."""
    damage("input0/tokenizer_config.json")(rte)
    with pytest.raises(UserError, match=r"input0/tokenizer_config.json: (is not what|broken JSON)"):
        load_vocabulary(rte)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_folder_is_one_line(rte, kind):
    damage, message = DAMAGES[kind]
    damage(rte)
    with pytest.raises(UserError, match=message) as error:
        read_back(rte, "train")
    assert "\n" not in str(error.value)


def paths_into(values, path=()):
    yield path
    if isinstance(values, (dict, list)):
        keys = values if isinstance(values, dict) else range(len(values))
        for key in keys:
            yield from paths_into(values[key], (*path, key))


@pytest.mark.parametrize("wrong", [7, None, [], {"a": 1}, ["a"], "../a"])
def test_a_description_of_other_types_is_refused_or_works(rte, wrong):
    content = (rte / "task.json").read_text()
    for *path, key in filter(None, paths_into(json.loads(content))):
        values = json.loads(content)
        functools.reduce(operator.getitem, path, values)[key] = wrong
        (rte / "task.json").write_text(json.dumps(values))
        with contextlib.suppress(UserError):
            assert read_back(rte, "train").targets == [1, 0, 1]
            task, splits = read_description(rte)
            assert (task.outputs, task.is_pair) == (2, True)
            assert majority_scores(splits["train"].label_counts, 1, task.metrics)


@pytest.mark.parametrize(
    "content", ["0.5\n4.0\n1.0\n", "-1.5\n0\n1\n", "0.5\n1.0\n", "0.5\nx\n1\n", "0.5\n1 2\n1\n", ""]
)
def test_damaged_scores_are_one_line(scores, content):
    (scores / "label" / "train.label").write_text(content)
    with pytest.raises(UserError, match=r"prepare-glue$") as error:
        read_back(scores, "train")
    assert "\n" not in str(error.value)


def test_texts_of_another_split_are_one_line(tmp_path):
    header, *rows = CLASSES["rte"][1]
    folder = prepare_files(TASKS["rte"], tmp_path, train=[header, *rows], dev=[header, rows[0]])
    for suffix in ("bin", "idx"):
        shutil.copy(folder / "input1" / f"valid.{suffix}", folder / "input1" / f"train.{suffix}")
    with pytest.raises(UserError, match=r"the files of train have 1 and 3 rows, where 3 were"):
        read_back(folder, "train")
