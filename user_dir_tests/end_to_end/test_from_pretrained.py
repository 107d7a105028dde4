"""A trained checkpoint used from Python."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import convbert_plugin
from convbert_plugin import ConvBertModel

pytestmark = pytest.mark.pretraining

SENTENCE = "the small cat sees a mouse."
OTHER = "the grey dog called a cat!"
WITH_MASK = "the small [MASK] sees a mouse."
HIDDEN = 32
LAYERS = 2
WORDS = 35
# fp32, from products of differently padded shapes.
TOLERANCE = 2e-5


@pytest.fixture
def convbert(pretrained):
    return load(pretrained.folder)


def load(folder, name="checkpoint_last.pt"):
    return ConvBertModel.from_pretrained(str(folder), checkpoint_file=name)


def copy_of(run, folder, without=()):
    return shutil.copytree(run.folder, folder, ignore=lambda *_: without)


def test_text_goes_to_ids_and_back(convbert, corpus):
    rows = (corpus.text / "vocab.txt").read_text().split()
    tokens = convbert.encode("The small cat SEES a mouse.")
    pieces = ["[CLS]", *("the", "small", "cat", "see", "##s", "a", "mouse", "."), "[SEP]"]
    assert tokens.tolist() == [rows.index(piece) for piece in pieces]
    assert convbert.decode(tokens) == SENTENCE
    pair = convbert.encode(SENTENCE, OTHER)
    assert pair.tolist() == tokens.tolist() + convbert.encode(OTHER).tolist()[1:]
    assert convbert.decode(pair) == [SENTENCE, OTHER]


@pytest.mark.parametrize("special", ["[MASK]", "[SEP]", "[CLS]", "[PAD]"])
def test_a_special_token_that_is_written_in_a_text_is_text(convbert, corpus, special):
    rows = (corpus.text / "vocab.txt").read_text().split()
    [start, *ids, end] = convbert.encode(f"the small {special} sees a mouse.").tolist()
    assert [rows[start], rows[end]] == ["[CLS]", "[SEP]"]
    assert rows.index(special) not in ids
    unknown = rows.index("[UNK]")
    # The brackets and the word between them are no pieces of this vocabulary.
    assert ids[2:5] == [unknown] * 3


def test_a_batch_gives_the_features_of_each_sentence_alone(convbert):
    texts = [(SENTENCE,), (SENTENCE, OTHER), (OTHER,)]
    sentences = [convbert.encode(*text) for text in texts]
    batch = torch.nn.utils.rnn.pad_sequence(
        sentences, batch_first=True, padding_value=convbert.vocabulary.pad()
    )
    with torch.no_grad():
        states = convbert.extract_features(batch, return_all_hiddens=True)
        features = convbert.extract_features(batch)
    assert [tuple(state.shape) for state in states] == [(*batch.shape, HIDDEN)] * (LAYERS + 1)
    assert torch.equal(states[-1], features)
    for row, tokens in enumerate(sentences):
        alone = convbert.extract_features(tokens).detach()
        assert alone.shape == (1, len(tokens), HIDDEN)
        difference = (alone[0] - features[row, : len(tokens)]).abs().max()
        assert difference <= TOLERANCE * alone.std()


def test_segments_follow_from_the_separators(convbert):
    tokens = convbert.encode(SENTENCE, OTHER)
    first = len(convbert.encode(SENTENCE))
    segments = (torch.arange(len(tokens)) >= first).long()
    assert torch.equal(
        convbert.extract_features(tokens), convbert.extract_features(tokens, segments)
    )
    assert not torch.equal(
        convbert.extract_features(tokens),
        convbert.extract_features(tokens, torch.zeros_like(segments)),
    )


def test_detect_replaced_gives_a_probability_a_token(convbert):
    tokens = convbert.encode(SENTENCE)
    chances = convbert.detect_replaced(tokens)
    assert chances.shape == (1, len(tokens))
    logits = convbert.model.replaced_token_head(convbert.extract_features(tokens))
    assert torch.allclose(chances, torch.sigmoid(logits))
    assert 0 < chances.min() < chances.max() < 1


def test_fill_mask_names_the_likeliest_tokens(convbert):
    fillings = convbert.fill_mask(WITH_MASK, topk=WORDS)
    chances = [filling.probability for filling in fillings]
    assert chances == sorted(chances, reverse=True)
    assert math.fsum(chances) == pytest.approx(1, abs=1e-5)
    assert len({filling.token for filling in fillings}) == WORDS
    by_token = {filling.token: filling.text for filling in fillings}
    assert by_token["cat"] == SENTENCE
    assert len(convbert.fill_mask(WITH_MASK)) == 5


def test_a_fresh_python_needs_nothing_but_the_folder(pretrained):
    code = "import sys; from convbert_plugin import ConvBertModel as M; import torch\n"
    code += "print(M.from_pretrained(sys.argv[1], 'checkpoint_last.pt').encode('a cat').tolist())\n"
    # torch's compiler takes over a second to import.
    code += "print('torch._dynamo' in sys.modules)"
    path = str(Path(convbert_plugin.__file__).parents[1])
    command = [sys.executable, "-c", code, str(pretrained.folder)]
    done = subprocess.run(
        command, cwd=pretrained.folder, env={"PYTHONPATH": path}, capture_output=True, text=True
    )
    expected = load(pretrained.folder).encode("a cat").tolist()
    assert done.stdout.splitlines()[-2:] == [str(expected), "False"], done.stderr


@pytest.mark.parametrize("name", ["checkpoint_last.pt", "dict.txt", "vocab.txt"])
def test_a_missing_file_is_named(pretrained, tmp_path, name):
    with pytest.raises(ValueError, match=name):
        load(copy_of(pretrained, tmp_path / "copy", [name]))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_damaged_checkpoint_is_named(pretrained, tmp_path, size):
    path = copy_of(pretrained, tmp_path / "copy") / "checkpoint_last.pt"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"checkpoint_last\.pt"):
        load(path.parent)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemError('code of a checkpoint ran')",)


def test_a_checkpoint_runs_no_code(pretrained, tmp_path):
    path = copy_of(pretrained, tmp_path / "copy") / "checkpoint_last.pt"
    torch.save({**pretrained.checkpoint(), "evil": Evil()}, path)
    with pytest.raises(ValueError, match=r"checkpoint_last\.pt"):
        load(path.parent)


@pytest.mark.parametrize("other", ["other_order", "other_size"])
def test_the_dictionary_of_another_vocabulary(pretrained, tmp_path, other, request):
    folder = copy_of(pretrained, tmp_path / "copy")
    for name in ("dict.txt", "vocab.txt"):
        shutil.copy(request.getfixturevalue(other).data / name, folder)
    with pytest.raises(ValueError, match="vocabulary"):
        load(folder)


def test_a_sequence_longer_than_the_positions(convbert):
    tokens = convbert.encode(" ".join([SENTENCE] * 6))
    for use in (convbert.extract_features, convbert.detect_replaced):
        with pytest.raises(ValueError, match="40 positions"):
            use(tokens)
    with pytest.raises(ValueError, match="40 positions"):
        convbert.fill_mask(" ".join([SENTENCE] * 6) + " [MASK]")


@pytest.mark.parametrize("text", [SENTENCE, WITH_MASK + " " + WITH_MASK])
def test_not_exactly_one_mask(convbert, text):
    with pytest.raises(ValueError, match=r"\[MASK\] once"):
        convbert.fill_mask(text)


def test_what_was_not_trained_is_not_guessed(corpus, pretrained, fairseq_train, tmp_path):
    arguments = ("--objective", "masked_lm", "--max-update", "1")
    convbert = load(fairseq_train(corpus.data, tmp_path / "run", *arguments).folder)
    assert len(convbert.fill_mask(WITH_MASK)) == 5
    with pytest.raises(ValueError, match="replaced-token detection"):
        convbert.detect_replaced(convbert.encode(SENTENCE))


def test_a_bare_encoder_does_not_answer_for_heads_that_it_lacks(pretrained, tmp_path):
    folder = copy_of(pretrained, tmp_path / "encoder")
    state = pretrained.checkpoint()
    for name in list(state["model"]):
        if name.startswith(("generator.", "replaced_token_head.")):
            del state["model"][name]
    torch.save(state, folder / "checkpoint_last.pt")
    bare = load(folder)
    tokens = bare.encode(SENTENCE)
    assert bare.extract_features(tokens).shape == (1, len(tokens), HIDDEN)
    with pytest.raises(ValueError, match="not pretrained by replaced-token detection"):
        bare.detect_replaced(tokens)
    with pytest.raises(ValueError, match="neither a generator nor a masked-LM head"):
        bare.fill_mask(WITH_MASK)
