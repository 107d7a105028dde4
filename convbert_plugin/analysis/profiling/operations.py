"""What a network computes, step by step, and what it learns: the one place for these formulas."""

from typing import Callable, Iterable, Iterator, NamedTuple

from convbert_plugin.modules.shape import StackShape

# A multiplication and an addition.
OPERATIONS = 2
# The backward makes two products of the sizes of each one of the forward: for its two inputs.
BACKWARD = 2
# What the script of ELECTRA's authors counts for each number that goes through these.
# Source: google-research/electra, flops_computation.py:25-39.
DROPOUT, LAYER_NORM, GELU, SOFTMAX = 4, 5, 8, 5
SEGMENTS = 2

# The parts of a network: rows of a profile, in this order.
EMBEDDINGS = "embeddings"
PROJECTION = "embedding projection"
ATTENTION = "query, key, value"
SCORES = "attention"
SPAN_KEY = "span key"
KERNELS = "kernels"
CONV_VALUE = "convolution value"
CONVOLUTION = "convolution"
OUTPUT = "output layer"
FEED_FORWARD = "feed-forward"
NORMS = "LayerNorms"
HEAD = "head"
LAYER_PARTS = (
    *(ATTENTION, SCORES, SPAN_KEY, KERNELS, CONV_VALUE, CONVOLUTION, OUTPUT, FEED_FORWARD, NORMS),
)
PARTS = (EMBEDDINGS, PROJECTION, *LAYER_PARTS, HEAD)


class Product(NamedTuple):
    """``number`` products [rows, inner] x [inner, columns]."""

    number: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return OPERATIONS * self.number * self.rows * self.inner * self.columns


class Operation(NamedTuple):
    """A step of a network, forward.

    ``parameters``: numbers that it learns; ``convolved``: FLOPs of convolutions that are no matrix
    products; ``others``: what the authors' convention counts beside products and convolutions.
    """

    part: str
    parameters: int = 0
    products: tuple[Product, ...] = ()
    convolved: int = 0
    others: int = 0

    @property
    def flops(self) -> int:
        return sum(product.flops for product in self.products) + self.convolved


def linear(part: str, rows: int, inputs: int, outputs: int, groups: int = 1) -> Operation:
    """A dense or grouped layer with a bias."""
    return Operation(
        part,
        parameters=inputs * outputs // groups + outputs,
        products=(Product(groups, rows, inputs // groups, outputs // groups),),
        others=rows * outputs,
    )


def _residual_norm(rows: int, width: int) -> Operation:
    """Dropout, the residual connection, LayerNorm."""
    return Operation(NORMS, parameters=2 * width, others=rows * width * (DROPOUT + 1 + LAYER_NORM))


def _span_dynamic(shape: StackShape, tokens: int) -> Iterator[Operation]:
    taps, width = shape.conv_kernel_size, shape.mixed_heads.width
    yield Operation(
        SPAN_KEY,
        parameters=shape.hidden * taps,
        convolved=OPERATIONS * tokens * shape.hidden * taps,
    )
    yield linear(SPAN_KEY, tokens, shape.hidden, width)
    yield Operation(SPAN_KEY, others=tokens * width)
    yield from _dynamic(shape, tokens)


def _dynamic(shape: StackShape, tokens: int) -> Iterator[Operation]:
    heads = shape.mixed_heads
    yield linear(KERNELS, tokens, heads.width, heads.number * shape.conv_kernel_size)
    yield _convolution(shape, tokens)


def _light(shape: StackShape, tokens: int) -> Iterator[Operation]:
    yield Operation(KERNELS, parameters=shape.mixed_heads.number * shape.conv_kernel_size)
    yield _convolution(shape, tokens)


def _convolution(shape: StackShape, tokens: int) -> Operation:
    """By kernels of the heads, each the softmax over its taps."""
    heads, taps = shape.mixed_heads, shape.conv_kernel_size
    return Operation(
        CONVOLUTION,
        convolved=OPERATIONS * tokens * heads.width * taps,
        others=SOFTMAX * tokens * heads.number * taps,
    )


def _plain(shape: StackShape, tokens: int) -> Iterator[Operation]:
    width = shape.mixed_heads.width
    yield linear(CONVOLUTION, tokens, width * shape.conv_kernel_size, width)


BRANCHES: dict[str, Callable[[StackShape, int], Iterable[Operation]]] = {
    "span_dynamic": _span_dynamic,
    "dynamic": _dynamic,
    "light": _light,
    "conv": _plain,
}
"""What a ``conv_type`` computes beside its value."""
CONV_TYPES = (*BRANCHES, "none")


def layer_operations(shape: StackShape, batch: int, length: int) -> Iterator[Operation]:
    """The steps of one layer."""
    tokens, heads, groups = batch * length, shape.mixed_heads, shape.ffn_groups
    branch = BRANCHES.get(shape.conv_type)
    for _ in range(3):
        yield linear(ATTENTION, tokens, shape.hidden, heads.width)
    number = batch * heads.number
    yield Operation(
        SCORES,
        products=(
            Product(number, length, heads.size, length),
            Product(number, length, length, heads.size),
        ),
        others=number * length * length * (SOFTMAX + DROPOUT + 1),
    )
    if branch is not None:
        yield linear(CONV_VALUE, tokens, shape.hidden, heads.width)
        yield from branch(shape, tokens)
    yield linear(OUTPUT, tokens, heads.width * (1 if branch is None else 2), shape.hidden)
    yield _residual_norm(tokens, shape.hidden)
    yield linear(FEED_FORWARD, tokens, shape.hidden, shape.ffn_hidden, groups)
    yield Operation(FEED_FORWARD, others=GELU * tokens * shape.ffn_hidden)
    yield linear(FEED_FORWARD, tokens, shape.ffn_hidden, shape.hidden, groups)
    yield _residual_norm(tokens, shape.hidden)


def projection_operations(shape: StackShape, tokens: int) -> list[Operation]:
    """The projection of the embeddings, where there is one."""
    if shape.embedding_dim == shape.hidden:
        return []
    return [linear(PROJECTION, tokens, shape.embedding_dim, shape.hidden)]


def stack_operations(shape: StackShape, batch: int, length: int) -> list[Operation]:
    """The steps of all layers and of the projection of the embeddings."""
    layers = list(layer_operations(shape, batch, length)) * shape.layers
    return [*layers, *projection_operations(shape, batch * length)]


def embedding_operation(
    width: int, vocabulary: int, positions: int, batch: int, length: int
) -> Operation:
    """Three tables, LayerNorm and dropout; the authors count look-ups as products with one-hots."""
    looked_up = OPERATIONS * (vocabulary + length + SEGMENTS)
    return Operation(
        EMBEDDINGS,
        parameters=(vocabulary + positions + SEGMENTS + 2) * width,
        others=batch * length * width * (looked_up + 2 + LAYER_NORM + DROPOUT),
    )


def masked_lm_operations(
    hidden: int, embedding_dim: int, vocabulary: int, masked: int
) -> list[Operation]:
    """The head that guesses the masked tokens; its softmax matrix is the token table."""
    return [
        linear(HEAD, masked, hidden, embedding_dim),
        Operation(
            HEAD,
            parameters=2 * embedding_dim,
            others=masked * embedding_dim * (GELU + LAYER_NORM),
        ),
        Operation(
            HEAD,
            parameters=vocabulary,
            products=(Product(1, masked, embedding_dim, vocabulary),),
            # Besides the softmax, two for each token that might have been the right one.
            others=masked * vocabulary * (SOFTMAX + 2),
        ),
    ]


def replaced_token_operations(hidden: int, tokens: int) -> list[Operation]:
    """The head that tells replaced tokens."""
    return [
        linear(HEAD, tokens, hidden, hidden),
        Operation(HEAD, others=GELU * tokens * hidden),
        linear(HEAD, tokens, hidden, 1),
    ]


def stack_products(shape: StackShape, batch: int, length: int) -> list[Product]:
    """The matrix products of an encoder above its embeddings, forward."""
    steps = stack_operations(shape, batch, length)
    return [product for step in steps for product in step.products]


def flops_of(operations: Iterable[Operation]) -> int:
    """Of matrix products and convolutions, forward."""
    return sum(operation.flops for operation in operations)


def stack_flops(shape: StackShape, batch: int, length: int) -> int:
    """Of an encoder above its embeddings, forward."""
    return flops_of(stack_operations(shape, batch, length))


def with_backward(flops: int) -> int:
    """Of forward and backward, where the forward alone has ``flops``."""
    return (1 + BACKWARD) * flops


def step_flops(
    shape: StackShape, generator: StackShape, vocabulary: int, batch: int, length: int, masked: int
) -> int:
    """Of a pretraining step on a batch with so many masked tokens, without the optimizer."""
    operations = [
        *stack_operations(shape, batch, length),
        *replaced_token_operations(shape.hidden, batch * length),
        *stack_operations(generator, batch, length),
        *masked_lm_operations(generator.hidden, generator.embedding_dim, vocabulary, masked),
    ]
    return with_backward(flops_of(operations))
