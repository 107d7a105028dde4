"""Small tokenizers of the tokenizers library, as models of other languages come with."""

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from user_dir_tests.tokenization.toy_tokenizers import FAIRSEQ_ROLES, ROLES, TEXTS, made_lines

TURKISH = ["Işık İstanbul'da IĞDIR İyi günler ığdır şimdi", "I i İ ı I\u0307"]
VIETNAMESE = ["Tiếng Việt rất đẹp", "tie\u0302\u0301ng Vie\u0323\u0302t ĐẸP"]
JAPANESE = ["東京都の日本語 カタカナ ｶﾀｶﾅ ひらがな", "日本、東京。"]
TRAINING = [*made_lines(), *[*TURKISH, *VIETNAMESE, *JAPANESE] * 9]
TEXTS_OF_ALL = [*TEXTS, *TURKISH, *VIETNAMESE, *JAPANESE, *made_lines(60)]


def _wordpiece(normalizer, pre_tokenizer=None):
    pipeline = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pipeline.normalizer = normalizer
    pipeline.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = decoders.WordPiece()
    # The specials stand at odd rows, so that no id agrees by chance.
    trainer = trainers.WordPieceTrainer(
        vocab_size=330, special_tokens=["[MASK]", *list(ROLES.values())[:-1]], show_progress=False
    )
    pipeline.train_from_iterator(TRAINING, trainer)
    return pipeline, ROLES


def _turkish():
    replace, lower = normalizers.Replace, normalizers.Lowercase()
    steps = [replace("I", "ı"), replace("İ", "i"), lower, normalizers.NFC()]
    return _wordpiece(normalizers.Sequence(steps))


def _vietnamese():
    return _wordpiece(normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]))


def _japanese():
    return _wordpiece(normalizers.NFKC())


def _by_words():
    split = pre_tokenizers.Split(" ", "removed")
    return _wordpiece(normalizers.BertNormalizer(lowercase=False), split)


def _bytes_by(specials):
    pipeline = Tokenizer(models.BPE())
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pipeline.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pipeline.train_from_iterator(TRAINING, trainer)
    return pipeline, FAIRSEQ_ROLES


def _bytes():
    return _bytes_by(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])


def _bytes_in_another_order():
    return _bytes_by(["<unk>", "<mask>", "<s>", "<pad>", "</s>"])


def _unigram():
    pipeline = Tokenizer(models.Unigram())
    pipeline.normalizer = normalizers.NFKC()
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace()
    pipeline.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=260,
        special_tokens=["<pad>", "<unk>", "<s>", "</s>", "<mask>"],
        unk_token="<unk>",
        show_progress=False,
    )
    pipeline.train_from_iterator([*TRAINING, "a<b/s>[k]"], trainer)
    return pipeline, FAIRSEQ_ROLES


PIPELINES = {
    "turkish": _turkish,
    "vietnamese": _vietnamese,
    "japanese": _japanese,
    "by words": _by_words,
    "bytes": _bytes,
    "bytes in another order": _bytes_in_another_order,
    "unigram": _unigram,
}


def saved_pipeline(kind, folder):
    """A folder of ``PreTrainedTokenizerFast``; it truncates and pads by itself."""
    pipeline, roles = PIPELINES[kind]()
    first, last = roles["cls"], roles["sep"]
    pipeline.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(name, pipeline.token_to_id(name)) for name in (first, last)],
    )
    if kind.startswith("bytes"):
        offsets = processors.ByteLevel(trim_offsets=True)
        pipeline.post_processor = processors.Sequence([offsets, pipeline.post_processor])
    pipeline.enable_truncation(7)
    pipeline.enable_padding(length=9)
    names = {f"{role}_token": name for role, name in roles.items()}
    PreTrainedTokenizerFast(tokenizer_object=pipeline, **names).save_pretrained(folder)
    # transformers leaves both out.
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    saved.enable_truncation(7)
    saved.enable_padding(length=9)
    saved.save(str(folder / "tokenizer.json"))
    return folder
