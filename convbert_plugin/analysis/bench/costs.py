"""What a model must compute and move, by formulas: floating-point operations and bytes."""

from typing import Callable, Iterator, Mapping, NamedTuple

from convbert_plugin.models.architectures import ARCHITECTURES
from convbert_plugin.modules.shape import StackShape

# A multiplication and an addition.
OPERATIONS = 2
# The backward makes two products of the sizes of each one of the forward: for its two inputs.
BACKWARD = 2

FORMULAS = {
    "FLOPs of the forward": "2 m k n for each product [m, k] x [k, n]: the linear layers, and the "
    "two of attention (m = n = T, k = head size, in each head); 2 C K a token for the depthwise "
    "and for the dynamic convolution over C channels with K taps; nothing for the rest",
    "FLOPs of the backward": "twice those of the forward: each product has two inputs",
    "FLOPs of a step": "three times the forwards of both networks over all tokens, of the "
    "replaced-token head over all tokens, and of the masked-LM head over the masked tokens",
    "MFU": "FLOPs of the formulas / seconds / FLOPs a second of one large square product in that "
    "precision, the best of those in the same run (and of the data sheet, where the GPU is known)",
    "bytes of the op, forward": "(2 N + M) x bytes a number: N = B T C numbers of the value read "
    "and of the output written, M = B T H K numbers of the logits read",
    "bytes of the op, forward + backward": "(5 N + 3 M) x bytes a number: besides, value, logits "
    "and the gradient of the output read, and the gradients of value and logits written",
    "share of copying": "seconds to copy half as many bytes from one tensor into another (which "
    "reads and writes as many as the op must) / seconds of the op, both in this run and both from "
    "tensors that are not in a cache",
    "hours of the recipe": "updates x batch x length / tokens a second / 3,600",
}


class Product(NamedTuple):
    """``number`` products [rows, inner] x [inner, columns]."""

    number: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        return OPERATIONS * self.number * self.rows * self.inner * self.columns


class Recipe(NamedTuple):
    """The released pretraining of a size."""

    batch: int
    length: int
    updates: int = 1_000_000

    @property
    def tokens(self) -> int:
        return self.batch * self.length * self.updates

    def hours(self, tokens_per_second: float) -> float:
        return self.tokens / tokens_per_second / 3600


# Source: the released configure_pretraining.py:62-105.
RECIPES = {
    "convbert_small": Recipe(128, 128),
    "convbert_medium": Recipe(128, 128),
    "convbert_base": Recipe(256, 128),
}


def _span_dynamic(shape: StackShape, tokens: int) -> Iterator[Product]:
    yield Product(1, tokens, shape.hidden, shape.mixed_heads.width)
    yield from _dynamic(shape, tokens)


def _dynamic(shape: StackShape, tokens: int) -> Iterator[Product]:
    heads = shape.mixed_heads
    yield Product(1, tokens, heads.width, heads.number * shape.conv_kernel_size)


def _plain(shape: StackShape, tokens: int) -> Iterator[Product]:
    width = shape.mixed_heads.width
    yield Product(1, tokens, width * shape.conv_kernel_size, width)


def _no_product(shape: StackShape, tokens: int) -> Iterator[Product]:
    yield from ()


class Branch(NamedTuple):
    """What a ``conv_type`` computes beside its value: products, and channels that are convolved."""

    products: Callable[[StackShape, int], Iterator[Product]]
    is_depthwise: bool
    is_dynamic: bool


BRANCHES = {
    "span_dynamic": Branch(_span_dynamic, is_depthwise=True, is_dynamic=True),
    "dynamic": Branch(_dynamic, is_depthwise=False, is_dynamic=True),
    "light": Branch(_no_product, is_depthwise=False, is_dynamic=True),
    "conv": Branch(_plain, is_depthwise=False, is_dynamic=False),
}


def layer_products(shape: StackShape, batch: int, length: int) -> Iterator[Product]:
    """The matrix products of one layer, forward."""
    tokens, heads, groups = batch * length, shape.mixed_heads, shape.ffn_groups
    branch = BRANCHES.get(shape.conv_type)
    for _ in range(3 if branch is None else 4):
        yield Product(1, tokens, shape.hidden, heads.width)
    yield Product(batch * heads.number, length, heads.size, length)
    yield Product(batch * heads.number, length, length, heads.size)
    if branch is not None:
        yield from branch.products(shape, tokens)
    yield Product(1, tokens, heads.width * (1 if branch is None else 2), shape.hidden)
    inner = shape.hidden // groups, shape.ffn_hidden // groups
    yield Product(groups, tokens, *inner)
    yield Product(groups, tokens, *reversed(inner))


def stack_products(shape: StackShape, batch: int, length: int) -> list[Product]:
    """The matrix products of all layers and of the projection of the embeddings, forward."""
    products = list(layer_products(shape, batch, length)) * shape.layers
    if shape.embedding_dim != shape.hidden:
        products.append(Product(1, batch * length, shape.embedding_dim, shape.hidden))
    return products


def depthwise_flops(shape: StackShape, tokens: int) -> int:
    """Of the span keys' depthwise convolutions in all layers, forward."""
    branch = BRANCHES.get(shape.conv_type)
    channels = shape.hidden if branch is not None and branch.is_depthwise else 0
    return OPERATIONS * shape.layers * tokens * channels * shape.conv_kernel_size


def dynamic_flops(shape: StackShape, tokens: int) -> int:
    """Of the dynamic convolutions in all layers, forward."""
    branch = BRANCHES.get(shape.conv_type)
    channels = shape.mixed_heads.width if branch is not None and branch.is_dynamic else 0
    return OPERATIONS * shape.layers * tokens * channels * shape.conv_kernel_size


def stack_flops(shape: StackShape, batch: int, length: int) -> int:
    """Of an encoder above its embeddings, forward."""
    products = sum(product.flops for product in stack_products(shape, batch, length))
    tokens = batch * length
    return products + depthwise_flops(shape, tokens) + dynamic_flops(shape, tokens)


def with_backward(flops: int) -> int:
    """Of forward and backward, where the forward alone has ``flops``."""
    return (1 + BACKWARD) * flops


def step_flops(
    shape: StackShape, generator: StackShape, vocabulary: int, batch: int, length: int, masked: int
) -> int:
    """Of a pretraining step on a batch with so many masked tokens, without the optimizer."""
    tokens = batch * length
    heads = (
        Product(1, tokens, shape.hidden, shape.hidden),
        Product(1, tokens, shape.hidden, 1),
        Product(1, masked, generator.hidden, generator.embedding_dim),
        Product(1, masked, generator.embedding_dim, vocabulary),
    )
    stacks = (stack_flops(each, batch, length) for each in (shape, generator))
    return with_backward(sum(stacks) + sum(product.flops for product in heads))


class OpSize(NamedTuple):
    """The sizes of one dynamic convolution."""

    batch: int
    length: int
    channels: int
    heads: int
    taps: int

    @property
    def values(self) -> int:
        return self.batch * self.length * self.channels

    @property
    def logits(self) -> int:
        return self.batch * self.length * self.heads * self.taps

    def numbers(self, backward: bool) -> int:
        """How many numbers must be read or written."""
        return 5 * self.values + 3 * self.logits if backward else 2 * self.values + self.logits

    def flops(self, backward: bool) -> int:
        forward = OPERATIONS * self.values * self.taps
        return with_backward(forward) if backward else forward


# Dense, of the data sheets: what stands in a GPU's name -> FLOPs a second by precision.
DATA_SHEETS: Mapping[str, Mapping[str, float]] = {
    "H100 PCIe": {"bf16": 756e12, "fp16": 756e12},
    "H100": {"bf16": 989e12, "fp16": 989e12},
    "H200": {"bf16": 989e12, "fp16": 989e12},
    "A100": {"bf16": 312e12, "fp16": 312e12},
}


def data_sheet_rate(device_name: str, dtype: str) -> float:
    """FLOPs a second that the maker of a GPU names, 0 where it is not in the table."""
    found = (rates for name, rates in DATA_SHEETS.items() if name in device_name)
    return next(found, {}).get(dtype, 0.0)


def recipe_of(arch: str) -> Recipe:
    """The released pretraining of an architecture."""
    return RECIPES[arch if arch in RECIPES else "convbert_small"]


SIZES = tuple(name for name in ARCHITECTURES if name in RECIPES)
"""The architectures that are measured: ELECTRA's of each size stands beside it."""
