"""The official formats of all tasks, in files made by hand."""

from typing import NamedTuple

import pytest

from convbert_plugin.data.glue.glue_description import read_description
from convbert_plugin.data.glue.glue_preparing import prepare
from convbert_plugin.data.glue.glue_tasks import TASKS
from convbert_plugin.errors import UserError
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from user_dir_tests.data.glue.glue_toys import read_back, write_table, write_vocabulary

pytestmark = pytest.mark.glue


class Official(NamedTuple):
    """The rows of each file ("|" for a tab), and what is to come of them by split."""

    files: dict[str, list[str]]
    texts: dict[str, list[tuple[str, ...]]]
    targets: dict[str, list]


# "p" stands in the columns that nothing is read from.
MNLI_START = "index|promptID|pairID|genre|sentence1_binary_parse|sentence2_binary_parse"
MNLI_HEADER = f"{MNLI_START}|sentence1_parse|sentence2_parse|sentence1|sentence2"
MNLI_UNREAD = "p|" * 8
OFFICIAL = {
    "cola": Official(
        {
            "train.tsv": ["p|1|*|a b", "p|0||c"],
            "dev.tsv": ["p|0|*|d", "p|1||e ."],
            "test.tsv": ["index|sentence", "0|f", "1|g"],
        },
        {"train": [("a b",), ("c",)], "valid": [("d",), ("e .",)], "test": [("f",), ("g",)]},
        {"train": [1, 0], "valid": [0, 1]},
    ),
    "sst-2": Official(
        {
            "train.tsv": ["sentence|label", "a |1", "c |0"],
            "dev.tsv": ["sentence|label", "d |0"],
            "test.tsv": ["index|sentence", "0|f"],
        },
        {"train": [("a",), ("c",)], "valid": [("d",)], "test": [("f",)]},
        {"train": [1, 0], "valid": [0]},
    ),
    "mrpc": Official(
        {
            "train.tsv": ["\ufeffQuality|#1 ID|#2 ID|#1 String|#2 String", "1|p|p|a|b"],
            "dev.tsv": ["\ufeffQuality|#1 ID|#2 ID|#1 String|#2 String", "0|p|p|c|d"],
            "test.tsv": ["index|#1 ID|#2 ID|#1 String|#2 String", "0|p|p|e|f"],
        },
        {"train": [("a", "b")], "valid": [("c", "d")], "test": [("e", "f")]},
        {"train": [1], "valid": [0]},
    ),
    "sts-b": Official(
        {
            "train.tsv": [
                "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
                "0|p|p|p|p|p|p|a|b|5.000",
                "1|p|p|p|p|p|p|c|d|1.25",
            ],
            "dev.tsv": [
                "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2|score",
                "0|p|p|p|p|p|p|e|f|0.000",
            ],
            "test.tsv": [
                "index|genre|filename|year|old_index|source1|source2|sentence1|sentence2",
                "0|p|p|p|p|p|p|g|h",
            ],
        },
        {"train": [("a", "b"), ("c", "d")], "valid": [("e", "f")], "test": [("g", "h")]},
        {"train": [1.0, 0.25], "valid": [0.0]},
    ),
    "qqp": Official(
        {
            "train.tsv": [
                "id|qid1|qid2|question1|question2|is_duplicate",
                "0|p|p|a|b|0",
                "1|p|p|c",
                "2|p|p|c|d|1",
                "3|p|p",
            ],
            "dev.tsv": [
                "id|qid1|qid2|question1|question2|is_duplicate",
                "4|p|p|e|f|1",
                "5|p|p|e|f",
            ],
            "test.tsv": ["id|question1|question2", "0|g|h"],
        },
        {"train": [("a", "b"), ("c", "d")], "valid": [("e", "f")], "test": [("g", "h")]},
        {"train": [0, 1], "valid": [1]},
    ),
    "mnli": Official(
        {
            # The most frequent class of the training set is the last one, then the second.
            "train.tsv": [
                f"{MNLI_HEADER}|label1|gold_label",
                f"{MNLI_UNREAD}a|b|entailment|neutral",
                f"{MNLI_UNREAD}c|d|entailment|neutral",
                f"{MNLI_UNREAD}e|f|neutral|neutral",
                f"{MNLI_UNREAD}g|h|neutral|entailment",
                f"{MNLI_UNREAD}i|j|neutral|entailment",
                f"{MNLI_UNREAD}k|l|neutral|contradiction",
            ],
            "dev_matched.tsv": [
                f"{MNLI_HEADER}|label1|label2|label3|label4|label5|gold_label",
                f"{MNLI_UNREAD}a|c|neutral|neutral|neutral|neutral|neutral|contradiction",
            ],
            "dev_mismatched.tsv": [
                f"{MNLI_HEADER}|label1|label2|label3|label4|label5|gold_label",
                f"{MNLI_UNREAD}a|d|neutral|neutral|neutral|neutral|neutral|entailment",
            ],
            "test_matched.tsv": [MNLI_HEADER, f"{MNLI_UNREAD}a|e"],
            "test_mismatched.tsv": [MNLI_HEADER, f"{MNLI_UNREAD}a|f", f"{MNLI_UNREAD}a|g"],
        },
        {
            "train": [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"), ("i", "j"), ("k", "l")],
            "valid": [("a", "c")],
            "valid1": [("a", "d")],
            "test": [("a", "e")],
            "test1": [("a", "f"), ("a", "g")],
        },
        {"train": [2, 2, 2, 1, 1, 0], "valid": [0], "valid1": [1]},
    ),
    "qnli": Official(
        {
            "train.tsv": [
                "index|question|sentence|label",
                "0|a|b|not_entailment",
                "1|c|d|not_entailment",
                "2|e|f|entailment",
            ],
            "dev.tsv": ["index|question|sentence|label", "0|g|h|entailment"],
            "test.tsv": ["index|question|sentence", "0|i|j"],
        },
        {
            "train": [("a", "b"), ("c", "d"), ("e", "f")],
            "valid": [("g", "h")],
            "test": [("i", "j")],
        },
        {"train": [1, 1, 0], "valid": [0]},
    ),
    "rte": Official(
        {
            "train.tsv": ["index|sentence1|sentence2|label", "0|a|b|not_entailment"],
            "dev.tsv": ["index|sentence1|sentence2|label", "0|g|h|entailment"],
            "test.tsv": ["index|sentence1|sentence2", "0|i|j"],
        },
        {"train": [("a", "b")], "valid": [("g", "h")], "test": [("i", "j")]},
        {"train": [1], "valid": [0]},
    ),
    "wnli": Official(
        {
            "train.tsv": ["index|sentence1|sentence2|label", "0|a|b|1", "1|c|d|0"],
            "dev.tsv": ["index|sentence1|sentence2|label", "0|e|f|1"],
            "test.tsv": ["index|sentence1|sentence2", "0|g|h"],
        },
        {"train": [("a", "b"), ("c", "d")], "valid": [("e", "f")], "test": [("g", "h")]},
        {"train": [1, 0], "valid": [1]},
    ),
    "ax": Official(
        {"diagnostic.tsv": ["index|sentence1|sentence2", "0|a|b", "1|c|d"]},
        {"test": [("a", "b"), ("c", "d")]},
        {},
    ),
}
# gluebenchmark.com, under "How do I submit?".
SUBMISSIONS = {
    **{"cola": ["CoLA.tsv"], "sst-2": ["SST-2.tsv"], "mrpc": ["MRPC.tsv"], "sts-b": ["STS-B.tsv"]},
    **{"qqp": ["QQP.tsv"], "mnli": ["MNLI-m.tsv", "MNLI-mm.tsv"], "qnli": ["QNLI.tsv"]},
    **{"rte": ["RTE.tsv"], "wnli": ["WNLI.tsv"], "ax": ["AX.tsv"]},
}


def prepare_official(name, tmp_path, without=()):
    for file, rows in OFFICIAL[name].files.items():
        if file not in without:
            write_table(tmp_path / "source" / file, *rows)
    tokenizer = load_tokenizer(write_vocabulary(tmp_path / "vocabulary"))
    (tmp_path / "prepared").mkdir()
    return prepare(TASKS[name], tmp_path / "source", tmp_path / "prepared", tokenizer)


@pytest.mark.parametrize("name", OFFICIAL)
def test_texts_and_labels_come_from_the_official_columns(name, tmp_path):
    result = prepare_official(name, tmp_path)
    official = OFFICIAL[name]
    description = read_description(tmp_path / "prepared")
    assert description == result.description
    assert list(description.splits) == list(official.texts)
    for split, texts in official.texts.items():
        read = read_back(tmp_path / "prepared", split)
        assert read.texts == texts
        assert read.targets == official.targets.get(split)
    expected = [
        "train.tsv: passed over 2 broken rows, the first on line 3",
        "dev.tsv: passed over 1 broken row, the first on line 3",
    ]
    assert result.notes == (expected if name == "qqp" else [])


def test_every_task_is_here_and_has_its_file_for_the_official_site():
    assert {name: list(task.submissions.values()) for name, task in TASKS.items()} == SUBMISSIONS
    assert OFFICIAL.keys() == TASKS.keys()


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("mnli", "contradiction 1\nentailment 2\nneutral 3\n"),
        ("qnli", "entailment 1\nnot_entailment 2\n"),
        ("wnli", "0 1\n1 1\n"),
    ],
)
def test_classes_keep_their_order_whatever_their_frequency(name, rows, tmp_path):
    prepare_official(name, tmp_path)
    assert (tmp_path / "prepared" / "label" / "dict.txt").read_text() == rows


def test_files_that_are_missing_are_left_out(tmp_path):
    prepare_official("mnli", tmp_path, without=("train.tsv", "test_matched.tsv"))
    splits = read_description(tmp_path / "prepared").splits
    assert list(splits) == ["valid", "valid1", "test1"]
    with pytest.raises(UserError, match=r"holds no split train, only valid, valid1, test1: "):
        read_back(tmp_path / "prepared", "train")


def test_the_head_of_mnli_answers_the_diagnostic_set():
    assert (TASKS["ax"].head, TASKS["ax"].labels) == ("mnli", TASKS["mnli"].labels)
    assert {task.head for task in TASKS.values()} == TASKS.keys() - {"ax"}
