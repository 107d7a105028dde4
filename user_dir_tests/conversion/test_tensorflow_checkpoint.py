"""Checkpoints that TensorFlow's own saver wrote, at the released sizes, against the computation."""

import shutil
from dataclasses import replace

import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main
from user_dir_tests.models.building import PAD, SPECIALS, random_tokens
from user_dir_tests.oracles.released_model import (
    RELEASED_SIZES,
    Sizes,
    discriminator_states,
    generator_states,
    masked_lm_logits,
    optimizer_shapes,
    random_variables,
    replaced_logits,
    variable_shapes,
)
from user_dir_tests.oracles.tensorflow_saver import Checkpoint, write_checkpoints
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.weights

VOCABULARY, POSITIONS = 30522, 512
LENGTHS = (9, 6)


def write_vocabulary(folder, rows=VOCABULARY):
    folder.mkdir(parents=True, exist_ok=True)
    words = [*SPECIALS, *(f"w{number}" for number in range(rows - len(SPECIALS)))]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    return folder / "vocab.txt"


def as_saved(variables):
    return {name: torch.from_numpy(values).float() for name, values in variables.items()}


def released(size, folder):
    """A checkpoint as pretraining leaves it: its variables in float64, and what we make of it."""
    shapes = variable_shapes(RELEASED_SIZES[size], VOCABULARY, POSITIONS)
    tensors = as_saved(random_variables(shapes, seed=1))
    # The slots of the largest would be a gigabyte that is not read.
    slots = {"global_step": ()} if size == "base" else optimizer_shapes(shapes)
    others = {name: torch.full(shape, 7.0) for name, shape in slots.items()}
    others["global_step"] = torch.tensor(1_000_000)
    prefix = folder / "released" / "model.ckpt-1000000"
    write_checkpoints([Checkpoint(prefix, {**tensors, **others})], folder)
    write_vocabulary(prefix.parent)
    command = ["convert", "--from", "tf", "--to", "fairseq", "--pads-visible"]
    assert main([*command, str(prefix), str(folder / "here")]) == 0
    for file in prefix.parent.glob("model.ckpt*.data*"):
        file.unlink()
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}, folder / "here"


@torch.no_grad()
@pytest.mark.parametrize("size", RELEASED_SIZES)
def test_equals_the_released_computation(size, tmp_path):
    variables, folder = released(size, tmp_path)
    assert_the_sizes_are_those_of_the_named_architecture(folder, size)
    convbert = ConvBertModel.from_pretrained(folder)
    assert 0 < convbert.detect_replaced(convbert.encode("w1 w2 w3")).max() < 1
    assert len(convbert.fill_mask("w1 [MASK] w3", topk=3)) == 3
    assert_equals_the_computation(convbert, variables, RELEASED_SIZES[size])


def assert_equals_the_computation(convbert, variables, sizes):
    """Hidden states, replaced-token logits and the generator's probabilities, in two precisions."""
    pads = torch.arange(LENGTHS[0]) >= torch.tensor(LENGTHS)[:, None]
    tokens = random_tokens(*pads.shape, vocabulary=len(convbert.vocabulary)).masked_fill(pads, PAD)
    segments = random_tokens(*pads.shape, seed=2) % 2
    arguments = (tokens.numpy(), segments.numpy(), variables, sizes, pads.numpy())
    states, of_generator = discriminator_states(*arguments), generator_states(*arguments)
    expected = [
        *states,
        replaced_logits(states[-1], variables),
        torch.from_numpy(masked_lm_logits(of_generator[-1], variables)).log_softmax(-1),
    ]
    for dtype, bound in ((torch.float32, "transformers"), (torch.float64, "block")):
        model = convbert.model.to(dtype)
        log_probs = model.masked_lm_log_probs(tokens, segments, torch.arange(tokens.numel()))
        results = [
            *convbert.extract_features(tokens, segments, return_all_hiddens=True),
            model.replaced_logits(tokens, segments),
            log_probs.unflatten(0, tokens.shape),
        ]
        errors = [relative_error(*pair) for pair in zip(results, expected, strict=True)]
        assert max(errors) <= TOLERANCES[dtype][bound], (dtype, errors)


def assert_the_sizes_are_those_of_the_named_architecture(folder, size):
    cfg = torch.load(folder / "model.pt", weights_only=True)["cfg"]
    assert cfg["model"]["_name"] == f"convbert_{size}"
    fraction = RELEASED_SIZES[size].generator_fraction
    assert cfg["task"]["generator_size"] == pytest.approx(fraction)


SMALL = {"vocabulary": 50, "positions": 20}
FEW_LAYERS = replace(RELEASED_SIZES["small"], layers=4)
QUERY = "electra/encoder/layer_0/attention/self/query/kernel"
# Three heads, of which the generator keeps one.
ELECTRA = Sizes(
    **{"embedding": 24, "hidden": 192, "heads": 3, "generator_fraction": 1 / 3},
    **{"layers": 2, "head_ratio": 1, "convolution": False},
)


def electra_of(**changes):
    """The variables of an ELECTRA, in the place of a ConvBERT's."""

    def change(tensors):
        tensors.clear()
        sizes = replace(ELECTRA, **changes)
        tensors.update(as_saved(random_variables(variable_shapes(sizes, **SMALL), seed=1)))

    return change


def without_generator(tensors):
    electra_of(embedding=128, hidden=256, heads=4, generator_fraction=1 / 4)(tensors)
    for name in list(tensors):
        if name.startswith("generator"):
            del tensors[name]


LAYER = "electra/encoder/layer_0"
# What ELECTRA, TensorFlow's optimizers, mixed precision, fine-tuning and averaging leave beside a
# model; each is of another kind or shape, or lies deeper.
OTHERS = {
    "global_step": torch.tensor(3),
    "generator_predictions/temperature": torch.ones(1),
    "loss_scale": torch.tensor(32768.0),
    "good_steps": torch.tensor(7, dtype=torch.int32),
    "beta1_power": torch.tensor(0.9),
    "task_specific/mrpc/dense/bias": torch.zeros(2),
    "task_specific/mrpc/dense/bias/adam_m": torch.zeros(2),
    "gradient_accumulation/electra/encoder/layer_0/output/dense/bias": torch.zeros(256),
    f"{LAYER}/output/dense/bias/adam_m": torch.zeros(256),
    f"{LAYER}/output/dense/bias/Adam_1": torch.zeros(256),
    f"{LAYER}/output/dense/kernel/Adam_1": torch.zeros(1024, 256),
    f"{LAYER}/output/dense/kernel/adafactor/vr": torch.zeros(256),
    "electra/embeddings/word_embeddings/ExponentialMovingAverage": torch.zeros(50, 128),
    "electra/embeddings/LayerNorm/beta/accum_grad": torch.zeros(128),
}
LEFT_OUT = (
    "left out, no part of the model: 1 x accum_grad, 1 x ExponentialMovingAverage, 2 x Adam_1, "
    "1 x adam_m, 1 x adafactor/vr, beta1_power, generator_predictions/temperature, global_step, "
    "good_steps, gradient_accumulation/electra/encoder/layer_0/output/dense/bias, loss_scale, "
    "task_specific/mrpc/dense/bias and 1 more"
)


def generator_of_its_own(tensors):
    """As ELECTRA has it with untied_generator_embeddings."""
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        tensors[f"generator/embeddings/{name}"] = tensors[f"electra/embeddings/{name}"] + 1


# Changes of a checkpoint of few rows, each with what has to be said of it.
VARIANTS = {
    "sound": (lambda tensors: None, None),
    "electra": (electra_of(), None),
    "electra alone": (without_generator, None),
    "odd electra": (electra_of(hidden=96, heads=1, generator_fraction=1 / 2), "width of 96"),
    "narrow electra": (electra_of(hidden=32, heads=1, generator_fraction=1 / 2), "width of 32"),
    "lacks a bias": (
        lambda tensors: tensors.pop("electra/encoder/layer_3/output/dense/bias"),
        "electra/encoder/layer_3/output/dense/bias is missing",
    ),
    "among others": (lambda tensors: tensors.update(OTHERS), None),
    "embeddings twice": (generator_of_its_own, None),
    "float64": (lambda tensors: tensors.update({QUERY: tensors[QUERY].double() / 3}), None),
    "a layer of another kind": (
        lambda tensors: tensors.update({f"{LAYER}/attention/self/gate/kernel": torch.zeros(9)}),
        "electra/encoder/layer_0/attention/self/gate/kernel is unknown",
    ),
    "not a number": (
        lambda tensors: tensors[QUERY].view(-1)[5:6].fill_(torch.nan),
        f"{QUERY} holds NaN, or",
    ),
    "beyond float32": (
        lambda tensors: tensors.update({QUERY: tensors[QUERY].double() * 1e300}),
        f"{QUERY} holds NaN, or numbers that are infinite in float32",
    ),
    "other shape": (
        lambda tensors: tensors.update({"discriminator_predictions/dense/bias": torch.zeros(255)}),
        "discriminator_predictions/dense/bias is (255,), not (256,)",
    ),
    "no tokens": (
        lambda tensors: tensors.pop("electra/embeddings/word_embeddings"),
        "electra/embeddings/word_embeddings",
    ),
    "flat query": (
        lambda tensors: tensors.update({QUERY: torch.zeros(256)}),
        "no ConvBERT or ELECTRA",
    ),
    "many layers": (
        lambda tensors: tensors.update(
            {f"electra/encoder/layer_{n}/output/dense/bias": torch.zeros(1) for n in range(4, 99)}
        ),
        "99 layers",
    ),
}


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """The prefix of each, beside its vocabulary, all saved by one process."""
    folder = tmp_path_factory.mktemp("variants")
    shapes = variable_shapes(FEW_LAYERS, **SMALL)
    checkpoints = {}
    for name, (change, _) in VARIANTS.items():
        tensors = as_saved(random_variables(shapes, seed=1))
        change(tensors)
        checkpoints[name] = Checkpoint(folder / name / "model.ckpt-1", tensors)
        write_vocabulary(folder / name, SMALL["vocabulary"])
    write_checkpoints(checkpoints.values(), folder)
    return {name: checkpoint.prefix for name, checkpoint in checkpoints.items()}


def test_to_transformers_and_by_the_folder(convert, variants, tmp_path):
    import transformers

    prefix = variants["sound"]
    here, _ = convert("tf", "fairseq", prefix, tmp_path / "here", "--pads-visible")
    there, lines = convert("tf", "hf", prefix.parent, tmp_path / "there")
    assert lines[1] == "the discriminator as ConvBertModel"
    model = transformers.AutoModel.from_pretrained(there).eval()
    convbert = ConvBertModel.from_pretrained(here)
    tokens = convbert.encode("w1 w2 w30", "w4")
    segments = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    with torch.no_grad():
        theirs = model(tokens[None], token_type_ids=segments[None]).last_hidden_state
    error = relative_error(convbert.extract_features(tokens), theirs)
    assert error <= TOLERANCES[torch.float32]["transformers"]


@torch.no_grad()
def test_an_electra(convert, variants, tmp_path):
    folder, lines = convert("tf", "fairseq", variants["electra"], tmp_path / "here")
    told = [line for line in lines if line.startswith("assuming 3 attention heads of 64")]
    assert len(told) == 1
    assert "a width of 192" in told[0]
    tensors = as_saved(random_variables(variable_shapes(ELECTRA, **SMALL), seed=1))
    variables = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    assert_equals_the_computation(ConvBertModel.from_pretrained(folder), variables, ELECTRA)


@pytest.mark.parametrize("name", ["odd electra", "narrow electra"])
def test_what_to_do_with_an_electra_of_unknown_heads(convert_fails, variants, tmp_path, name):
    line = convert_fails("tf", "hf", variants[name], tmp_path / "there")
    assert "attention heads" in line
    assert "--from hf" in line


def test_the_length_of_training_is_assumed(convert, variants, tmp_path):
    _, lines = convert("tf", "fairseq", variants["sound"], tmp_path / "here")
    assert any(line.startswith("assuming that all 20 positions were trained") for line in lines)


def test_what_is_no_part_of_the_model_is_left_out_and_told(convert, variants, tmp_path):
    alone, lines = convert("tf", "fairseq", variants["sound"], tmp_path / "alone")
    assert not any("left out" in line for line in lines)
    among_others, lines = convert("tf", "fairseq", variants["among others"], tmp_path / "others")
    assert [line for line in lines if "left out" in line] == [LEFT_OUT]
    assert_same_model(among_others, alone)


def assert_same_model(folder, other, without=()):
    given, result = (
        torch.load(f / "model.pt", weights_only=True)["model"] for f in (other, folder)
    )
    expected = {name: tensor for name, tensor in given.items() if not name.startswith(without)}
    assert result.keys() == expected.keys()
    assert all(torch.equal(result[name], tensor) for name, tensor in expected.items())


def test_a_generator_with_embeddings_of_its_own_is_left_out(convert, variants, tmp_path):
    """With the discriminator's it would guess other tokens than it was trained to."""
    alone, _ = convert("tf", "fairseq", variants["sound"], tmp_path / "alone")
    folder, lines = convert("tf", "fairseq", variants["embeddings twice"], tmp_path / "here")
    assert any(line.startswith("left out: the generator: it has embeddings of") for line in lines)
    assert_same_model(folder, alone, without=("generator.",))
    assert ConvBertModel.from_pretrained(folder).model.generator is None


def test_float64_is_kept_in_float32_and_told(convert, variants, tmp_path):
    folder, lines = convert("tf", "fairseq", variants["float64"], tmp_path / "here")
    told = "the float32 and float64 tensors of the source are kept in float32: rounded"
    assert lines[-2] == told, lines
    shapes = variable_shapes(FEW_LAYERS, **SMALL)
    expected = as_saved(random_variables(shapes, seed=1))[QUERY].double() / 3
    model = ConvBertModel.from_pretrained(folder).model
    assert torch.equal(model.encoder.layers[0].attention.query.weight, expected.t().float())


def test_an_electra_without_a_generator(convert, variants, tmp_path):
    folder, lines = convert("tf", "fairseq", variants["electra alone"], tmp_path / "here")
    assert any("--arch electra_small --encoder-layers 2" in line for line in lines), lines
    convbert = ConvBertModel.from_pretrained(folder)
    assert convbert.model.generator is None
    assert convbert.detect_replaced(convbert.encode("w1 w2")).shape == (1, 4)


@pytest.mark.parametrize("name", [name for name, (_, words) in VARIANTS.items() if words])
def test_variables_that_make_no_model(convert_fails, variants, tmp_path, name):
    line = convert_fails("tf", "fairseq", variants[name], tmp_path / "here")
    assert VARIANTS[name][1] in line
    assert str(variants[name]) in line


def test_a_vocabulary_of_another_length(convert_fails, variants, tmp_path):
    vocabulary = write_vocabulary(tmp_path / "other", rows=49)
    arguments = ("tf", "fairseq", variants["sound"], tmp_path / "here", "--tokenizer", vocabulary)
    line = convert_fails(*arguments)
    assert "50 rows in the model and 49 symbols" in line
    assert "--tokenizer" in line


def test_a_vocabulary_from_elsewhere(convert, convert_fails, variants, tmp_path):
    source = shutil.copytree(variants["sound"].parent, tmp_path / "source")
    vocabulary = (source / "vocab.txt").rename(tmp_path / "words.txt")
    assert "vocab" in convert_fails("tf", "fairseq", source, tmp_path / "here")
    folder, _ = convert("tf", "fairseq", source, tmp_path / "here", "--tokenizer", vocabulary)
    assert (folder / "vocab.txt").read_text() == vocabulary.read_text()
