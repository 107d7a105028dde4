"""A tokenizer.json of any kind gives the ids of transformers, through every door."""

import copy
import json
import pickle

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from convbert_plugin.cli import main as convbert
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.errors import UserError
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.tokenization.tokenizer_writing import transformers_files
from user_dir_tests.tokenization.toy_pipelines import PIPELINES, TEXTS_OF_ALL, saved_pipeline
from user_dir_tests.tokenization.toy_tokenizers import FAIRSEQ_ROLES, ROLES

pytestmark = pytest.mark.weights

ROLES_OF_OURS = {"pad": "pad", "unk": "unk", "bos": "cls", "eos": "sep", "mask": "mask"}


@pytest.fixture(scope="module", params=PIPELINES)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return saved_pipeline(kind, tmp_path_factory.mktemp("pipeline"))


def ids_of(tokenizer, texts):
    index = {symbol: number for number, symbol in enumerate(tokenizer.symbols)}
    return [[index[piece] for piece in pieces] for pieces in tokenizer.pieces_batch(texts)]


def plain(pipeline: Tokenizer) -> Tokenizer:
    pipeline.no_truncation()
    pipeline.no_padding()
    return pipeline


def test_the_ids_are_those_of_transformers(folder):
    tokenizer = load_tokenizer(folder)
    ids = ids_of(tokenizer, TEXTS_OF_ALL)
    assert len({len(row) for row in ids}) > 9
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    assert ids == theirs(TEXTS_OF_ALL, add_special_tokens=False)["input_ids"]
    library = plain(Tokenizer.from_file(str(folder / "tokenizer.json")))
    encodings = library.encode_batch(TEXTS_OF_ALL, add_special_tokens=False)
    assert ids == [encoding.ids for encoding in encodings]
    assert tokenizer.symbols == [library.id_to_token(n) for n in range(library.get_vocab_size())]


def test_the_ids_on_real_text(folder, real_data):
    lines = (real_data / "corpus" / "wiki.valid.txt").read_text(encoding="utf-8").split("\n")
    sentences = (real_data / "glue" / "CoLA" / "dev.tsv").read_text(encoding="utf-8").split("\n")
    texts = [*lines[::20], *sentences[::3]]
    theirs = AutoTokenizer.from_pretrained(folder)
    ids = theirs(texts, add_special_tokens=False)["input_ids"]
    assert ids_of(load_tokenizer(folder), texts) == ids


def test_special_tokens_of_a_text_are_text(folder, kind):
    tokenizer = load_tokenizer(folder)
    names = [*ROLES.values(), *FAIRSEQ_ROLES.values()]
    texts = [*names, "".join(names), *(f"the cat {name}the{name} cat" for name in names)]
    never = set(tokenizer.specials.values()) - {tokenizer.unknown}
    for again in (tokenizer, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert never.isdisjoint(piece for text in texts for piece in again.pieces(text))
        assert again.pieces_batch(texts) == tokenizer.pieces_batch(texts)
    if kind == "unigram":
        # The library would find the whole name among its pieces.
        assert tokenizer.pieces("the </s>")[-4:] == ["<", "/", "s", ">"]
    elif kind != "by words":
        split = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
        assert ids_of(tokenizer, texts) == split(texts, add_special_tokens=False)["input_ids"]


def test_added_tokens_keep_their_meaning(folder, tmp_path):
    theirs = AutoTokenizer.from_pretrained(folder)
    theirs.add_tokens(["[ENTITY]", "sunny"])
    theirs.add_special_tokens({"additional_special_tokens": ["[START]"]})
    theirs.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    texts = ["the [ENTITY] is sunny,sunnyside[ENTITY]", "sunny", "the [START] cat[START]"]
    assert tokenizer.symbols[-3:] == ["[ENTITY]", "sunny", "[START]"]
    assert ids_of(tokenizer, texts) == theirs(texts, add_special_tokens=False)["input_ids"]
    for name in tokenizer.specials.values():
        assert tokenizer.pieces(f"the {name}") == load_tokenizer(folder).pieces(f"the {name}")


def test_its_bytes_travel(folder, tmp_path):
    tokenizer = load_tokenizer(folder)
    given = (folder / "tokenizer.json").read_bytes()
    tokenizer.save(tmp_path / "ours")
    tokenizer.save(tmp_path / "ours")
    vocabulary = Vocabulary.load(tmp_path / "ours" / "dict.txt")
    vocabulary.save(str(tmp_path / "data" / "dict.txt"))
    vocabulary.save(str(tmp_path / "data" / "dict.txt"))
    for name in ("ours", "data"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "dict.txt",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        again = load_tokenizer(tmp_path / name)
        assert (tmp_path / name / "tokenizer.json").read_bytes() == given
        assert again.identity() == tokenizer.identity()
        assert again.pieces_batch(TEXTS_OF_ALL) == tokenizer.pieces_batch(TEXTS_OF_ALL)
    assert vocabulary.fingerprint() == tokenizer.fingerprint()
    theirs = AutoTokenizer.from_pretrained(folder)
    for role, name in ROLES_OF_OURS.items():
        assert getattr(vocabulary, role)() == getattr(theirs, f"{name}_token_id")
    assert vocabulary.symbols == tokenizer.symbols
    other = tmp_path / "other"
    saved_pipeline("turkish" if "<s>" in tokenizer.symbols else "bytes", other)
    with pytest.raises(UserError, match="belongs to another tokenizer"):
        tokenizer.save(other)
    with pytest.raises(UserError, match=r"tokenizer.json: belongs to another tokenizer"):
        vocabulary.save(str(other / "dict.txt"))


def test_it_goes_out_as_it_came_in(folder, tmp_path):
    load_tokenizer(folder).save(tmp_path / "ours")
    files = transformers_files(load_tokenizer(tmp_path / "ours"), 20)
    assert files["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    for name, content in files.items():
        (out / name).write_bytes(content)
    before, after = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(out)
    mask = before.mask_token
    texts = [*TEXTS_OF_ALL, f"the {mask} sat{mask}."]
    assert after(texts)["input_ids"] == before(texts)["input_ids"]
    assert after("a", "b")["input_ids"] == before("a", "b")["input_ids"]
    assert after.model_max_length == 20
    assert after.all_special_tokens == before.all_special_tokens


def test_readable_text_again(folder, kind):
    tokenizer = load_tokenizer(folder)
    text = "the cat sat"
    assert tokenizer.detokenize(tokenizer.pieces(text)) == text
    with_mask = [*tokenizer.pieces("the cat"), tokenizer.mask]
    assert tokenizer.detokenize(with_mask).replace(" ", "") == f"thecat{tokenizer.mask}"


def test_encode_and_preprocess(folder, tmp_path):
    from fairseq.binarizer import FileBinarizer, VocabularyDatasetBinarizer
    from fairseq.data import data_utils

    lines = [line for line in TEXTS_OF_ALL if not set(line) & set("\n\r\x85\u2028")]
    texts = [line for line in lines if line.strip()]
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    out = tmp_path / "out" / "in.pieces"
    command = ["encode", "--tokenizer", str(folder), "--workers", "1"]
    assert convbert([*command, str(tmp_path / "in.txt"), str(out)]) == 0
    vocabulary = Vocabulary.load(out.with_name("dict.txt"))
    FileBinarizer.multiprocess_dataset(
        str(out),
        "mmap",
        VocabularyDatasetBinarizer(vocabulary),
        str(tmp_path / "train"),
        vocab_size=len(vocabulary),
    )
    data = data_utils.load_indexed_dataset(str(tmp_path / "train"), vocabulary)
    theirs = AutoTokenizer.from_pretrained(folder)
    ids = theirs(texts, add_special_tokens=False)["input_ids"]
    assert [item.tolist() for item in data] == [[*row, theirs.sep_token_id] for row in ids if row]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["turkish", "bytes in another order"])
def test_conversion_hub_and_prepared_task(kind, tmp_path):
    from fairseq.data import data_utils
    from transformers import ConvBertConfig
    from transformers import ConvBertModel as TheirModel

    from convbert_plugin import ConvBertModel

    source, ours, back = (tmp_path / name for name in ("source", "ours", "back"))
    theirs = AutoTokenizer.from_pretrained(saved_pipeline(kind, source))
    TheirModel(
        ConvBertConfig(
            vocab_size=len(theirs), hidden_size=16, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=20, embedding_size=8, max_position_embeddings=90, conv_kernel_size=3,
        )
    ).save_pretrained(source)  # fmt: skip
    assert convbert(["convert", "--from", "hf", "--to", "fairseq", str(source), str(ours)]) == 0
    assert convbert(["convert", "--from", "fairseq", "--to", "hf", str(ours), str(back)]) == 0
    assert (back / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    config = json.loads((back / "config.json").read_text())
    assert config["pad_token_id"] == theirs.pad_token_id
    hub = ConvBertModel.from_pretrained(ours)
    texts = ["IŞIK İstanbul'da the cat", "sat, the café"]
    assert hub.encode(*texts).tolist() == theirs(*texts)["input_ids"]
    assert len(hub.extract_features(hub.encode(texts[0]))[0]) == len(theirs(texts[0])["input_ids"])

    rows = "".join(f"{text}\t{label}\n" for text, label in zip(texts, "ab", strict=True))
    (tmp_path / "task").mkdir()
    for name in ("train", "dev"):
        (tmp_path / "task" / f"{name}.tsv").write_text(f"text\tlabel\n{rows}", encoding="utf-8")
    command = ["prepare-glue", "--glue-task", "own", "--tokenizer", str(ours)]
    command += [str(tmp_path / "task"), str(tmp_path / "data"), "--text", "text", "--labels", "a,b"]
    assert convbert(command) == 0
    folder = tmp_path / "data" / "input0"
    assert (folder / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    vocabulary = Vocabulary.load(folder / "dict.txt")
    data = data_utils.load_indexed_dataset(str(folder / "train"), vocabulary)
    ids = theirs(texts, add_special_tokens=False)["input_ids"]
    assert [[n for n in item.tolist() if n not in vocabulary.special_ids()] for item in data] == ids


REFUSED = {
    "doubled separators": (
        "post_processor",
        lambda content: {
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
        r"post_processor does not give <s> A </s> and, of pairs, <s> A </s> B </s>",
    ),
    "offsets alone": (
        "post_processor",
        lambda content: {
            "type": "Sequence",
            "processors": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}],
        },
        "post_processor does not give <s> A </s>",
    ),
    "no unknown piece": (
        "model",
        lambda content: {
            **content["model"],
            "vocab": {
                ("<x>" if piece == "<unk>" else piece): row
                for piece, row in content["model"]["vocab"].items()
            },
        },
        "tokenizer.json: no row <unk>: a vocabulary like this needs <s> <pad> </s> <unk> <mask>",
    ),
    "both sets": (
        "model",
        lambda content: {
            **content["model"],
            "vocab": {**content["model"]["vocab"], "[SEP]": len(content["model"]["vocab"])},
        },
        r"no row \[PAD\], \[UNK\], \[CLS\], \[MASK\]: a vocabulary like this needs",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_cannot_be_given_is_one_line(tmp_path, change):
    path = saved_pipeline("bytes", tmp_path) / "tokenizer.json"
    part, make, message = REFUSED[change]
    content = json.loads(path.read_text(encoding="utf-8"))
    changed = {**content, part: make(content)}
    if change == "no unknown piece":
        # The library would add it again.
        added = [token for token in content["added_tokens"] if token["content"] != "<unk>"]
        changed["added_tokens"] = added
    path.write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        load_tokenizer(tmp_path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flags", [{"cased": True}, {"strip_accents": False}])
def test_flags_for_rules_that_are_not_berts(tmp_path, flags):
    saved_pipeline("turkish", tmp_path)
    with pytest.raises(UserError, match="its own rules for case and accents: drop --cased"):
        load_tokenizer(tmp_path, **flags)


def test_a_dictionary_beside_it_has_to_fit(tmp_path):
    saved_pipeline("bytes in another order", tmp_path / "given")
    tokenizer = load_tokenizer(tmp_path / "given")
    tokenizer.save(tmp_path / "ours")
    dictionary = tmp_path / "ours" / "dict.txt"
    rows = dictionary.read_text(encoding="utf-8").split("\n")
    assert rows[:5] == ["<unk> 1", "<mask> 1", "<s> 1", "<pad> 1", "</s> 1"]
    dictionary.write_text("\n".join([*rows[:5], rows[6], rows[5], *rows[7:]]), encoding="utf-8")
    with pytest.raises(UserError, match=r"dict.txt and .*tokenizer.json disagree \(id 5 is"):
        load_tokenizer(tmp_path / "ours")
    with pytest.raises(UserError, match="belongs to another tokenizer"):
        tokenizer.save(tmp_path / "ours")
