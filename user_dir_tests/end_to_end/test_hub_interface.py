"""The hub interface on batches, and its heads; the rest is in test_from_pretrained.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import convbert_plugin
from convbert_plugin import ConvBertModel
from convbert_plugin.modules.heads import CLASSIFICATION_HEADS
from user_dir_tests.end_to_end.conftest import VOCABULARY
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.weights

TEXTS = [("the small cat sees a mouse.", "the dog called."), ("a bird!",), ("the old dog.", "a")]
HIDDEN, LAYERS, HEADS, TAPS = 32, 2, 2, 3


@pytest.fixture
def convbert(pretrained):
    return ConvBertModel.from_pretrained(pretrained.folder)


@pytest.fixture
def texts(convbert):
    """Token ids of texts of unequal lengths, and the batch of them."""
    ids = [convbert.encode(*text) for text in TEXTS]
    assert len({len(tokens) for tokens in ids}) == len(ids)
    pad = convbert.vocabulary.pad()
    return ids, torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_a_batch_gives_what_each_text_gives(convbert, texts, dtype):
    """In fp32 to 2e-5, in float64 to 1e-12, of outputs with a deviation of about 1."""
    convbert.to(dtype)
    convbert.register_classification_head("topic", num_classes=3)
    bound = TOLERANCES[dtype]["padding"]
    ids, batch = texts
    states = convbert.extract_features(batch, return_all_hiddens=True)
    chances, topics = convbert.detect_replaced(batch), convbert.predict("topic", batch)
    maps = convbert.extract_attention(batch)
    assert states[-1].dtype == topics.dtype == dtype
    for row, tokens in enumerate(ids):
        real = slice(0, len(tokens))
        for level, alone in enumerate(convbert.extract_features(tokens, return_all_hiddens=True)):
            assert (states[level][row, real] - alone[0]).abs().max() <= bound
        assert (chances[row, real] - convbert.detect_replaced(tokens)[0]).abs().max() <= bound
        assert (topics[row] - convbert.predict("topic", tokens)[0]).abs().max() <= bound
        of_text = convbert.extract_attention(tokens)
        attention = maps.attention[:, row, :, real, real]
        assert (attention - of_text.attention[:, 0]).abs().max() <= bound
        assert (maps.kernels[:, row, :, real] - of_text.kernels[:, 0]).abs().max() <= bound
    assert not chances[batch.eq(convbert.vocabulary.pad())].any()


def test_attention_and_kernels_are_distributions(convbert, texts):
    _, batch = texts
    maps = convbert.extract_attention(batch)
    rows, length = batch.shape
    assert maps.attention.shape == (LAYERS, rows, HEADS, length, length)
    assert maps.kernels.shape == (LAYERS, rows, HEADS, length, TAPS)
    for distribution in maps:
        assert (distribution.sum(-1) - 1).abs().max() <= 1e-5
    pads = batch.eq(convbert.vocabulary.pad())
    assert not maps.attention.movedim(-1, 2)[:, pads.nonzero()[:, 0], pads.nonzero()[:, 1]].any()


def test_attention_is_what_the_layers_weigh_with(convbert):
    """Layer by layer: the maps times the values, through the output, are the layer's attention."""
    tokens = convbert.encode(*TEXTS[0])
    maps = convbert.extract_attention(tokens)
    states = convbert.extract_features(tokens, return_all_hiddens=True)
    for number, layer in enumerate(convbert.model.encoder.layers):
        mixed, hidden = layer.attention, states[number]
        value = mixed.value(hidden).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        attended = (maps.attention[number] @ value).transpose(1, 2).flatten(2)
        padded = torch.nn.functional.pad(mixed.conv_value(hidden), (0, 0, TAPS // 2, TAPS // 2))
        windows = padded.unfold(1, TAPS, 1).unflatten(2, (HEADS, -1))
        kernels = maps.kernels[number].transpose(1, 2).unsqueeze(3)
        convolved = (windows * kernels).sum(-1).flatten(2)
        expected = mixed(hidden, None)
        result = mixed.output(torch.cat([attended, convolved], dim=-1))
        assert relative_error(result, expected) <= TOLERANCES[torch.float32]["operation"]


def test_a_model_without_convolution_has_no_kernels(corpus, fairseq_train, tmp_path):
    arguments = ("--arch", "electra_small", "--max-update", "1")
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    electra = ConvBertModel.from_pretrained(run.folder)
    maps = electra.extract_attention(electra.encode("a bird!"))
    assert maps.kernels is None
    assert maps.attention.shape[2] == 4


@pytest.mark.parametrize("kind", CLASSIFICATION_HEADS)
def test_heads_classify_and_score(convbert, texts, kind):
    _, batch = texts
    convbert.register_classification_head("topic", num_classes=5, kind=kind)
    convbert.register_classification_head("score", num_classes=1, kind=kind)
    head = convbert.model.classification_heads["topic"]
    features = convbert.extract_features(batch)
    logits = convbert.predict("topic", batch, return_logits=True)
    assert torch.equal(logits, head(features))
    assert torch.allclose(convbert.predict("topic", batch), logits.log_softmax(1))
    scores = convbert.predict("score", batch)
    assert scores.shape == (len(batch), 1)
    assert torch.equal(scores, convbert.model.classification_heads["score"](features))


def test_the_released_head_is_one_linear_layer(convbert, texts):
    """classification_tasks.py:267-290: no dense layer, no activation; what [CLS] has, alone."""
    _, batch = texts
    convbert.register_classification_head("topic", num_classes=5)
    layer = convbert.model.classification_heads["topic"].output
    first = convbert.extract_features(batch)[:, 0]
    expected = first @ layer.weight.T + layer.bias
    assert torch.allclose(convbert.predict("topic", batch, return_logits=True), expected, atol=1e-6)
    assert [name for name, _ in convbert.model.named_parameters() if "topic" in name] == [
        "classification_heads.topic.output.weight",
        "classification_heads.topic.output.bias",
    ]


def test_a_head_can_be_trained(convbert, texts):
    """As a user would: a fresh head, gradients through features, the loss falls."""
    _, batch = texts
    torch.manual_seed(1)
    convbert.register_classification_head("topic", num_classes=3)
    targets = torch.tensor([2, 0, 1])
    optimizer = torch.optim.Adam(convbert.parameters(), lr=1e-2)
    convbert.train()
    losses = []
    for _ in range(20):
        logits = convbert.model.head_logits("classification_heads.topic", batch)
        loss = torch.nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    assert convbert.eval().predict("topic", batch).argmax(1).tolist() == targets.tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("topic", 0), "0 classes: .* from 1 to 1,048,576"),
        (("topic", 2.0), "2.0 classes"),
        (("topic", "two"), "'two' classes"),
        (("topic", [2]), r"\[2\] classes"),
        (("topic", True), "True classes: .* from 1 to 1,048,576"),
        (("topic", 10**15), "10{15} classes: .* from 1 to 1,048,576"),
        (("topic", 10**30), "10{30} classes: .* from 1 to 1,048,576"),
        ((3, 2), "called 3"),
        (("to\npic", 2), r"called 'to\\npic'"),
        (("t" * 101, 2), "at most 100 letters"),
        (("topic", 2, ["deep"]), "released, transformers"),
        (("a.b", 2), "'a.b'"),
        (("", 2), "''"),
        (("keys", 2), "'keys'"),
        (("training", 2), "'training'"),
        (("topic", 2, "deep"), "released, transformers"),
    ],
)
def test_heads_that_cannot_be(convbert, arguments, words):
    with pytest.raises(ValueError, match=words) as raised:
        convbert.register_classification_head(*arguments)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


def test_a_head_that_is_there_or_not(convbert):
    with pytest.raises(ValueError, match="no classification head 'topic'"):
        convbert.predict("topic", convbert.encode("a bird!"))
    convbert.register_classification_head("topic", 2)
    with pytest.raises(ValueError, match="topic already"):
        convbert.register_classification_head("topic", 2)


def test_folders_that_are_none_of_ours(pretrained, tmp_path):
    run = pretrained.folder / "checkpoint_last.pt"
    told = f"^{run}: a file: name its folder {run.parent}, and {run.name} as checkpoint_file$"
    with pytest.raises(ValueError, match=told):
        ConvBertModel.from_pretrained(run)
    assert ConvBertModel.from_pretrained(run.parent, run.name)
    (tmp_path / "config.json").write_text("{}")
    advice = f"`convbert convert --from hf --to fairseq {tmp_path} NEW_FOLDER`"
    with pytest.raises(ValueError, match=f"a folder of transformers: bring it in by {advice}$"):
        ConvBertModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("tokens", "segments", "words"),
    [
        (torch.tensor([], dtype=torch.long), None, "^tokens: .* with at least one$"),
        (torch.zeros(2, 0, dtype=torch.long), None, "^tokens: .* with at least one$"),
        (torch.tensor(3), None, r"^tokens: give a tensor of ids, \[T\] or \[B, T\]"),
        ([3, 4], None, "^tokens: give a tensor"),
        (torch.tensor([3.0]), None, r"^tokens: give whole numbers .* not torch\.float32$"),
        (torch.tensor([3, 35]), None, "^tokens: 35 among them, .* ids 0 to 34$"),
        (torch.tensor([[3], [-1]]), None, "^tokens: -1 among them"),
        (torch.tensor([3, 4]), torch.tensor([0, 2]), "^segments: 2 among them, .* ids 0 to 1$"),
        (torch.tensor([3, 4]), torch.tensor([False, True]), "^segments: .* not torch.bool$"),
    ],
)
def test_ids_that_are_none(convbert, tokens, segments, words):
    assert convbert.extract_features(torch.tensor([0, 34]), torch.tensor([0, 1])).isfinite().all()
    for use in (convbert.extract_features, convbert.extract_attention):
        with pytest.raises(ValueError, match=words):
            use(tokens, segments)


@pytest.mark.parametrize("tokens", [torch.tensor([[3, 4]]), torch.tensor(3), [3, 4]])
def test_what_is_no_text_is_not_decoded(convbert, tokens):
    with pytest.raises(ValueError, match=r"^decode: give the ids \[T\] of one text"):
        convbert.decode(tokens)


@pytest.mark.parametrize("topk", [0, -1, 10**6, 36, 2.5, True, "many"])
def test_no_more_tokens_than_there_are(convbert, topk):
    assert len(convbert.fill_mask("the [MASK] sees.", topk=35)) == len(VOCABULARY) == 35
    with pytest.raises(ValueError, match=r"^topk .* from 1 to 35$"):
        convbert.fill_mask("the [MASK] sees.", topk=topk)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem_type", "expected"),
    [
        ("multi_label_classification", functional.logsigmoid),
        ("regression", torch.clone),
        ("single_label_classification", lambda logits: functional.log_softmax(logits, dim=1)),
        (None, lambda logits: functional.log_softmax(logits, dim=1)),
        ("another", lambda logits: functional.log_softmax(logits, dim=1)),
        (["regression"], lambda logits: functional.log_softmax(logits, dim=1)),
    ],
)
def test_a_head_predicts_what_transformers_says_of_it(
    convbert, texts, pretrained, problem_type, expected
):
    """As a conversion leaves it: the config.json in the checkpoint, the head of its kind."""
    _, batch = texts
    convbert.register_classification_head("theirs", 3, kind="transformers")
    convbert.register_classification_head("own", 3)
    state = pretrained.checkpoint()
    state["model"] = convbert.model.state_dict()
    state["extra_state"]["transformers_config"] = {"problem_type": problem_type}
    torch.save(state, pretrained.folder / "model.pt")
    loaded = ConvBertModel.from_pretrained(pretrained.folder)
    logits = {name: loaded.predict(name, batch, return_logits=True) for name in ("theirs", "own")}
    assert torch.equal(loaded.predict("theirs", batch), expected(logits["theirs"]))
    assert torch.equal(loaded.predict("own", batch), logits["own"].log_softmax(1))


def test_torch_hub_finds_the_package_in_the_checkout(pretrained, tmp_path):
    """Where nothing is installed: what would find the package is taken away before."""
    code = (
        "import importlib.util, json, sys\n"
        "checkout, folder = sys.argv[1:]\n"
        "sys.path = [path for path in sys.path if path not in ('', checkout)]\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "assert importlib.util.find_spec('convbert_plugin') is None\n"
        "import torch\n"
        "loaded = torch.hub.load(checkout, 'convbert', folder, source='local')\n"
        "tokens = loaded.encode('a cat')\n"
        "total = loaded.extract_features(tokens).sum().item()\n"
        "told = [tokens.tolist(), len(loaded.fill_mask('a [MASK]')), loaded.predict.__module__]\n"
        "print(json.dumps([*told, total]))"
    )
    checkout = str(Path(convbert_plugin.__file__).parents[1])
    command = [sys.executable, "-c", code, checkout, str(pretrained.folder)]
    path = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    tokens, filled, module, total = json.loads(done.stdout.splitlines()[-1])
    rows = (pretrained.folder / "vocab.txt").read_text().split()
    assert tokens == [rows.index(piece) for piece in ("[CLS]", "a", "cat", "[SEP]")]
    assert (filled, module) == (5, "convbert_plugin.models.hub_interface")
    features = ConvBertModel.from_pretrained(pretrained.folder).extract_features(
        torch.tensor(tokens)
    )
    assert total == pytest.approx(features.sum().item(), abs=1e-4)


def test_segments_may_be_given(convbert):
    tokens = convbert.encode(*TEXTS[0])
    separator = convbert.vocabulary.eos()
    first = tokens.tolist().index(separator) + 1
    segments = (torch.arange(len(tokens)) >= first).long()
    convbert.register_classification_head("topic", 2)
    for use in (
        convbert.extract_features,
        lambda *given: convbert.predict("topic", *given),
        lambda *given: convbert.extract_attention(*given).kernels,
    ):
        assert torch.equal(use(tokens), use(tokens, segments))
        assert not torch.equal(use(tokens), use(tokens, torch.zeros_like(segments)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(convbert, texts, dtype):
    _, batch = texts
    expected = convbert.extract_features(batch)
    convbert.to(dtype)
    features = convbert.extract_features(batch)
    assert features.dtype == dtype
    assert relative_error(features, expected) <= TOLERANCES[torch.bfloat16]["model"]
    assert convbert.detect_replaced(batch).isfinite().all()
    assert len(convbert.fill_mask("the [MASK] sees.")) == 5


def test_the_checkpoint_that_is_taken_without_a_name(pretrained, tmp_path):
    """model.pt, else the best of a run, else its last."""
    folder = pretrained.folder
    (folder / "checkpoint_best.pt").unlink()
    assert ConvBertModel.from_pretrained(folder)
    (folder / "checkpoint_best.pt").write_text("not this one")
    with pytest.raises(ValueError, match=r"checkpoint_best\.pt"):
        ConvBertModel.from_pretrained(folder)
    (folder / "model.pt").write_bytes((folder / "checkpoint_last.pt").read_bytes())
    assert ConvBertModel.from_pretrained(folder)
