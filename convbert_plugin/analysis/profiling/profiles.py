"""A profile: parameters, floating-point operations and memory of one model and its training."""

from collections import Counter
from operator import attrgetter
from typing import Any, Callable, NamedTuple

from convbert_plugin.analysis.profiling.operations import (
    BACKWARD,
    EMBEDDINGS,
    HEAD,
    PARTS,
    Operation,
    embedding_operation,
    layer_operations,
    masked_lm_operations,
    projection_operations,
    replaced_token_operations,
)
from convbert_plugin.analysis.profiling.subjects import (
    FINE_TUNING,
    MASK_PROBABILITY,
    MASKED_LM,
    REPLACED_TOKENS,
    Subject,
)
from convbert_plugin.analysis.profiling.training_memory import Numbers, training_memory
from convbert_plugin.data.pretraining.masking import masked_count
from convbert_plugin.modules.shape import StackShape

# Of the tokens, so many the authors put through the vocabulary: 20 of 128, where 15% are masked.
AUTHORS_MASKED = 5, 32
USUAL, AUTHORS = "usual", "authors"
CONVENTIONS = {
    USUAL: "2 m k n for each matrix product [m, k] x [k, n] and 2 C K a token for each convolution "
    "of C channels with K taps of their own; nothing for the rest, look-ups among it; the backward "
    "twice the forward, and nothing that is computed once more; as many tokens are guessed as are "
    "masked",
    AUTHORS: "as the script of ELECTRA's authors counts, by which the published FLOPs were: the "
    "same products and convolutions; a look-up as a product with a one-hot vector; biases, "
    "dropout (4 a number), softmax (5), LayerNorm (5) and GELU (8) besides; the backward as much "
    "as the forward; 5 of 32 tokens are guessed where 15% are masked",
}
BACKWARD_OF = {USUAL: BACKWARD, AUTHORS: 1}
MEMORY = (
    "weights, gradients and both moments of AdamW in float32; what waits for the backward pass of "
    "a batch without pads; the most of it together in a step, without what the libraries hold"
)
ENCODER, GENERATOR = "encoder", "generator"


class Network(NamedTuple):
    """Its steps: those outside of the layers, and those of one layer."""

    outside: tuple[Operation, ...]
    layer: tuple[Operation, ...]
    layers: int

    def by_part(self, value: Callable[[Operation], int]) -> dict[str, int]:
        """The sum of that value over all steps of each part, where there is any."""
        counts: Counter[str] = Counter()
        for step in self.outside:
            counts[step.part] += value(step)
        for step in self.layer:
            counts[step.part] += self.layers * value(step)
        return {part: counts[part] for part in PARTS if counts[part]}


Parts = dict[str, dict[str, int]]
"""A number of each part, by networks."""


def profile_of(subject: Subject) -> dict[str, Any]:
    """All numbers of a model, in plain values; FLOPs of parts are those of a token, forward."""
    batch, length, _ = subject.recipe
    tokens = subject.recipe.tokens_of_batch
    mask_prob = subject.options["mask_prob"]
    masked = batch * masked_count(length, mask_prob, length)
    of_authors, of_tokens = AUTHORS_MASKED
    share = of_authors / of_tokens * (mask_prob / MASK_PROBABILITY)
    by_convention = {USUAL: masked, AUTHORS: round(tokens * share)}
    networks = networks_of(subject, masked)
    parts = {name: each.by_part(attrgetter("parameters")) for name, each in networks.items()}
    return {
        "name": subject.name,
        "arch": subject.arch,
        "options": dict(subject.options),
        "parameters": {
            "parts": parts,
            "layer": sum(step.parameters for step in networks[ENCODER].layer),
            "encoder": _without_head(parts[ENCODER]),
            "all": _total(parts),
        },
        "flops": {
            convention: _flops(networks_of(subject, guessed), subject, convention)
            for convention, guessed in by_convention.items()
        },
        "memory": training_memory(subject, _numbers(parts, subject), masked)._asdict(),
    }


def networks_of(subject: Subject, masked: int) -> dict[str, Network]:
    """What is trained: the encoder, and the generator beside it where there is one."""
    shape, vocabulary = subject.shape, subject.options["vocabulary"]
    batch, length, _ = subject.recipe
    embeddings = embedding_operation(
        shape.embedding_dim, vocabulary, subject.options["max_positions"], batch, length
    )

    def network(
        stack: StackShape, embeddings: Operation, head: Callable[[StackShape], list[Operation]]
    ) -> Network:
        outside = (embeddings, *projection_operations(stack, batch * length), *head(stack))
        return Network(outside, tuple(layer_operations(stack, batch, length)), stack.layers)

    def guessing(stack: StackShape) -> list[Operation]:
        return masked_lm_operations(stack.hidden, stack.embedding_dim, vocabulary, masked)

    def detecting(stack: StackShape) -> list[Operation]:
        return replaced_token_operations(stack.hidden, batch * length)

    heads = {REPLACED_TOKENS: detecting, MASKED_LM: guessing, FINE_TUNING: lambda stack: []}
    objective = subject.options["objective"]
    networks = {ENCODER: network(shape, embeddings, heads[objective])}
    if objective == REPLACED_TOKENS:
        # Its embeddings are the encoder's.
        shared = embeddings._replace(parameters=0)
        networks[GENERATOR] = network(subject.generator, shared, guessing)
    return networks


def _flops(networks: dict[str, Network], subject: Subject, convention: str) -> dict[str, Any]:
    """Of one token, mean of the batch; of an update and of all."""

    def count(step: Operation) -> int:
        return step.flops + (step.others if convention == AUTHORS else 0)

    tokens, backward = subject.recipe.tokens_of_batch, BACKWARD_OF[convention]
    parts = {name: network.by_part(count) for name, network in networks.items()}
    forward = _total(parts)
    update = (1 + backward) * forward
    return {
        "parts": {
            name: {part: value / tokens for part, value in each.items()}
            for name, each in parts.items()
        },
        "encoder_forward": _without_head(parts[ENCODER]) / tokens,
        "forward": forward / tokens,
        "backward": backward * forward / tokens,
        "update": update,
        "training": update * subject.recipe.updates,
    }


def _numbers(parts: Parts, subject: Subject) -> Numbers:
    """The generator's gradients are early ones, and those of the embeddings by it."""
    early = sum(parts[GENERATOR].values()) + parts[ENCODER][EMBEDDINGS] if GENERATOR in parts else 0
    table = subject.options["vocabulary"] * subject.shape.embedding_dim
    return Numbers(_total(parts), early, table)


def _without_head(parts: dict[str, int]) -> int:
    return sum(number for part, number in parts.items() if part != HEAD)


def _total(parts: Parts) -> int:
    return sum(sum(each.values()) for each in parts.values())
