"""The official files: rows, labels and token ids against readers and tokenizers of others."""

import csv
import json

import numpy as np
import pytest
from transformers import BertTokenizer

from convbert_plugin.data.glue.glue_dataset import GlueDataset, GlueOptions
from convbert_plugin.data.glue.glue_description import read_description
from convbert_plugin.data.glue.glue_files import load_vocabulary, open_rows
from convbert_plugin.data.glue.glue_preparing import prepare
from convbert_plugin.data.glue.glue_rows import read_rows
from convbert_plugin.data.glue.glue_tasks import TASKS, TRAIN, own_task
from convbert_plugin.tokenization.tokenizer import load_tokenizer

pytestmark = pytest.mark.glue

SPLITS = ("train", "valid", "test")
FILES = dict(zip(SPLITS, ("train.tsv", "dev.tsv", "test.tsv"), strict=True))
COUNTS = {
    "CoLA": (8551, 1043, 1063),
    "SST-2": (67349, 872, 1821),
    "MRPC": (3668, 408, 1725),
    "STS-B": (5749, 1500, 1379),
    "RTE": (2490, 277, 3000),
}
# What README says of the files: where texts and label stand in the labelled ones.
TEXT_COLUMNS = {"CoLA": [3], "SST-2": [0], "MRPC": [3, 4], "STS-B": [7, 8], "RTE": [1, 2]}
LABEL_COLUMNS = {"CoLA": 1, "SST-2": 1, "MRPC": 0, "STS-B": 9, "RTE": 3}
WORDS = {"0": 0, "1": 1, "entailment": 0, "not_entailment": 1}
# Most dev pairs of MRPC are longer.
SHORT = 40


@pytest.fixture(scope="module")
def vocabulary_file(real_data):
    return real_data / "vocab" / "bert-base-uncased.txt"


@pytest.fixture(scope="module")
def prepared(real_data, vocabulary_file, tmp_path_factory):
    """The folder of a task; made when it is first asked for."""
    made = {}

    def get(name):
        if name not in made:
            source = real_data / "glue" / name
            if name == "SST-2":
                source = tmp_path_factory.mktemp("without_train")
                for file in ("dev.tsv", "test.tsv"):
                    (source / file).symlink_to(real_data / "glue" / name / file)
            made[name] = tmp_path_factory.mktemp(name)
            prepare(TASKS[name.lower()], source, made[name], load_tokenizer(vocabulary_file))
        return made[name]

    return get


def rows_of(real_data, name, split):
    with open(real_data / "glue" / name / FILES[split], encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return rows if name == "CoLA" and split != "test" else rows[1:]


def targets_of(name, rows):
    words = [row[LABEL_COLUMNS[name]] for row in rows]
    return [float(word) / 5 if name == "STS-B" else WORDS[word] for word in words]


@pytest.mark.parametrize("name", COUNTS)
def test_every_row_is_there_with_its_label(prepared, real_data, name):
    folder = prepared(name)
    description = read_description(folder)
    vocabulary = load_vocabulary(folder)
    for split, count in zip(SPLITS, COUNTS[name], strict=True):
        if split not in description.splits:
            assert (name, split) == ("SST-2", TRAIN)
            continue
        rows = open_rows(folder, description, split, vocabulary)
        assert {len(lines) for lines in rows.texts} == {count}
        assert description.splits[split].rows == count
        if split == "test":
            assert rows.targets is None
        else:
            targets = targets_of(name, rows_of(real_data, name, split))
            assert rows.targets.tolist() == targets
            if name != "STS-B":
                assert description.splits[split].label_counts == tuple(np.bincount(targets))


def test_the_largest_file_is_read_whole(real_data):
    task = TASKS["sst-2"]
    examples, notes = read_rows(
        real_data / "glue" / "SST-2" / "train.tsv", task.sources[TRAIN], task
    )
    rows = rows_of(real_data, "SST-2", TRAIN)
    assert len(examples) == COUNTS["SST-2"][0]
    assert not notes
    assert [example.texts for example in examples] == [(row[0],) for row in rows]
    assert [example.label for example in examples] == targets_of("SST-2", rows)


def by_pandas(rows):
    """With an index, whose column has no name."""
    return [[str(row - 1) if row else "", *cells] for row, cells in enumerate(rows)]


WRITERS = {
    "csv module": ("train.tsv", "utf-8", {"delimiter": "\t"}, list),
    "pandas": ("train.tsv", "utf-8", {"delimiter": "\t", "lineterminator": "\n"}, by_pandas),
    "Excel's text": ("train.tsv", "utf-16", {"delimiter": "\t"}, list),
    "Excel": ("train.csv", "utf-8-sig", {}, list),
    "Excel in German": ("train.csv", "utf-8-sig", {"delimiter": ";"}, list),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_others_write_gives_the_same_ids(
    prepared, real_data, vocabulary_file, tmp_path, writer
):
    file, encoding, options, changed = WRITERS[writer]
    header = ["sentence1", "sentence2", "label"]
    rows = [row[1:] for row in rows_of(real_data, "RTE", "valid")]
    assert sum('"' in "".join(row) for row in rows) > 40
    (tmp_path / "source").mkdir()
    with open(tmp_path / "source" / file, "w", encoding=encoding, newline="") as target:
        csv.writer(target, **options).writerows(changed([header, *rows]))
    labels = TASKS["rte"].labels
    task = own_task("own", f".{file[-3:]}", ("sentence1", "sentence2"), "label", labels)
    (tmp_path / "out").mkdir()
    prepare(task, tmp_path / "source", tmp_path / "out", load_tokenizer(vocabulary_file))
    for name in ("input0", "input1", "label"):
        written = [(folder / name) for folder in (prepared("RTE"), tmp_path / "out")]
        for suffix in ("bin", "idx"):
            official, own = written[0] / f"valid.{suffix}", written[1] / f"train.{suffix}"
            assert own.read_bytes() == official.read_bytes()


def as_dataset(folder, split, max_length, double_unordered=False):
    vocabulary = load_vocabulary(folder)
    rows = open_rows(folder, read_description(folder), split, vocabulary)
    return GlueDataset(rows, vocabulary, GlueOptions(max_length, double_unordered, False, ""))


@pytest.mark.parametrize("name", ["CoLA", "MRPC", "STS-B"])
def test_every_example_equals_that_of_transformers(prepared, real_data, vocabulary_file, name):
    rows = rows_of(real_data, name, "valid")
    columns = [[row[column] for row in rows] for column in TEXT_COLUMNS[name]]
    theirs = BertTokenizer(vocab=str(vocabulary_file))(*columns)
    dataset = as_dataset(prepared(name), "valid", max_length=512)
    ours = [dataset[index] for index in range(len(dataset))]
    assert [example["tokens"].tolist() for example in ours] == theirs["input_ids"]
    assert [example["segments"].tolist() for example in ours] == theirs["token_type_ids"]
    assert dataset.sizes.tolist() == list(map(len, theirs["input_ids"]))


def popped(first, second, room):
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second
        longer.pop()
    return first, second


def test_pairs_are_cut_as_released(prepared, real_data, vocabulary_file):
    rows = rows_of(real_data, "MRPC", "valid")
    first, second = ([row[column] for row in rows] for column in TEXT_COLUMNS["MRPC"])
    tokenizer = BertTokenizer(vocab=str(vocabulary_file))
    cut = tokenizer(first, second, truncation="longest_first", max_length=SHORT)["input_ids"]
    begin, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    dataset = as_dataset(prepared("MRPC"), "valid", max_length=SHORT)
    same = 0
    for index, texts in enumerate(zip(first, second, strict=True)):
        ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
        a, b = popped(*ids, SHORT - 3)
        tokens = dataset[index]["tokens"].tolist()
        assert tokens == [begin, *a, end, *b, end]
        assert dataset[index]["segments"].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
        same += tokens == cut[index]
        # Where both are cut, transformers gives the odd token to the longer text, not to the first.
        assert tokens == cut[index] or len(a) == len(b) + 1
    assert 0 < same < len(rows)


def test_the_description_is_plain(prepared):
    content = json.loads((prepared("RTE") / "task.json").read_text())
    assert content["labels"] == ["entailment", "not_entailment"]
    assert content["splits"]["valid"] == {
        "file": "dev.tsv",
        "rows": 277,
        "label_counts": [146, 131],
    }
