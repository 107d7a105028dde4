"""Lines as fairseq reads them, and files that are damaged in every place."""

import builtins
import itertools
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, data_utils
from fairseq.data.indexed_dataset import IndexedDatasetBuilder, MMapIndexedDatasetBuilder

from convbert_plugin.data.binarized import glance_at_lines, open_lines
from convbert_plugin.data.indexed_reading import HEADER, LineFile, UnreadableLine, unreadable
from convbert_plugin.errors import UserError

pytestmark = [pytest.mark.pretraining, pytest.mark.survival]

VOCABULARY = Dictionary()
for word in range(90):
    VOCABULARY.add_symbol(str(word))
END = VOCABULARY.eos()
# Of two bytes a token: the third line begins at byte 10 and has three tokens.
LINES = [[7, 8, 9, END], [END], [50, 93, END], [60] * 30 + [END]]
OPENING = (open_lines, glance_at_lines)


def write(path, lines=LINES, kind=np.uint16):
    builder = MMapIndexedDatasetBuilder(f"{path}.bin", dtype=kind)
    for line in lines:
        builder.add_item(torch.tensor(line))
    builder.finalize(f"{path}.idx")
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "train")


@pytest.mark.parametrize(
    "kind", [np.uint8, np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint32, np.uint64]
)
def test_lines_are_those_that_fairseq_reads(tmp_path, kind, monkeypatch):
    # Parts that end within lines, at their ends, and within eight bytes.
    monkeypatch.setattr("convbert_plugin.data.indexed_reading.BYTES_AT_ONCE", 24)
    path = write(tmp_path / "train", kind=kind)
    theirs, ours = (
        data_utils.load_indexed_dataset(str(path), VOCABULARY),
        open_lines(path, VOCABULARY),
    )
    glance_at_lines(path, VOCABULARY)
    assert len(ours) == len(theirs) == len(LINES)
    assert ours.sizes.tolist() == theirs.sizes.tolist()
    for index in range(len(LINES)):
        assert ours[index].dtype == theirs[index].dtype
        assert ours[index].tolist() == theirs[index].tolist() == LINES[index]
    assert [line.tolist() for line in pickle.loads(pickle.dumps(ours))] == LINES


def test_joined_lines_are_those_that_fairseq_reads(tmp_path, caplog):
    for number, name in enumerate(("train", "train1", "train2", "train4")):
        write(tmp_path / name, LINES[: number + 1])
    path = tmp_path / "train"
    theirs = data_utils.load_indexed_dataset(str(path), VOCABULARY, combine=True)
    ours = open_lines(path, VOCABULARY, combine=True)
    assert [line.tolist() for line in ours] == [line.tolist() for line in theirs]
    assert ours.sizes.tolist() == [len(line) for line in theirs]
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning == f"{path}4.bin: is left out, for {path}3.bin is missing before it"
    (tmp_path / "train2.idx").unlink()
    assert line_of(path, combine=True).startswith(f"{path}2.idx is missing: make it with")


def line_of(path, opening=open_lines, **options):
    with pytest.raises(UserError) as error:
        opening(path, VOCABULARY, **options)
    line = str(error.value)
    assert "\n" not in line
    return line


def change(file, offset, content):
    with open(file, "r+b") as opened:
        opened.seek(offset)
        opened.write(content)


SIZES, STARTS = HEADER.size, HEADER.size + 4 * len(LINES)


def flip_header(place):
    return lambda path: change(f"{path}.idx", place, b"\xff")


def in_index(offset, form, value):
    return lambda path: change(f"{path}.idx", offset, struct.pack(form, value))


def in_data(token, value):
    return lambda path: change(f"{path}.bin", 2 * token, struct.pack("<H", value))


def cut(suffix, left):
    return lambda path: os.truncate(f"{path}{suffix}", left)


def longer(suffix):
    def apply(path):
        with open(f"{path}{suffix}", "ab") as file:
            file.write(b"\2\0")

    return apply


def of_another_corpus(path):
    other = write(path.with_name("other"), [*LINES, [5, END]])
    os.replace(f"{other}.idx", f"{path}.idx")


def folder_in_place(suffix):
    def apply(path):
        os.unlink(f"{path}{suffix}")
        os.mkdir(f"{path}{suffix}")

    return apply


def in_the_old_format(path):
    builder = IndexedDatasetBuilder(f"{path}.bin")
    builder.add_item(torch.tensor(LINES[0]))
    builder.finalize(f"{path}.idx")


# What is wrong, the line that tells it, and whether a glance is enough.
DAMAGES = {
    **{
        f"{suffix} is {name}": (apply(suffix), f"{suffix} is missing: make it with", True)
        for suffix in (".bin", ".idx")
        for name, apply in {
            "missing": lambda suffix: lambda path: os.unlink(f"{path}{suffix}"),
            "a folder": folder_in_place,
        }.items()
    },
    **{
        f"byte {place} of the header": (flip_header(place), "train.idx: is ", True)
        for place in range(HEADER.size)
    },
    "float tokens": (in_index(17, "<B", 7), "is no index of binarized lines", True),
    "an index of nothing": (cut(".idx", 0), "train.idx: is cut short", True),
    "an index cut in its header": (cut(".idx", 20), "train.idx: is cut short", True),
    "an index cut in its lines": (cut(".idx", 50), "train.idx: is cut short, or longer", True),
    "an index that goes on": (longer(".idx"), "train.idx: is cut short, or longer", True),
    "an index of another corpus": (of_another_corpus, "train.bin does not fit its .idx", True),
    "the old format": (in_the_old_format, "binarize with --dataset-impl mmap", True),
    "no tokens": (cut(".bin", 0), "train.bin does not fit its .idx", True),
    "tokens cut short": (cut(".bin", 60), "train.bin does not fit its .idx", True),
    "more tokens than lines": (longer(".bin"), "train.bin does not fit its .idx", True),
    "a line that ends early": (in_index(SIZES + 8, "<i", 2), "lines of it overlap", False),
    "a line of no token": (in_index(SIZES + 4, "<i", 0), "train.idx: is damaged", True),
    "a line of less": (in_index(SIZES + 8, "<i", -3), "train.idx: is damaged", True),
    "a line of two billion": (in_index(SIZES + 8, "<i", 2**31 - 1), "train.idx: is damaged", True),
    "a line before the first": (in_index(STARTS + 16, "<q", -2), "train.idx: is damaged", True),
    "a line behind the last": (in_index(STARTS + 16, "<q", 2**40), "train.idx: is damaged", True),
    "a line begun twice": (in_index(STARTS + 16, "<q", 8), "lines of it overlap", False),
    "an id beyond": (in_data(5, 94), "token 94 on line 3 is not among the 94 of dict.txt", True),
    "an end of no line": (in_data(7, 9), "line 3 does not end in </s>", True),
    "the very last end": (in_data(38, 9), "line 4 does not end in </s>", True),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_one_line(path, kind):
    damage, words, is_seen_at_once = DAMAGES[kind]
    damage(path)
    line = line_of(path)
    assert words in line
    assert "fairseq-preprocess" in line or "--dataset-impl mmap" in line
    if is_seen_at_once:
        assert words in line_of(path, glance_at_lines)


def test_every_flipped_bit_of_an_index_is_found(path):
    content = (path.parent / "train.idx").read_bytes()
    for place, bit in itertools.product(range(len(content)), range(8)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        (path.parent / "train.idx").write_bytes(flipped)
        line_of(path)


def test_negative_ids_are_none_of_the_vocabulary(tmp_path):
    path = write(tmp_path / "train", [[5, -3, END]], np.int16)
    assert "token -3 on line 1 is not among" in line_of(path)


@pytest.mark.parametrize("lines", [[], [[END], [END]]], ids=["no lines", "empty lines"])
@pytest.mark.parametrize("opening", OPENING)
def test_without_text(tmp_path, lines, opening):
    path = write(tmp_path / "train", lines)
    assert line_of(path, opening) == f"{path}.bin: no text in it; binarize a corpus that has some"


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_what_may_not_be_read(path, suffix, monkeypatch):
    def refused(file, *arguments, **options):
        if str(file) == f"{path}{suffix}":
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    # Root may read all.
    module = os if suffix == ".bin" else builtins
    opened = module.open
    monkeypatch.setattr(module, "open", refused)
    assert line_of(path).startswith(f"{path}{suffix}: cannot be read (Permission denied): mend")


def test_a_disk_that_fails_is_one_line(path, monkeypatch):
    lines = LineFile(path, "fairseq-preprocess", END)

    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(UserError, match=r"train.bin: cannot be read \(Input/output error\)"):
        lines[0]


def test_a_file_that_is_written_anew_is_told_where_it_is_read(path):
    lines = open_lines(path, VOCABULARY)
    lines.check_unchanged()
    # It is no other file that is put in its place: the one that was opened stays.
    for suffix in (".bin", ".idx"):
        os.rename(f"{path}{suffix}", f"{path}.old{suffix}")
    write(path, [[5, 5, END]])
    lines.check_unchanged()
    assert lines[3].tolist() == LINES[3]
    with open(f"{path}.old.bin", "wb") as file:
        file.write(b"\5\0" * 20)
    words = r"train.bin: was changed while the run read it"
    for ask in (lambda: lines[2], lambda: lines[3], lines.check_unchanged):
        with pytest.raises(UserError, match=words):
            ask()


def test_a_file_that_is_touched_is_the_same(path):
    lines = open_lines(path, VOCABULARY)
    for suffix in (".bin", ".idx"):
        os.utime(f"{path}{suffix}", (1, 1))
        lines.check_unchanged()
    # Another text with the same ends.
    change(f"{path}.bin", 0, b"\x08")
    with pytest.raises(UserError, match=r"train.bin: was changed while the run read it"):
        lines.check_unchanged()


def test_an_index_that_is_written_anew_is_told_at_the_next_epoch(path):
    lines = open_lines(path, VOCABULARY)
    change(f"{path}.idx", STARTS + 16, struct.pack("<q", 2**40))
    words = r"train.idx: (is damaged at line 3|was changed while the run read it)"
    for ask in (lambda: lines[2], lines.check_unchanged):
        with pytest.raises(UserError, match=words):
            ask()


def test_contents_tell_files_apart(path, tmp_path):
    contents = {open_lines(path, VOCABULARY).content}
    assert open_lines(write(tmp_path / "same"), VOCABULARY).content in contents
    for token, value in ((0, 8), (1, 7), (36, 61)):
        other = write(tmp_path / f"other{token}")
        in_data(token, value)(other)
        contents.add(open_lines(other, VOCABULARY).content)
    # The same tokens in other lines.
    ends = [[7, 8, END], [9, END], *LINES[1:]], [[7, END], [8, 9, END], *LINES[1:]]
    for number, lines in enumerate(([LINES[1], LINES[0], *LINES[2:]], *ends)):
        contents.add(open_lines(write(tmp_path / f"swapped{number}", lines), VOCABULARY).content)
    assert len(contents) == 7


def test_threads_and_workers_are_handed_what_they_hand_on():
    assert isinstance(unreadable("a line"), UserError)
    with ThreadPoolExecutor() as threads:
        error = threads.submit(unreadable, "a line").result()
    assert isinstance(error, Exception)
    assert isinstance(error, UnreadableLine)
    assert error.line == "a line"
    # As torch's workers do.
    told = f"Caught it in worker 0.\nTraceback\n  there\nx.y.{UnreadableLine.__name__}: a line\n"
    assert UnreadableLine(told).line == "a line"
