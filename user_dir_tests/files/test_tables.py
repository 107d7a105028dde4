"""Tables as others write them: Python's csv module, pandas, Excel, by hand."""

import csv
import gzip
import io
import time

import pytest

from convbert_plugin.errors import UserError
from convbert_plugin.files.tables import CSV, NONE, choose_quoting, open_table

pytestmark = pytest.mark.glue

# What only quoting can write, and what looks like it.
CELLS = [
    ["text", "label"],
    ['He said "hi" to me', "a"],
    ['"quoted"', "b"],
    ["two\nlines\r\nmore", "a"],
    ["tab\there, comma; semicolon", ""],
    ['""', 'b "'],
    ["", "a"],
    ["plain", "b"],
]
WRITERS = {
    "csv module": {"lineterminator": "\r\n"},
    "pandas": {"lineterminator": "\n"},
    "all quoted": {"quoting": csv.QUOTE_ALL},
}


def written(rows, delimiter, **options):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, **options).writerows(rows)
    return file.getvalue()


def write(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def read(path, columns=("text",)):
    """The cells of a table, read as it was written, and what was said of that."""
    quoting, note = choose_quoting([path], is_official=False)[path]
    return [cells for _, cells in open_table(path, quoting, columns).rows()], note


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("suffix", "delimiter"), [("tsv", "\t"), ("csv", ","), ("csv", ";"), ("csv", "\t")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_was_written_is_read(tmp_path, writer, suffix, delimiter, encoding):
    text = written(CELLS, delimiter, **WRITERS[writer])
    cells, note = read(write(tmp_path, f"train.{suffix}", text, encoding))
    assert cells == CELLS
    # A .csv is what it says it is.
    assert (note is None) == (suffix == "csv")
    # Two line feeds stand within a cell.
    rows = "(7 rows; 9 as they stand)"
    assert note is None or f"by the rules of csv, without the marks {rows}: --quoting" in note


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_one_column_may_hold_the_delimiters_of_others(tmp_path, delimiter):
    others = ",;\t".replace(delimiter, "")
    cells = [["text"], [f"one{others} two"], [others], [""], ["all,;\t of\n"]]
    assert read(write(tmp_path, "test.csv", written(cells, delimiter)))[0] == cells


PLAIN = {
    "marks in a text": 'text\tlabel\nsay 5" or "so"\ta\n',
    "one that begins a cell": 'text\tlabel\n"so, he said\ta\n',
    "both ends of a text, and more": 'text\tlabel\n"one" and "two"\ta\n',
    "a pair over two cells": 'text\tlabel\tmore\n"so\ta"\tb\nc\td\te\n',
    "a stray one beside a quoted cell": 'text\tlabel\n"all of it"\ta\n5" disk\tb\n',
    "a carriage return": 'text\tlabel\n"all of it"\ta\ntwo\rparts\tb\n',
}


@pytest.mark.parametrize("kind", PLAIN)
def test_what_no_writer_of_csv_leaves_so_is_read_as_it_stands(tmp_path, kind):
    text = PLAIN[kind]
    cells, note = read(write(tmp_path, "train.tsv", text))
    assert cells == [line.split("\t") for line in text.split("\n")[:-1]]
    # Said where a reader of csv would see something else.
    assert (note is None) == (kind == "marks in a text")
    reason = "because this file does not follow the rules of csv: --quoting csv"
    assert note is None or f"marks are kept as they stand, {reason}" in note


JOINED = 'text\tlabel\n"I begin\tA\nx\tB\ny\tB\nand end it"\tA\nz\tB\n\n'


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz", "TSV"])
def test_rows_that_marks_join_are_counted(tmp_path, suffix):
    text = JOINED.encode()
    path = tmp_path / f"train.{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    cells, note = read(path)
    assert cells[1:3] == [["I begin\tA\nx\tB\ny\tB\nand end it", "A"], ["z", "B"]]
    assert note.endswith("without the marks (2 rows; 5 as they stand): --quoting none keeps them")


def test_counts_that_are_equal_are_not_said(tmp_path):
    note = read(write(tmp_path, "train.tsv", 'text\tlabel\n"all of it"\ta\n'))[1]
    assert "without the marks: --quoting none" in note


def test_a_file_without_marks_is_read_as_it_stands(tmp_path):
    path = write(tmp_path, "train.tsv", "text\tlabel\none\rpart\ta\n")
    assert read(path) == ([["text", "label"], ["one\rpart", "a"]], None)


def test_files_that_could_be_either_are_read_as_the_others(tmp_path):
    either = write(tmp_path, "dev.tsv", 'text\tlabel\n"all of it"\ta\n')
    plain = write(tmp_path, "train.tsv", PLAIN["one that begins a cell"])
    quoted = write(tmp_path, "test.tsv", written(CELLS, "\t"))
    kinds = {path: how.quoting for path, how in choose_quoting([either, plain], False).items()}
    assert kinds == {either: NONE, plain: NONE}
    kinds = {path: how.quoting for path, how in choose_quoting([either, quoted], False).items()}
    assert kinds == {either: CSV, quoted: CSV}
    assert choose_quoting([either], False)[either].quoting == CSV


def test_the_reason_for_keeping_marks_is_the_true_one(tmp_path):
    quoted = write(tmp_path, "train.tsv", written(CELLS, "\t"))
    plain = write(tmp_path, "dev.tsv", PLAIN["one that begins a cell"])
    either = write(tmp_path, "test.tsv", 'text\tlabel\n"all of it"\ta\n')
    chosen = choose_quoting([quoted, plain, either], False)
    assert [how.quoting for how in chosen.values()] == [CSV, NONE, NONE]
    assert "because this file does not follow the rules of csv: --q" in chosen[plain].note
    assert (
        "as they stand, because this file fits both readings, and dev.tsv does not follow the "
        "rules of csv: --quoting csv reads" in chosen[either].note
    )


def test_official_files_are_read_as_they_stand_and_doubts_are_said(tmp_path):
    official = write(tmp_path, "dev.tsv", PLAIN["one that begins a cell"])
    rewritten = write(tmp_path, "train.tsv", written(CELLS, "\t"))
    chosen = choose_quoting([official, rewritten], is_official=True)
    assert {how.quoting for how in chosen.values()} == {NONE}
    assert chosen[official].note is None
    assert chosen[rewritten].note.endswith("then give --quoting csv")


def test_a_choice_of_the_user_holds_for_all(tmp_path):
    paths = [write(tmp_path, name, written(CELLS, "\t")) for name in ("a.tsv", "b.csv")]
    for given in (CSV, NONE):
        chosen = choose_quoting(paths, is_official=given == CSV, given=given)
        assert list(chosen.values()) == [(given, None)] * 2


def test_rows_know_their_first_line(tmp_path):
    path = write(tmp_path, "train.csv", 'text,label\r\n"a\r\nb\r\n",x\r\n\r\nc,y')
    rows = list(open_table(path, CSV, ["text"]).rows())
    assert rows == [(1, ["text", "label"]), (2, ["a\r\nb\r\n", "x"]), (5, [""]), (6, ["c", "y"])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('text,label\na,b\n"c" d,e\n', r"train.csv:3: not by the rules of csv \(.*\): double the"),
        ('text,label\na,b\n"c,d\ne,f\n', r"train.csv:3: not by the rules of csv \(unexpected end"),
    ],
)
def test_broken_quoting_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        list(open_table(write(tmp_path, "train.csv", text), CSV, ["text"]).rows())
    assert "\n" not in str(error.value)


def test_a_cell_may_be_long(tmp_path):
    rows = [["text"], ['"' + "long " * 100_000]]
    assert read(write(tmp_path, "test.csv", written(rows, ",")))[0] == rows


@pytest.mark.speed
def test_marks_take_time_by_the_length_of_the_text(tmp_path):
    # Cells that begin with marks which nothing ends, and marks after marks.
    for cell in ('"a', '""a', '"""a', '"' * 999):
        path = write(tmp_path, "train.tsv", "text\n" + f"{cell}\n" * (500_000 // len(cell)))
        begin = time.process_time()
        read(path)
        assert time.process_time() - begin < 2
