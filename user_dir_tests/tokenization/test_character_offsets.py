"""Pieces stand where they say: against a slow reading of the text, and the tokenizers library."""

import copy
import io
import json
import unicodedata

import pytest
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer

from convbert_plugin.tokenization.character_offsets import exact_offsets
from convbert_plugin.tokenization.sentencepiece_tokenizer import (
    SentencePieceTokenizer,
    load_sentencepiece,
)
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.tokenizer_writing import pipeline_content
from convbert_plugin.tokenization.wordpiece import LONGEST_WORD, WordPieceTokenizer
from user_dir_tests.tokenization.toy_pipelines import PIPELINES, TEXTS_OF_ALL, saved_pipeline
from user_dir_tests.tokenization.toy_tokenizers import ROWS, SETTINGS, TEXTS, made_lines

pytestmark = pytest.mark.squad

LETTERS = [*"abcdefghijklmnopqrstuvwxyzéàü漢字שלוםعربية0123456789.,()'-❤▁½ﬁ"]
ROWS_OF_LETTERS = [*dict.fromkeys([*ROWS, *LETTERS, *(f"##{letter}" for letter in LETTERS)])]
ODD_TEXTS = [
    "xe\u0301\u0323y cafe\u0301, É e\u0301",
    "\u0301abc \u0301 a\u0301",
    "שָׁלוֹם العَرَبِيَّة, (שלום)",
    "the  cat\t\tsat \r\n\r\n the",
    "  ❤\ufe0f ❤ 漢字\u3099 the\u200d cat\u200f. \u00ad",
    "(a)b-c 'd' e.f",
    "İstanbul İ",
]


def words_of(text, settings):
    """BERT's words, each as letters and the place of the character that each letter is of."""
    words, is_open = [], False
    for place, character in enumerate(text):
        kind = unicodedata.category(character)
        if character in "\t\n\r" or kind in ("Zs", "Zl", "Zp"):
            is_open = False
            continue
        if kind[0] == "C" or character == "\ufffd":
            continue
        letters = character
        if settings.strips_accents:
            letters = unicodedata.normalize("NFD", character)
            letters = "".join(c for c in letters if unicodedata.category(c) != "Mn")
        if not settings.cased:
            letters = "".join(letter.lower() for letter in letters)
        is_alone = (settings.split_chinese and "\u4e00" <= character <= "\u9fff") or (
            kind[0] == "P" or character in "$+<=>^`|~"
        )
        if letters and (is_alone or not is_open):
            words.append([])
        words[-1:] = [[*word, *((c, place) for c in letters)] for word in words[-1:]]
        is_open = (is_open and not letters) or (bool(letters) and not is_alone)
    return words


def slow_pieces(text, rows, settings):
    """Longest pieces first, one letter after the other, and their characters."""
    found = []
    for word in words_of(text, settings):
        letters, pieces, begin = "".join(c for c, _ in word), [], 0
        while begin < len(letters) <= LONGEST_WORD:
            prefix = "##" if begin else ""
            ends = range(len(letters), begin, -1)
            end = next((end for end in ends if prefix + letters[begin:end] in rows), None)
            if end is None:
                break
            pieces.append((prefix + letters[begin:end], word[begin][1], word[end - 1][1] + 1))
            begin = end
        if begin < len(letters):
            pieces = [("[UNK]", word[0][1], word[-1][1] + 1)]
        found += pieces
    taken = {place for _, begin, end in found for place in range(begin, end)}
    for piece, begin, end in found:
        # A mark that was left out stays with its letter.
        while end not in taken and unicodedata.category(text[end : end + 1] or " ") == "Mn":
            end += 1
        yield piece, begin, end


def as_rows(made):
    return [(piece, *span) for piece, span in zip(made.pieces, made.offsets, strict=True)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_wordpiece_against_a_slow_reading(settings):
    texts = [*TEXTS, *ODD_TEXTS, *made_lines(40)]
    tokenizer = WordPieceTokenizer(ROWS_OF_LETTERS, settings)
    made = tokenizer.pieces_with_offsets(texts)
    assert [each.pieces for each in made] == tokenizer.pieces_batch(texts)
    rows = set(ROWS_OF_LETTERS)
    for text, each in zip(texts, made, strict=True):
        assert as_rows(each) == list(slow_pieces(text, rows, settings))
    # Once more, by what is remembered of the words.
    assert tokenizer.pieces_with_offsets(texts[::-1]) == made[::-1]


def assert_the_librarys(text, made, encoding):
    """Equal to the library's spans, but for spaces around them, and marks that it leaves out."""
    for piece, (start, end), (first, last) in zip(
        made.pieces, made.offsets, encoding.offsets, strict=True
    ):
        if piece.strip("▁Ġ") and text[first:last].strip():
            assert text[start:end].startswith(text[first:last].strip())
            assert not text[first:start].strip()
            assert all(unicodedata.category(c) == "Mn" for c in text[last:end])
        else:
            assert start == end


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_pipeline_against_the_library(kind, tmp_path):
    tokenizer = load_tokenizer(saved_pipeline(kind, tmp_path))
    texts = [text for text in [*TEXTS_OF_ALL, *ODD_TEXTS] if not set("\u200b\u00ad\x00") & {*text}]
    made = tokenizer.pieces_with_offsets(texts)
    assert [each.pieces for each in made] == tokenizer.pieces_batch(texts)
    encodings = tokenizer.pipeline.encode_batch(texts, add_special_tokens=False)
    for text, each, encoding in zip(texts, made, encodings, strict=True):
        if "▁" not in text:
            assert_the_librarys(text, each, encoding)


def walked(text, pieces):
    """Where pieces of sentencepiece stand in a text that it does not change, letter by letter."""
    place = 0
    for piece in pieces:
        while piece.startswith("▁") and text[place : place + 1].isspace():
            place += 1
        letters = piece.removeprefix("▁")
        assert text.startswith(letters, place)
        yield place, place + len(letters)
        place += len(letters)


def test_sentencepiece_against_a_slow_reading(vocabulary):
    tokenizer = load_sentencepiece(vocabulary / "sentencepiece.bpe.model")
    lines = made_lines(90)
    texts = [*lines, *(line.replace(" ", "\t\u3000 ") for line in lines), "  the\n\ncat ", "", "  "]
    made = tokenizer.pieces_with_offsets(texts)
    assert [each.pieces for each in made] == tokenizer.pieces_batch(texts)
    known = [n for n, each in enumerate(made) if "<unk>" not in each.pieces]
    assert len(known) > 60
    for n in known:
        assert made[n].offsets == list(walked(texts[n], made[n].pieces))


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_sentencepiece_against_its_translation(model_type, byte_fallback):
    """The tokenizers library finds the same characters where both normalize."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([*made_lines(), "½ ①"]),
        model_writer=model,
        vocab_size=420 if byte_fallback else 180,
        model_type=model_type,
        byte_fallback=byte_fallback,
        minloglevel=2,
    )
    tokenizer = SentencePieceTokenizer(model.getvalue(), "")
    library = Tokenizer.from_str(json.dumps(pipeline_content(tokenizer)))
    texts = ["cafe\u0301 the", "①ﬁ ½ Ａ", "½ca ﬁte\u0301", "漢cat a", "a 👩 the", "▁ the▁"]
    for text, made in zip(texts, tokenizer.pieces_with_offsets(texts), strict=True):
        encoding = library.encode(text, add_special_tokens=False)
        spans = exact_offsets(text, encoding.tokens, encoding.offsets)
        assert made.offsets == list(spans)


# What a library says of a text, its pieces, and where they stand.
CASES = {
    "the mark of a letter": ("e\u0301 a", ["e", "a"], [(0, 1), (3, 4)], [(0, 2), (3, 4)]),
    "a mark of its own": ("e\u0301", ["e", "\u0301"], [(0, 1), (1, 2)], [(0, 1), (1, 2)]),
    "marks at the end": ("ש\u05c1\u05b8", ["ש"], [(0, 1)], [(0, 3)]),
    "a space before": ("a  b", ["▁a", "▁b"], [(0, 1), (1, 4)], [(0, 1), (3, 4)]),
    "a space alone": ("a b", ["a", "▁", "b"], [(0, 1), (1, 2), (2, 3)], [(0, 1), (2, 2), (2, 3)]),
    "a prefix": ("漢", ["▁", "漢"], [(0, 0), (0, 1)], [(0, 0), (0, 1)]),
    "a prefix over a letter": ("漢", ["▁", "漢"], [(0, 1), (0, 1)], [(0, 0), (0, 1)]),
    "the sign of the prefix": ("▁a", ["▁", "a"], [(0, 1), (1, 2)], [(0, 1), (1, 2)]),
    "what nobody sees": ("\u200fa\u200d\x00 b", ["a", "b"], [(0, 4), (4, 6)], [(1, 2), (5, 6)]),
    "only what nobody sees": ("\u00ad\u200d", ["<unk>"], [(0, 2)], [(0, 2)]),
}


@pytest.mark.parametrize("case", CASES)
def test_spans_become_exact(case):
    text, pieces, spans, expected = CASES[case]
    assert list(exact_offsets(text, pieces, spans)) == expected


def test_a_copy_is_a_tokenizer_of_its_own():
    tokenizer = WordPieceTokenizer(ROWS)
    (before,) = tokenizer.pieces_with_offsets(["the cat"])
    copied = copy.deepcopy(tokenizer)
    for text in ("the cat", "a cat sees the mouse."):
        (laid_out,) = copied.pieces_with_offsets([text])
        assert laid_out.pieces == copied.pieces(text) == tokenizer.pieces(text)
        assert laid_out == tokenizer.pieces_with_offsets([text])[0]
    assert tokenizer.pieces_with_offsets(["the cat"]) == [before]
