"""``convbert prepare-glue``: files of every kind in, and every mistake in one line."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from convbert_plugin.cli import main
from convbert_plugin.errors import UserError
from user_dir_tests.data.glue.glue_toys import read_back, write_table, write_vocabulary

pytestmark = pytest.mark.glue

REPOSITORY = Path(__file__).resolve().parents[2]
RTE = ["index|sentence1|sentence2|label", '0|a "b|c|not_entailment', "1|d|e .|entailment"]
RTE_TEST = ["index|sentence1|sentence2", "0|f|g"]
RTE_TEXTS = [('a " b', "c"), ("d", "e .")]
MRPC = ["Quality|#1 ID|#2 ID|#1 String|#2 String", "1|p|p|a|b"]
QQP = ["id|qid1|qid2|question1|question2|is_duplicate", "0|p|p|a", "1|p|p|b|c|1", "2|p|p|d"]
CLASSES = ("--glue-task", "topic", "--text", "x", "--labels", "z,a,m")
SCORES = ("--glue-task", "likeness", "--text", "x", "--text-pair", "y", "--label", "like")
SCORE_RANGE = ("--score-range", "-1", "3")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def prepare(tmp_path, source):
    """Run the command on ``source``; the folder made."""
    vocabulary = write_vocabulary(tmp_path / "vocabulary")
    output = tmp_path / "out"

    def run(*options):
        words = ("prepare-glue", "--tokenizer", vocabulary, *options, source, output)
        assert main([str(word) for word in words]) == 0
        return output

    return run


@pytest.fixture
def prepare_fails(tmp_path, prepare):
    """Run the command to its error of one line; nothing may be left of OUT."""

    def run(*options, message):
        before = set(tmp_path.rglob("*"))
        with pytest.raises(UserError, match=message) as error:
            prepare(*options)
        assert "\n" not in str(error.value)
        assert set(tmp_path.rglob("*")) == before

    return run


PLAIN = "\n".join(RTE).replace("|", "\t") + "\n"
WRITTEN = {
    "plain": PLAIN,
    "windows": PLAIN.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + PLAIN,
    "no last line end": PLAIN[:-1],
    "windows without a last line end": PLAIN.replace("\n", "\r\n")[:-2],
    "empty lines at the end": PLAIN + "\n\r\n\n",
    "spaces around the labels": PLAIN.replace("entailment\n", "entailment  \n"),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_file_may_be_written_in_any_way(prepare, source, kind):
    (source / "train.tsv").write_bytes(WRITTEN[kind].encode())
    read = read_back(prepare("--glue-task", "rte"), "train")
    assert (read.texts, read.targets) == (RTE_TEXTS, [1, 0])


def test_quotation_marks_are_characters_of_a_text(prepare, source):
    write_table(source / "train.tsv", 'p|1||"a', 'p|0||b"', 'p|1||"c" ""d""')
    read = read_back(prepare("--glue-task", "CoLA"), "train")
    assert read.texts == [('" a',), ('b "',), ('" c " " " d " "',)]


def test_the_summary_counts_rows_classes_and_updates(prepare, source, capsys):
    many = [f"{row}|a|b|entailment" for row in range(63)]
    write_table(source / "train.tsv", *RTE, *many)
    write_table(source / "test.tsv", *RTE_TEST)
    prepare("--glue-task", "RTE")
    assert capsys.readouterr().out.splitlines() == [
        "train: 65 rows of train.tsv (entailment 64, not_entailment 1)",
        "test: 1 row of test.tsv",
        "an epoch is 3 updates of 32 examples",
    ]


def test_broken_rows_of_qqp_are_passed_over_and_named(prepare, source, capsys):
    write_table(source / "train.tsv", *QQP)
    write_table(source / "dev.tsv", *QQP[:-1])
    folder = prepare("--glue-task", "qqp")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        "train.tsv: passed over 2 broken rows, the first on line 2",
        "dev.tsv: passed over 1 broken row, the first on line 2",
    ]
    assert read_back(folder, "train").texts == read_back(folder, "valid").texts == [("b", "c")]


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
@pytest.mark.parametrize(
    ("options", "columns", "rows", "texts", "targets"),
    [
        (
            CLASSES,
            ("more", "x", "label"),
            [(1, "a b", "a"), (2, "c", "z"), (3, "d", "m")],
            [("a b",), ("c",), ("d",)],
            [1, 0, 2],
        ),
        (
            ("--glue-task", "topic", "--text", "x", "--labels", " 2, 1"),
            ("x", "label"),
            [("a b", 1), ("c", 2)],
            [("a b",), ("c",)],
            [1, 0],
        ),
        (
            (*CLASSES, "--text-pair", "y"),
            ("y", "label", "x"),
            [("a", "z", "b"), ("", "m", "c")],
            [("b", "a"), ("c", "")],
            [0, 2],
        ),
        (
            (*SCORES, *SCORE_RANGE),
            ("x", "y", "like"),
            [("a", "b", -1), ("c", "d", 3.0), ("e", "f", 1e-1)],
            [("a", "b"), ("c", "d"), ("e", "f")],
            [0, 1, 1.1 / 4],
        ),
    ],
)
def test_a_task_of_ones_own(prepare, source, suffix, options, columns, rows, texts, targets):
    def write(name, columns, rows):
        if suffix == "tsv":
            cells = ["|".join(map(str, row)) for row in rows]
            write_table(source / f"{name}.tsv", "|".join(columns), *cells)
        else:
            objects = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
            (source / f"{name}.jsonl").write_text("\n".join(objects))

    def without_label(row):
        return [
            cell for cell, column in zip(row, columns, strict=True) if column[0] not in ("l", "m")
        ]

    write("train", columns, rows)
    write("dev", columns, rows[:1])
    write("test", without_label(columns), list(map(without_label, rows)))
    folder = prepare(*options)
    assert read_back(folder, "train") == (texts, targets)
    assert read_back(folder, "valid") == (texts[:1], targets[:1])
    assert read_back(folder, "test") == (texts, None)


def write(path, text):
    path.write_bytes(text.encode())


def test_a_csv_alone_is_read(prepare, source, capsys):
    write(source / "train.csv", 'more,x,label\r\n1,"a, ""b""\nc",z\r\n2,d,a\r\n')
    read = read_back(prepare(*CLASSES), "train")
    assert read == ([('a , " b " c',), ("d",)], [0, 1])
    assert capsys.readouterr().out.startswith(
        "train: 2 rows of train.csv (z 1, a 1, m 0)\nan epoch"
    )


def test_a_quoted_cell_with_a_line_end_is_one_row(prepare, source, capsys):
    write(source / "train.tsv", "x\tlabel\na\tz\n")
    write(source / "test.tsv", 'x\n"a\nb"\nc\n')
    folder = prepare(*CLASSES)
    assert read_back(folder, "test").texts == [("a b",), ("c",)]
    note = "test.tsv: cells between quotation marks are read by the rules of csv, without the marks"
    assert (
        f"{note} (2 rows; 3 as they stand): --quoting none keeps them"
        in capsys.readouterr().out.splitlines()
    )


QUOTED = {
    (): ["a b", 'c " d'],
    ("--quoting", "csv"): ["a b", 'c " d'],
    ("--quoting", "none"): ['" a b "', '" c " " d "'],
}


@pytest.mark.parametrize("options", QUOTED)
def test_quotation_marks_of_ones_own_files(prepare, source, options, capsys):
    write(source / "train.tsv", 'x\tlabel\n"a b"\tz\n"c "" d"\ta\n')
    assert read_back(prepare(*CLASSES, *options), "train").texts == [(t,) for t in QUOTED[options]]
    # What is chosen by the user need not be said.
    assert ("--quoting" in capsys.readouterr().out) == (not options)


def test_quotation_marks_of_official_files_stay_unless_they_are_said_to_be_csv(
    prepare, source, capsys, tmp_path
):
    write(source / "train.tsv", 'p\t1\t\t"a ""b"" c"\n')
    assert read_back(prepare("--glue-task", "cola"), "train").texts == [('" a " " b " " c "',)]
    assert "train.tsv: read without quoting, as official" in capsys.readouterr().out
    (tmp_path / "out").rename(tmp_path / "first")
    folder = prepare("--glue-task", "cola", "--quoting", "csv")
    assert read_back(folder, "train").texts == [('a " b " c',)]


ONE_ROW = {
    "tsv": "x\tlabel\na\tz\n",
    "csv": "x,label\na,z\n",
    "jsonl": '{"x": "a", "label": "z"}\n',
}


@pytest.mark.parametrize("name", ["dev", "valid", "validation"])
@pytest.mark.parametrize("suffix", ONE_ROW)
def test_validation_sets_have_three_names(prepare, source, name, suffix, capsys):
    for split in ("train", name):
        write(source / f"{split}.{suffix}", ONE_ROW[suffix])
    assert read_back(prepare(*CLASSES), "valid") == ([("a",)], [0])
    assert f"valid: 1 row of {name}.{suffix} (z 1, a 0, m 0)" in capsys.readouterr().out


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("suffix", ONE_ROW)
@pytest.mark.parametrize("ending", PACKERS)
def test_files_may_be_packed_and_called_in_capitals(prepare, source, suffix, ending, capsys):
    row = ONE_ROW[suffix].encode()
    (source / f"train.{suffix}.{ending}").write_bytes(PACKERS[ending](row))
    (source / f"Validation.{suffix.upper()}").write_bytes(row)
    # What has the name itself goes before what is packed.
    (source / f"test.{suffix}").write_bytes(row)
    (source / f"test.{suffix}.gz").write_bytes(b"older")
    folder = prepare(*CLASSES)
    for split in ("train", "valid", "test"):
        assert read_back(folder, split) == ([("a",)], [0])
    assert f"train: 1 row of train.{suffix}.{ending} (z 1" in capsys.readouterr().out


def test_official_files_may_be_packed_and_called_in_capitals(prepare, prepare_fails, source):
    table = "\n".join(RTE).replace("|", "\t").encode()
    (source / "train.tsv.zst").write_bytes(b"\x28\xb5\x2f\xfd\x04\x00the")
    prepare_fails("--glue-task", "rte", message=r"train.tsv.zst: compressed with zstd: unpack it")
    (source / "train.tsv.zst").unlink()
    (source / "train.tsv.gz").write_bytes(gzip.compress(table))
    (source / "VALID.TSV.BZ2").write_bytes(bz2.compress(table))
    folder = prepare("--glue-task", "rte")
    for split in ("train", "valid"):
        assert read_back(folder, split) == (RTE_TEXTS, [1, 0])


def test_official_validation_sets_have_three_names_too(prepare, prepare_fails, source):
    rows = ["sentence1|sentence2|gold_label", "a|b|neutral"]
    write_table(source / "validation_matched.tsv", *rows)
    write_table(source / "valid_mismatched.tsv", *rows, *rows[1:])
    write_table(source / "dev_mismatched.tsv", *rows)
    message = r"dev_mismatched.tsv and valid_mismatched.tsv: two validation sets: remove one"
    prepare_fails("--glue-task", "mnli", message=message)
    (source / "dev_mismatched.tsv").unlink()
    folder = prepare("--glue-task", "mnli")
    assert read_back(folder, "valid").targets == [2]
    assert read_back(folder, "valid1").targets == [2, 2]


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_a_test_set_of_ones_own_may_have_labels(prepare, source, suffix, capsys):
    rows = {
        "tsv": "x\tlabel\na\tm\nb\tz\n",
        "jsonl": '{"x": "a", "label": "m"}\n{"x": "b", "label": "z"}\n',
    }[suffix]
    write(source / f"train.{suffix}", rows)
    write(source / f"test.{suffix}", rows)
    assert read_back(prepare(*CLASSES), "test") == ([("a",), ("b",)], [2, 0])
    assert f"test: 2 rows of test.{suffix} (z 1, a 0, m 1)" in capsys.readouterr().out


def test_what_stands_for_no_label_in_a_test_set_is_none(prepare, source, capsys):
    write(source / "train.tsv", "x\tlabel\na\tz\n")
    write(source / "test.tsv", "x\tlabel\na\t-1\nb\t-1\n")
    assert read_back(prepare(*CLASSES), "test") == ([("a",), ("b",)], None)
    note = "test.tsv: its column 'label' holds no label of topic: not scored"
    assert note in capsys.readouterr().out.splitlines()


def test_a_wrong_label_among_those_of_a_test_set_is_one_line(prepare_fails, source):
    write(source / "train.tsv", "x\tlabel\na\tz\n")
    write(source / "test.tsv", "x\tlabel\na\tz\nb\tq\n")
    prepare_fails(*CLASSES, message=r"test.tsv:3: the label 'q' is none of topic's: z, a, m$")


def test_labels_in_an_official_test_set_are_not_read_and_that_is_said(prepare, source, capsys):
    write_table(source / "train.tsv", *RTE)
    write_table(source / "test.tsv", *RTE)
    assert read_back(prepare("--glue-task", "rte"), "test").targets is None
    assert "test.tsv: its column 'label' is not read: official" in capsys.readouterr().out


def test_empty_rows_at_the_end_of_one_column_are_rows(prepare, source, capsys):
    write(source / "train.tsv", "x\tlabel\na\tz\n\n")
    write(source / "test.tsv", "x\na\n\nb\n\n\r\n")
    folder = prepare(*CLASSES)
    assert read_back(folder, "train").texts == [("a",)]
    assert read_back(folder, "test").texts == [("a",), ("",), ("b",), ("",), ("",)]
    note = "test.tsv: 2 empty rows at its end, taken for empty texts"
    assert note in capsys.readouterr().out.splitlines()


COMPOSED, DECOMPOSED = "tr\u00e8s", "tre\u0300s"


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
@pytest.mark.parametrize("given", [COMPOSED, DECOMPOSED])
def test_labels_and_columns_are_the_same_composed_and_decomposed(prepare, source, given, suffix):
    rows = [{DECOMPOSED: "a", COMPOSED * 2: label} for label in (COMPOSED, "pas", DECOMPOSED)]
    table = "\n".join(
        "\t".join(cells) for cells in [rows[0].keys(), *(row.values() for row in rows)]
    )
    objects = "\n".join(map(json.dumps, rows))
    write(source / f"train.{suffix}", table if suffix == "tsv" else objects)
    options = ("--text", given, "--label", given * 2, "--labels", f"{given},pas")
    read = read_back(prepare("--glue-task", "own", *options), "train")
    assert read == ([("a",)] * 3, [0, 1, 0])


def test_a_label_may_hold_a_comma_and_marks(prepare, source):
    write(source / "train.csv", 'x,label\na,"yes, surely"\nb,"say ""no"""\nc,perhaps\n')
    labels = '"yes, surely", perhaps,"say ""no"""'
    folder = prepare("--glue-task", "own", "--text", "x", "--labels", labels)
    assert read_back(folder, "train").targets == [0, 2, 1]


def test_unknown_pieces_above_one_in_a_hundred_are_a_warning_with_an_example(
    prepare, source, capsys
):
    many = [f"p|1||{'a ' * 99}"]
    write_table(source / "train.tsv", *many, "p|1||a \U0001f600")
    write_table(source / "dev.tsv", "p|1||a", "p|0||b \uc138\uc0c1\uc774 c \U0001f600")
    prepare("--glue-task", "cola")
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(
        "warning: dev.tsv: 40.0% of the tokens are [UNK]: does the vocabulary"
    )
    assert warning.endswith("is '\uc138\uc0c1\uc774'")


TSV_MISTAKES = {
    "unknown label": (
        [*RTE, "2|a|b|maybe"],
        r"train.tsv:4: the label 'maybe' is none of rte's: entailment, not_entailment",
    ),
    "no label": ([*RTE, "2|a|b|"], r"train.tsv:4: the label '' is none of rte's"),
    "the test set": (
        RTE_TEST,
        r"train.tsv: no column 'label' in its header .* another task's file\?",
    ),
    "another task": (MRPC, r"train.tsv: no column 'sentence1', 'sentence2', 'label' in its"),
    "header alone": (RTE[:1], r"train.tsv: no row in it: a split needs at least one example"),
    "header and empty lines": ([*RTE[:1], "", ""], r"train.tsv: no row in it"),
    "empty": ([], r"train.tsv: no row in it"),
    "short row": ([*RTE, "2|a|b"], r"train.tsv:4: 3 columns where 4 are expected: mend"),
    "long row": ([*RTE, "2|a|b|entailment|c"], r"train.tsv:4: 5 columns where 4 are expected"),
    "empty line": ([*RTE, "", "2|a|b|entailment"], r"train.tsv:4: 1 column where 4"),
}


@pytest.mark.parametrize("kind", TSV_MISTAKES)
def test_a_mistake_in_a_table_is_one_line(prepare_fails, source, kind):
    rows, message = TSV_MISTAKES[kind]
    # A good one before it, so that something is made that has to be removed.
    write_table(source / "dev.tsv", *RTE)
    write_table(source / "train.tsv", *rows)
    prepare_fails("--glue-task", "rte", message=message)


@pytest.mark.parametrize(
    ("task", "file", "rows", "message"),
    [
        ("cola", "train.tsv", ["index|sentence", "0|a"], r"train.tsv:1: 2 columns where 4 are"),
        ("cola", "train.tsv", ["p|2||a"], r"train.tsv:1: the label '2' is none of cola's: 0, 1"),
        ("cola", "dev.tsv", [], r"dev.tsv: no row in it"),
        ("wnli", "dev.tsv", RTE, r"dev.tsv:2: the label 'not_entailment' is none of wnli's"),
        ("qqp", "test.tsv", ["id|question1|question2", "0|a"], r"test.tsv:2: 2 columns where 3"),
        ("qqp", "train.tsv", QQP[:2], r"train.tsv: no row in it"),
        ("mnli", "dev.tsv", RTE, r"none of mnli's files in it \(train.tsv, dev_matched.tsv, "),
        ("ax", "test.tsv", RTE_TEST, r"none of ax's files in it \(diagnostic.tsv\)"),
    ],
)
def test_a_file_of_another_task_is_one_line(prepare_fails, source, task, file, rows, message):
    write_table(source / file, *rows)
    prepare_fails("--glue-task", task, message=message)


NO_SCORES = ["3.01", "-1.01", "nan", "inf", "-inf", "", "two", "1 2", "0,5", "0_3", "\u0662", "0x1"]


@pytest.mark.parametrize("score", NO_SCORES)
def test_a_score_that_is_none_is_one_line(prepare_fails, source, score):
    write_table(source / "train.tsv", "x|y|like", "a|b|0", f"c|d|{score}")
    message = rf"train.tsv:3: the score '{score}' is no number from -1 to 3"
    prepare_fails(*SCORES, *SCORE_RANGE, message=message)


GOOD = '{"x": "a", "label": "z"}'
JSON_MISTAKES = {
    "cut": (f'{GOOD}\n{{"x": "a", "lab', r"train.jsonl:2: not a JSON object"),
    "list": (f"{GOOD}\n[1]\n", r"train.jsonl:2: not a JSON object"),
    "empty line": (f"{GOOD}\n\n{GOOD}", r"train.jsonl:2: not a JSON object"),
    "deep": (f"{GOOD}\n{'[' * 99999}", r"train.jsonl:2: not a JSON object"),
    "no key": (f'{GOOD}\n{{"x": "a"}}', r"train.jsonl:2: no 'label' in this row: add it, or name"),
    "number": ('{"x": 5, "label": "z"}', r"train.jsonl:1: 'x' is not a text: write it as a string"),
    "null": ('{"x": null, "label": "z"}', r"train.jsonl:1: 'x' is not a text"),
    "half a character": (r'{"x": "\ud83d", "label": "z"}', r"train.jsonl:1: 'x' is not a text"),
    "unknown": ('{"x": "a", "label": "q"}', r"train.jsonl:1: the label 'q' is none of topic's: z,"),
    "null label": ('{"x": "a", "label": null}', r"train.jsonl:1: the label 'null' is none of"),
    "other label": ('{"x": "a", "label": "\\ud83d"}', r"train.jsonl:1: the label '\\ud83d' is"),
    "empty": ("", r"train.jsonl: no row in it"),
    "encoding": (b'{"x": "caf\xe9"}', r"train.jsonl:1: not UTF-8"),
}


@pytest.mark.parametrize("kind", JSON_MISTAKES)
def test_a_mistake_in_json_lines_is_one_line(prepare_fails, source, kind):
    content, message = JSON_MISTAKES[kind]
    content = content if isinstance(content, bytes) else content.encode()
    (source / "train.jsonl").write_bytes(content)
    prepare_fails(*CLASSES, message=message)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "true", '"x"', "[1]", "1e999", "null"])
def test_a_score_in_json_lines_that_is_none_is_one_line(prepare_fails, source, score):
    (source / "train.jsonl").write_text(f'{{"x": "a", "y": "b", "like": {score}}}\n')
    message = r"train.jsonl:1: the score .* is no number from -1 to 3"
    prepare_fails(*SCORES, *SCORE_RANGE, message=message)


TEXT = ("--text", "x")
WRONG_OPTIONS = [
    (("--glue-task", "sst2"), r"--glue-task sst2: choose one of cola, sst-2, .*, or describe your"),
    (("--glue-task", "rte", *TEXT, "--labels", "a,b"), r"--glue-task rte: an official task has"),
    (("--glue-task", "a/b", *TEXT, "--labels", "a,b"), r"--glue-task 'a/b': letters, digits"),
    (("--glue-task", "own", "--labels", "a,b"), r"--labels: a task of your own needs --text"),
    (("--glue-task", "own", *TEXT), r"\(--labels\) or a --score-range, one of both"),
    (("--glue-task", "own", *TEXT, "--labels", "a,b", *SCORE_RANGE), r"one of both"),
    (("--glue-task", "own", *TEXT, "--labels", "a"), r"--labels a: give two or more different"),
    (("--glue-task", "own", *TEXT, "--labels", "a,b,a"), r"--labels a,b,a: give two or more"),
    (("--glue-task", "own", *TEXT, "--labels", "a, a"), r"--labels a,a: give two or more"),
    (("--glue-task", "own", *TEXT, "--labels", "a,"), r"--labels a,: give two or more"),
    (("--glue-task", "own", *TEXT, "--labels", ""), r"--labels : give two or more"),
    (("--glue-task", "own", *TEXT, "--labels", "a,<unk>"), r"'<unk>' cannot be the word of a"),
    (("--glue-task", "own", *TEXT, "--labels", "a,b\tc"), r"'b\\tc' cannot be the word of a"),
    (("--glue-task", "own", *TEXT, "--score-range", "3", "-1"), r"--score-range 3 -1: give the"),
    (("--glue-task", "own", *TEXT, "--score-range", "1", "1"), r"--score-range 1 1: give the"),
    (("--glue-task", "own", *TEXT, "--score-range", "0", "inf"), r"--score-range 0 inf: give the"),
    (("--glue-task", "own", *TEXT, "--score-range", "nan", "1"), r"--score-range nan 1: give the"),
    (("--glue-task", "own", *TEXT, "--labels", "\u00e9,e\u0301"), r"give two or more different"),
    ((*CLASSES, "--metrics", "pearson"), r"--metrics pearson: .* choose from accuracy, mcc"),
    ((*CLASSES, "--metrics", "f1"), r"--metrics f1: .* choose from accuracy, mcc"),
    ((*CLASSES, "--label", "class"), r"train.tsv: no column 'class' in its header \(x, label\)"),
    ((*CLASSES, "--cased", "--tokenizer", "nowhere"), r"nowhere: no such file"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS)
def test_options_that_do_not_go_together_are_one_line(prepare_fails, source, options, message):
    write_table(source / "train.tsv", "x|label", "a|z")
    prepare_fails(*options, message=message)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"source: holds no train, dev or test \(.tsv, .csv, .jsonl\): name"),
        (("other.tsv", "train.txt"), r"source: holds no train, dev or test"),
        (("train.tsv", "dev.jsonl"), r"source: holds both .tsv and .jsonl: name a folder"),
        (("train.tsv", "valid.CSV.gz"), r"source: holds both .tsv and .csv: name a folder"),
        (("train.tsv.gz", "TRAIN.TSV"), r"TRAIN.TSV and train.tsv.gz: two files of one set: rem"),
        (("train.tsv", "valid.csv"), r"source: holds both .tsv and .csv: name a folder"),
    ],
)
def test_a_folder_of_other_files_is_one_line(prepare_fails, source, files, message):
    for name in files:
        (source / name).write_text("x\tlabel\na\tz\n")
    prepare_fails(*CLASSES, message=message)
    if not files:
        prepare_fails("--glue-task", "rte", message=r"source: none of rte's files in it \(train.ts")
        source.rmdir()
        prepare_fails(*CLASSES, message=r"source: no such folder")


def test_what_stands_at_out_stays(prepare_fails, source, tmp_path):
    write_table(source / "train.tsv", *RTE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    prepare_fails("--glue-task", "rte", message=r"out: there already: choose another folder")


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "convbert_plugin.cli", "prepare-glue", *map(str, arguments)],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
    )


def test_the_command_says_nothing_but_its_own_lines(tmp_path, source):
    write_table(source / "train.tsv", *RTE)
    vocabulary = write_vocabulary(tmp_path / "vocabulary")
    arguments = ("--glue-task", "rte", "--tokenizer", vocabulary, source)
    result = command(*arguments, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    (source / "train.tsv").write_text("sentence\n")
    result = command(*arguments, tmp_path / "other")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"{source / 'train.tsv'}: no column 'sentence1', ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--glue-task", "own", "--score-range", "0", "x"),
        ("--glue-task", "own", "--score-range", "0", "1_0"),
        ("--glue-task", "rte", "--quoting", "tsv"),
        ("--glue-task", "own", "--labels", 'a,"b'),
    ],
)
def test_wrong_arguments_end_with_status_2(options, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["prepare-glue", "--tokenizer", "v", *options, str(tmp_path), str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
