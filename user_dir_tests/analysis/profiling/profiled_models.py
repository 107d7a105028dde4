"""A model beside its profile, of the same options."""

import torch

from convbert_plugin.analysis.profiling.profiles import profile_of
from convbert_plugin.analysis.profiling.subjects import subject_of
from convbert_plugin.data.collation import PRETRAINING
from user_dir_tests.models.building import (
    RELEASED_VOCABULARY,
    TOY,
    TOY_GENERATOR_SIZE,
    TOY_VOCABULARY,
    empty_model,
    model_of,
    random_tokens,
)

# What the profile calls otherwise, or the model does not know.
OF_TRAINING = ("objective", "generator_size", "batch_size", "tokens_per_sample", "device")
TOY_OPTIONS = {
    **TOY,
    "vocabulary": TOY_VOCABULARY,
    "generator_size": TOY_GENERATOR_SIZE,
    "batch_size": 3,
    "tokens_per_sample": 19,
}


def profile(arch, **options):
    return profile_of(subject_of(arch, options))


def model_options(options):
    return {
        name: value
        for name, value in options.items()
        if name not in OF_TRAINING and name != "vocabulary"
    }


def built(arch, options, build=model_of):
    """The model of a profile with those options, and all that its objective trains."""
    vocabulary = options.get("vocabulary", RELEASED_VOCABULARY)
    model = build(arch, vocabulary, **model_options(options))
    device = model.embeddings.tokens.weight.device
    objective = options.get("objective", "replaced_token_detection")
    with torch.device(device):
        if objective == "replaced_token_detection":
            model.add_generator(options.get("generator_size"))
        if objective == "masked_lm":
            model.add_part("masked_lm_head")
    return model


def without_values(arch, options):
    return built(arch, options, empty_model)


def full_batch(batch, length, masked, vocabulary):
    """Examples without pads, with so many masked tokens each."""
    tokens = random_tokens(batch, length, vocabulary=vocabulary)
    positions = (torch.arange(batch)[:, None] * length + torch.arange(masked)).flatten()
    return {
        "src_tokens": tokens,
        "segments": torch.zeros_like(tokens),
        "has_pads": False,
        "output": PRETRAINING,
        "masked_positions": positions,
        "masked_targets": tokens.flatten()[positions],
        "uniforms": torch.rand(len(positions)),
    }


def loss_of(model, batch):
    """Of all that the objective trains; without one, a sum of hidden states."""
    if model.generator is None and model.masked_lm_head is None:
        return model(batch["src_tokens"], batch["segments"], has_pads=False).sum()
    output = model(**batch)
    detected = 0 if output.replaced_loss is None else output.replaced_loss
    return output.masked_lm_loss + detected


SWITCHES = [
    {},
    *({"conv_type": kind} for kind in ("dynamic", "light", "conv", "none")),
    *({"head_ratio": ratio} for ratio in (1, 3, 7)),
    {"conv_kernel_size": 9},
    {"conv_kernel_size": 1, "conv_type": "conv"},
    {"ffn_groups": 1},
    {"encoder_layers": 3},
    {"encoder_embed_dim": 84},
    {"encoder_ffn_embed_dim": 66},
    {"embedding_dim": 42},
    {"generator_size": 1.0},
    {"generator_size": 2 / 3, "conv_type": "light"},
    {"objective": "masked_lm"},
    {"objective": "fine_tuning", "max_positions": 19},
]
"""One switch of the model at a time."""


def words(options):
    return ",".join(f"{name}={value}" for name, value in options.items()) or "as it is"
