import copy
import os
import pickle
from pathlib import Path

import pytest
import torch
from fairseq.binarizer import FileBinarizer, VocabularyDatasetBinarizer
from fairseq.data import Dictionary, data_utils

from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.tokenization.tokenizer import load_tokenizer

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BERT_VOCAB = DATA / "vocab" / "bert-base-uncased.txt"
ROWS = ["the", "[PAD]", "cat", "[UNK]", "sat", "##s", "[CLS]", ",", "[SEP]", "dog", "[MASK]"]


def write_rows(path: Path, rows: list[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(row + end for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def wordpiece_folder(tmp_path) -> Path:
    folder = tmp_path / "tokenizer"
    load_tokenizer(write_rows(tmp_path / "any.txt", ROWS), cased=True).save(folder)
    return folder


def test_wordpiece_rows_are_ids(wordpiece_folder):
    vocabulary = Vocabulary.load(str(wordpiece_folder / "dict.txt"))
    assert vocabulary.symbols == ROWS
    specials = [vocabulary.pad(), vocabulary.unk(), vocabulary.bos(), vocabulary.eos()]
    assert specials == [1, 3, 6, 8]
    assert vocabulary.mask() == 10
    assert vocabulary.special_ids() == {1, 6, 8, 10}
    line = vocabulary.encode_line("the cat ##s bird", add_if_not_exist=False)
    assert line.tolist() == [0, 2, 5, 3, 8]
    assert vocabulary.string(line) == "the cat ##s [UNK]"
    assert len(vocabulary) == len(ROWS)


def test_a_plain_dictionary_is_fairseqs_with_a_mask(tmp_path):
    path = write_rows(tmp_path / "dict.txt", ["▁the 50", "▁cat 7", "s 3"])
    vocabulary, oracle = Vocabulary.load(path), Dictionary.load(str(path))
    assert oracle.add_symbol("<mask>") == vocabulary.mask() == 7
    assert vocabulary == oracle
    assert vocabulary.special_ids() == {0, 1, 2, 7}
    assert vocabulary.count[4:7] == [50, 7, 3]
    assert [vocabulary.bos(), vocabulary.pad(), vocabulary.eos(), vocabulary.unk()] == [0, 1, 2, 3]


def test_the_mask_stays_where_the_file_has_it(tmp_path):
    path = write_rows(tmp_path / "dict.txt", ["<mask> 1", "▁the 50"])
    vocabulary = Vocabulary.load(path)
    assert vocabulary.symbols == ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁the"]
    assert vocabulary.mask() == 4


@pytest.mark.parametrize("rows", [ROWS, ["▁the 50", "▁cat 7"], ["<mask> 1", "▁the 50"]])
def test_what_is_saved_loads_to_the_same_ids(tmp_path, rows):
    first = Vocabulary.load(write_rows(tmp_path / "rows.txt", rows))
    first.save(str(tmp_path / "saved" / "dict.txt"))
    again = Vocabulary.load(tmp_path / "saved" / "dict.txt")
    assert again.symbols == first.symbols
    assert again.fingerprint() == first.fingerprint()
    assert again.mask() == first.mask()
    with open(tmp_path / "handle.txt", "w", encoding="utf-8") as file:
        first.save(file)
    assert (tmp_path / "handle.txt").read_bytes() == (tmp_path / "saved/dict.txt").read_bytes()


def test_it_survives_pickling_and_copying(wordpiece_folder):
    vocabulary = Vocabulary.load(wordpiece_folder / "dict.txt")
    for other in (pickle.loads(pickle.dumps(vocabulary)), copy.deepcopy(vocabulary)):
        assert other.fingerprint() == vocabulary.fingerprint()
        assert other.special_ids() == vocabulary.special_ids()
        assert other.index("nothing") == vocabulary.unk()


def test_the_tokenizer_travels(wordpiece_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(wordpiece_folder)
    vocabulary = Vocabulary.load("dict.txt")
    # hydra changes the working directory between loading and saving.
    monkeypatch.chdir(tmp_path)
    vocabulary.save(str(tmp_path / "data" / "dict.txt"))
    vocabulary.save("data/dict.txt")
    there = load_tokenizer(tmp_path / "data")
    assert there.identity() == load_tokenizer(wordpiece_folder).identity()
    assert there.fingerprint() == vocabulary.fingerprint()
    vocabulary.save(str(wordpiece_folder / "dict.txt"))


def test_a_bare_vocab_travels_as_vocab_txt(tmp_path):
    Vocabulary.load(write_rows(tmp_path / "my.txt", ROWS)).save(tmp_path / "data" / "dict.txt")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["dict.txt", "vocab.txt"]
    assert load_tokenizer(tmp_path / "data").symbols == ROWS


def test_a_sentencepiece_model_travels(tmp_path):
    write_rows(tmp_path / "dict.txt", ["▁the 50"])
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"model")
    Vocabulary.load(tmp_path / "dict.txt").save(tmp_path / "data" / "dict.txt")
    assert (tmp_path / "data" / "sentencepiece.bpe.model").read_bytes() == b"model"


def test_save_refuses_a_folder_of_another_tokenizer(wordpiece_folder, tmp_path):
    write_rows(tmp_path / "data" / "vocab.txt", [*ROWS, "more"])
    with pytest.raises(UserError, match=r"vocab.txt: belongs to another tokenizer"):
        Vocabulary.load(wordpiece_folder / "dict.txt").save(str(tmp_path / "data" / "dict.txt"))
    assert not (tmp_path / "data" / "dict.txt").exists()


def test_dictionary_and_vocab_have_to_agree(wordpiece_folder):
    write_rows(wordpiece_folder / "vocab.txt", [*ROWS, "more"])
    with pytest.raises(UserError, match=r"dict.txt and .*vocab.txt disagree \(11 and 12 symbols\)"):
        Vocabulary.load(wordpiece_folder / "dict.txt")


BROKEN = {
    "no mask": (ROWS[:-1], r"dict.txt: no row \[MASK\]"),
    "no mask, counts": ([f"{row} 1" for row in ROWS[:-1]], r"dict.txt: no row \[MASK\]"),
    "no specials": (["the", "cat"], r"no row \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
    "duplicate": (["▁the 5", "▁cat 2", "▁the 1"], "dict.txt:3: '▁the' stands on line 1 already"),
    "malformed": (["▁the 5", "▁cat"], "dict.txt:2: expected 'piece count'"),
    "empty": ([], "dict.txt: empty"),
    "long count": (["▁the 5", "▁cat " + "9" * 5000], "dict.txt:2: expected .* at most 18 digits"),
    "only long counts": (["▁the " + "9" * 19], "dict.txt:1: expected .* at most 18 digits"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_dictionary_is_one_line(tmp_path, kind):
    rows, message = BROKEN[kind]
    with pytest.raises(UserError, match=message) as error:
        Vocabulary.load(write_rows(tmp_path / "dict.txt", rows))
    assert len(str(error.value)) < 400


def test_the_longest_count(tmp_path):
    path = write_rows(tmp_path / "dict.txt", ["▁the " + "9" * 18, "▁cat 1"])
    assert Vocabulary.load(path).count[4] == 10**18 - 1


def test_a_missing_dictionary_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"dict.txt: no such file"):
        Vocabulary.load(str(tmp_path / "dict.txt"))


@pytest.mark.parametrize("name", ["dict.txt", "vocab.txt"])
def test_a_pipe_is_one_line(wordpiece_folder, no_hanging, name):
    (wordpiece_folder / name).unlink()
    os.mkfifo(wordpiece_folder / name)
    with pytest.raises(UserError, match=rf"{name}: a pipe or a device, where a regular file"):
        Vocabulary.load(wordpiece_folder / "dict.txt")


def test_a_pipe_where_the_tokenizer_would_go_is_one_line(wordpiece_folder, tmp_path, no_hanging):
    os.mkfifo(tmp_path / "vocab.txt")
    with pytest.raises(UserError, match=r"vocab.txt: a pipe or a device"):
        Vocabulary.load(wordpiece_folder / "dict.txt").save(tmp_path / "dict.txt")


@pytest.mark.parametrize("workers", [1, 2])
def test_fairseqs_binarizer_keeps_the_ids(wordpiece_folder, tmp_path, workers):
    vocabulary = Vocabulary.load(wordpiece_folder / "dict.txt")
    lines = ["the cat ##s sat", "", "dog , bird", "the dog"]
    text = write_rows(tmp_path / "train.txt", lines)
    FileBinarizer.multiprocess_dataset(
        str(text),
        "mmap",
        VocabularyDatasetBinarizer(vocabulary),
        str(tmp_path / "train"),
        vocab_size=len(vocabulary),
        num_workers=workers,
    )
    data = data_utils.load_indexed_dataset(str(tmp_path / "train"), vocabulary)
    expected = [[ROWS.index(w) if w in ROWS else 3 for w in line.split()] + [8] for line in lines]
    assert [torch.as_tensor(item).tolist() for item in data] == expected


SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
FAIRSEQ_SPECIALS = ["<s>", "<pad>", "</s>", "<mask>"]


@pytest.mark.parametrize("is_wordpiece", [True, False])
def test_a_special_symbol_in_a_line_is_text_without_a_piece(
    wordpiece_folder, tmp_path, is_wordpiece
):
    rows = write_rows(tmp_path / "dict.txt", ["the 5", "cat 3", "[ 2"])
    path = wordpiece_folder / "dict.txt" if is_wordpiece else rows
    vocabulary = Vocabulary.load(path)
    ids = [vocabulary.index("the"), vocabulary.unk(), vocabulary.index("cat"), vocabulary.eos()]
    specials = SPECIALS if is_wordpiece else FAIRSEQ_SPECIALS
    text = write_rows(tmp_path / "text", [f"the {special} cat" for special in specials])
    summary = FileBinarizer.multiprocess_dataset(
        str(text),
        "mmap",
        VocabularyDatasetBinarizer(vocabulary),
        str(tmp_path / "train"),
        vocab_size=len(vocabulary),
    )
    data = data_utils.load_indexed_dataset(str(tmp_path / "train"), vocabulary)
    assert [item.tolist() for item in data] == [ids] * 4
    # As for any word that is no piece.
    assert summary.num_replaced == 4


@pytest.mark.skipif(not BERT_VOCAB.exists(), reason="the shared data are absent")
def test_berts_vocabulary():
    vocabulary = Vocabulary.load(BERT_VOCAB)
    assert len(vocabulary) == 30_522
    assert vocabulary.special_ids() == {0, 101, 102, 103}
    assert vocabulary.unk() == 100
    text = "jewish es ##cha ##tology"
    rows = BERT_VOCAB.read_text(encoding="utf-8").split("\n")
    expected = [*map(rows.index, text.split()), 102]
    assert vocabulary.encode_line(text, add_if_not_exist=False).tolist() == expected


def test_workers_of_a_data_loader_take_it(wordpiece_folder):
    vocabulary = Vocabulary.load(wordpiece_folder / "dict.txt")

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return vocabulary.mask() + index

    loader = torch.utils.data.DataLoader(Rows(), num_workers=2)
    assert torch.cat(list(loader)).tolist() == [10, 11, 12, 13]
