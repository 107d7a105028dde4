"""Models and vocabularies of any size."""

import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from convbert_plugin.data.collation import PRETRAINING
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNKNOWN, START, SEPARATOR, MASK = range(len(SPECIALS))
RELEASED_VOCABULARY = 30522
# Odd and unequal, so that a swapped dimension fails.
TOY = {
    "encoder_layers": 2,
    "encoder_embed_dim": 42,
    "encoder_ffn_embed_dim": 54,
    "encoder_attention_heads": 7,
    "embedding_dim": 10,
    "conv_kernel_size": 5,
    "ffn_groups": 2,
    "max_positions": 37,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
TOY_VOCABULARY = 53
# Of seven heads it leaves two, of a hidden size of 42 it leaves 14.
TOY_GENERATOR_SIZE = 1 / 3


@lru_cache
def vocabulary_of(size: int) -> Vocabulary:
    """A WordPiece vocabulary: the special tokens first, then words."""
    pieces = SPECIALS + [f"w{number}" for number in range(size - len(SPECIALS))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(pieces) + "\n")
        return Vocabulary.load(path)


def model_of(architecture: str, vocabulary: int = RELEASED_VOCABULARY, **changes) -> ConvBertModel:
    cfg = ConvBertConfig(_name=architecture, **{**ARCHITECTURES[architecture], **changes})
    return ConvBertModel(cfg, vocabulary_of(vocabulary))


def toy_model(generator: bool = False, seed: int = 1, **changes) -> ConvBertModel:
    torch.manual_seed(seed)
    model = model_of("convbert_small", TOY_VOCABULARY, **{**TOY, **changes})
    if generator:
        model.add_generator(TOY_GENERATOR_SIZE)
    return model


def empty_model(architecture: str, vocabulary: int = RELEASED_VOCABULARY, **changes):
    """A model without values: initializing the largest takes ten times as long as filling it."""
    with torch.device("meta"):
        return model_of(architecture, vocabulary, **changes)


@torch.no_grad()
def randomize(model, seed: int = 1, std: float = 0.05):
    """Give every matrix and bias random numbers of one size; outputs keep a deviation of 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "layer_norm" in name:
            parameter.fill_(float(name.endswith("weight")))
        else:
            parameter.normal_(std=std, generator=generator)
    return model


def random_tokens(*shape, seed: int = 1, vocabulary: int = RELEASED_VOCABULARY) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(SPECIALS), vocabulary, shape, generator=generator)


def masked_batch(rows: int = 3, length: int = 19, vocabulary: int = TOY_VOCABULARY, seed: int = 1):
    """What pretraining feeds to the model: two segments a row, pads, six masks a row."""
    tokens = random_tokens(rows, length, seed=seed, vocabulary=vocabulary)
    tokens[:, 0], tokens[:, 5] = START, SEPARATOR
    for row in range(1, rows):
        tokens[row, length - row :] = PAD
    positions = (torch.arange(rows)[:, None] * length + torch.arange(6, 12)).flatten()
    targets = tokens.flatten()[positions]
    masked = tokens.flatten().clone()
    masked[positions[::2]] = MASK
    uniforms = torch.rand(len(positions), generator=torch.Generator().manual_seed(seed))
    return {
        "src_tokens": masked.view_as(tokens),
        "segments": None,
        "output": PRETRAINING,
        "masked_positions": positions,
        "masked_targets": targets,
        "uniforms": uniforms,
    }
