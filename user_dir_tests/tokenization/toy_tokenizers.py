"""Toy vocabularies and texts, and the ids that a tokenizer gives."""

import random

import transformers

from convbert_plugin.tokenization.tokenizer_writing import transformers_files
from convbert_plugin.tokenization.wordpiece import WordPieceSettings

# The specials stand at odd rows, so that no id agrees by chance.
TOY_VOCAB = (
    "the [PAD] cat [UNK] sat ##s [CLS] , [SEP] é [MASK] [ ] mask Cat café cafe 漢 字 ! ' ( ) ."
)
ROWS = [*TOY_VOCAB.split(), "x", "##x"]
ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
FAIRSEQ_ROLES = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}

SETTINGS = [
    WordPieceSettings(cased, accents, chinese)
    for cased, accents, chinese in [
        (False, None, True),
        (False, False, True),
        (True, None, False),
        (True, True, True),
    ]
]
TEXTS = [
    "The Cat sat, the cats (the CAFÉ) sat!",
    "café cafe\u0301 É e\u0301",
    "漢字cat漢 字",
    "the\xa0cat\tsat\u3000cat\x85cat\u2028 cat \r\n sat",
    "\x00c\x07at\x7f the\u200b\ufeff sat \xad\u200d.",
    "cat 😀👩\u200d👩\u200d👧🇩🇪 the",
    "x" * 150,
    "x" * 201 + " the",
    "",
    "  ",
    "▁the ▁ cat▁",
    "①ﬁ Ａ ½ the №3",
    "1000000 the --- ..... -----",
]


def save(tokenizer, folder, model_config=False, **arguments):
    folder.mkdir(parents=True)
    for name, content in transformers_files(tokenizer, **arguments).items():
        (folder / name).write_bytes(content)
    if model_config:
        transformers.ConvBertConfig(vocab_size=len(tokenizer.symbols)).save_pretrained(folder)
    return folder


def encoder(tokenizer):
    """What the hub's ``encode`` gives between the separators: a literal mask is one."""
    index = {symbol: number for number, symbol in enumerate(tokenizer.symbols)}

    def encode(text):
        parts = [[index[p] for p in tokenizer.pieces(part)] for part in text.split(tokenizer.mask)]
        return [number for part in parts for number in (index[tokenizer.mask], *part)][1:]

    return encode


def assert_same_ids(tokenizer, theirs, texts):
    encode = encoder(tokenizer)
    assert theirs(texts, add_special_tokens=False)["input_ids"] == [encode(text) for text in texts]


def write_vocab(folder, rows=ROWS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return folder / "vocab.txt"


def saved_by_transformers(folder, name="BertTokenizer", rows=ROWS, **arguments):
    vocab = write_vocab(folder / "given", rows)
    tokenizer = getattr(transformers, name)(vocab=str(vocab), **arguments)
    tokenizer.save_pretrained(folder / "saved")
    assert sorted(path.name for path in (folder / "saved").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    return folder / "saved"


def made_lines(count=400):
    rng = random.Random(3)
    syllables = ["ca", "té", "lo", "mi", "ra", "sun", "ing", "pré", "é", "dor", "ba", "tu"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(150)]
    words += ["the", "cat", "cats", "sat", "(the", "mat)", "--", "...", "1000", "2024", "X-ray"]
    words += ["the cat sat on the mat"] * 9
    return [
        " ".join(rng.choices(words, k=9)).capitalize() + rng.choice(".!?") for _ in range(count)
    ]
