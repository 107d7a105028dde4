"""The whole released computation in numpy and float64, from TensorFlow's variables by their names.

Written from the released modeling.py:218-441 and run_pretraining.py:129-252 alone, on the layer of
released_block.py. Variables: name -> array, for the networks of discriminator and generator.
"""

from dataclasses import dataclass, replace

import numpy as np

from user_dir_tests.oracles.released_block import (
    apply,
    dense_shapes,
    gelu,
    layer_norm,
    layer_norm_shapes,
    released_block,
    weight_shapes,
)

DISCRIMINATOR, GENERATOR = "electra", "generator"
EMBEDDINGS = "electra/embeddings"
SEGMENTS = 2
OPTIMIZER_SLOTS = ("adam_m", "adam_v")


@dataclass(frozen=True)
class Sizes:
    """The numbers of a network; ``heads`` are the nominal ones, in a generator a fraction.

    Source: the released training_utils.py:83-105 and configure_pretraining.py:105-123.
    """

    embedding: int
    hidden: int
    heads: float
    generator_fraction: float
    groups: int = 1
    layers: int = 12
    head_ratio: int = 2
    kernel_size: int = 9
    convolution: bool = True

    @property
    def ffn_hidden(self) -> int:
        return 4 * self.hidden

    def generator(self) -> "Sizes":
        """Source: the released run_pretraining.py:241-252."""
        return replace(
            self,
            hidden=round(self.hidden * self.generator_fraction),
            heads=max(1, self.heads * self.generator_fraction),
        )


RELEASED_SIZES = {
    "small": Sizes(embedding=128, hidden=256, heads=4, generator_fraction=1 / 4),
    "medium": Sizes(embedding=128, hidden=384, heads=8, generator_fraction=1 / 4, groups=2),
    "base": Sizes(embedding=768, hidden=768, heads=12, generator_fraction=1 / 3),
}


def variable_shapes(sizes, vocabulary=30522, positions=512) -> dict:
    """Name and shape of every variable that pretraining trains."""
    return {
        f"{EMBEDDINGS}/word_embeddings": (vocabulary, sizes.embedding),
        f"{EMBEDDINGS}/position_embeddings": (positions, sizes.embedding),
        f"{EMBEDDINGS}/token_type_embeddings": (SEGMENTS, sizes.embedding),
        **layer_norm_shapes(EMBEDDINGS, sizes.embedding),
        **_network_shapes(DISCRIMINATOR, sizes),
        **_network_shapes(GENERATOR, sizes.generator()),
        **dense_shapes("discriminator_predictions/dense", sizes.hidden, sizes.hidden),
        **dense_shapes("discriminator_predictions/dense_1", sizes.hidden, 1),
        **dense_shapes("generator_predictions/dense", sizes.generator().hidden, sizes.embedding),
        **layer_norm_shapes("generator_predictions", sizes.embedding),
        "generator_predictions/output_bias": (vocabulary,),
    }


def optimizer_shapes(shapes) -> dict:
    """What a checkpoint of pretraining holds beside the trained variables."""
    slots = {f"{name}/{slot}": shape for name, shape in shapes.items() for slot in OPTIMIZER_SLOTS}
    return {**slots, "global_step": ()}


def random_variables(shapes, seed) -> dict:
    """Every number random; LayerNorms keep the size of what goes through them."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(loc=float(name.endswith("gamma")), scale=0.05, size=shape)
        for name, shape in shapes.items()
    }


def discriminator_states(tokens, segments, variables, sizes, pads, pads_visible=True) -> list:
    """Hidden states of every level, the embeddings' first.

    Shapes: tokens, segments and pads (true where a pad stands) [B, T] -> (layers + 1) x [B, T, C].
    """
    return _states(DISCRIMINATOR, tokens, segments, variables, sizes, pads, pads_visible)


def generator_states(tokens, segments, variables, sizes, pads, pads_visible=True) -> list:
    """As :func:`discriminator_states`, for the generator that belongs to a discriminator."""
    return _states(GENERATOR, tokens, segments, variables, sizes.generator(), pads, pads_visible)


def replaced_logits(hidden, variables):
    """Shapes: the discriminator's last states [B, T, C] -> [B, T]."""
    inner = gelu(apply(hidden, variables, "discriminator_predictions/dense"))
    return apply(inner, variables, "discriminator_predictions/dense_1")[..., 0]


def masked_lm_logits(hidden, variables):
    """Shapes: the generator's last states [B, T, C] -> [B, T, V]."""
    inner = gelu(apply(hidden, variables, "generator_predictions/dense"))
    normalized = layer_norm(inner, variables, "generator_predictions/LayerNorm")
    logits = normalized @ variables[f"{EMBEDDINGS}/word_embeddings"].T
    return logits + variables["generator_predictions/output_bias"]


def _states(network, tokens, segments, variables, sizes, pads, pads_visible):
    states = [_embed(tokens, segments, variables)]
    if sizes.embedding != sizes.hidden:
        states = [apply(states[0], variables, f"{network}/embeddings_project")]
    for layer in range(sizes.layers):
        weights = _below(f"{network}/encoder/layer_{layer}/", variables)
        states.append(
            released_block(states[-1], weights, sizes.heads, sizes.head_ratio, pads, pads_visible)
        )
    return states


def _embed(tokens, segments, variables):
    summed = variables[f"{EMBEDDINGS}/word_embeddings"][tokens]
    summed = summed + variables[f"{EMBEDDINGS}/token_type_embeddings"][segments]
    summed += variables[f"{EMBEDDINGS}/position_embeddings"][: tokens.shape[1]]
    return layer_norm(summed, variables, f"{EMBEDDINGS}/LayerNorm")


def _network_shapes(network, sizes):
    shapes = {}
    if sizes.embedding != sizes.hidden:
        shapes |= dense_shapes(f"{network}/embeddings_project", sizes.embedding, sizes.hidden)
    of_layer = weight_shapes(
        sizes.hidden,
        sizes.heads,
        sizes.head_ratio,
        sizes.kernel_size,
        sizes.ffn_hidden,
        sizes.groups,
        sizes.convolution,
    )
    for layer in range(sizes.layers):
        scope = f"{network}/encoder/layer_{layer}"
        shapes |= {f"{scope}/{name}": shape for name, shape in of_layer.items()}
    return shapes


def _below(scope, variables):
    return {
        name.removeprefix(scope): values
        for name, values in variables.items()
        if name.startswith(scope)
    }
