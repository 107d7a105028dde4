"""The memory that training takes: what is kept from step to step, and what waits in one.

Of batches without pads. On a CPU the passes are the C++ ones of ``ops/native``.
"""

from typing import NamedTuple

from convbert_plugin.analysis.profiling.subjects import FINE_TUNING, REPLACED_TOKENS, Subject
from convbert_plugin.modules.shape import StackShape

FLOAT32 = 4
INT64 = 8
# Mean and inverse deviation of every LayerNorm.
MOMENTS = 2 * FLOAT32
# Of each number that may be dropped: random bits on a CPU, where the pass that adds the residual
# keeps none, and a boolean on a GPU.
DROPOUT_BITS = {"cpu": 2, "cuda": 1}
# Positions that go through the discriminator at once, and logits that are made at once: as in
# ops/early_gradients.py and ops/vocabulary_loss.py, which import torch.
POSITIONS_AT_ONCE = {"cpu": 2048}
LOGITS_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 25}


class Memory(NamedTuple):
    """Bytes.

    ``activations``: the most that waits for a backward pass; ``peak``: the most of everything
    together, when not all gradients are there, or not all activations.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int


class Numbers(NamedTuple):
    """How many a model learns.

    ``early``: those whose gradients are there before the discriminator goes forward;
    ``token_table``: those of the softmax matrix among them.
    """

    all: int
    early: int
    token_table: int


class Kept(NamedTuple):
    """Bytes that wait for a backward pass: of each token, and however many there are."""

    of_token: int = 0
    fixed: int = 0

    def and_of(self, *others: "Kept") -> "Kept":
        """The sum."""
        every = self, *others
        return Kept(sum(each.of_token for each in every), sum(each.fixed for each in every))

    def times(self, number: int) -> "Kept":
        return Kept(number * self.of_token, number * self.fixed)

    def of(self, tokens: int) -> int:
        return tokens * self.of_token + self.fixed


class Precision(NamedTuple):
    """What decides what a layer keeps, beside its shape. ``width``: bytes of the products."""

    width: int
    device: str

    @property
    def is_narrow(self) -> bool:
        return self.width < FLOAT32


def layer_kept(shape: StackShape, length: int, precision: Precision) -> Kept:
    """Of one layer, its input with it where that is kept."""
    return _projected(shape, precision).and_of(
        _attention(shape, length, precision),
        _branch(shape, precision),
        _output_and_feed_forward(shape, precision),
    )


def _keeps_probabilities(shape: StackShape, precision: Precision) -> bool:
    """Whether attention does, of which torch's kernels on a CPU know no dropout."""
    return precision.device == "cpu" and shape.attention_dropout > 0


def _projected(shape: StackShape, precision: Precision) -> Kept:
    """The input of query, key and values, their weights as one matrix, and its output."""
    number = 3 if shape.conv_type == "none" else 4
    outputs = number * shape.mixed_heads.width
    # Attention that takes copies in float32 alone needs none of it.
    is_needed = shape.conv_type != "none" or not (
        precision.is_narrow and _keeps_probabilities(shape, precision)
    )
    numbers = shape.hidden + is_needed * outputs, outputs * shape.hidden
    return Kept(*(precision.width * each for each in numbers))


def _attention(shape: StackShape, length: int, precision: Precision) -> Kept:
    heads = shape.mixed_heads
    if _keeps_probabilities(shape, precision):
        inputs = 3 * heads.width if precision.is_narrow else 0
        return Kept(FLOAT32 * (heads.number * length + inputs))
    # torch's kernels keep the logarithm of a sum, and their output: beside a convolution it is
    # copied into the input of the output layer, and else is that input.
    output = 0 if shape.conv_type == "none" else heads.width
    return Kept(FLOAT32 * heads.number + precision.width * output)


def _branch(shape: StackShape, precision: Precision) -> Kept:
    heads, taps = shape.mixed_heads, shape.conv_kernel_size
    of_token = fixed = 0
    if shape.conv_type in ("span_dynamic", "dynamic"):
        of_token += heads.number * taps
        fixed += heads.width * heads.number * taps
    if shape.conv_type == "span_dynamic":
        # The spans, the span keys and their product with the query; narrow, the input once more.
        of_token += shape.hidden + 2 * heads.width + (shape.hidden if precision.is_narrow else 0)
        fixed += shape.hidden * (heads.width + taps)
    if shape.conv_type == "conv":
        fixed += heads.width * heads.width * taps
    return Kept(precision.width * of_token, precision.width * fixed if precision.is_narrow else 0)


def _output_and_feed_forward(shape: StackShape, precision: Precision) -> Kept:
    """Inputs of the three layers and of GELU; what goes into both LayerNorms, in float32."""
    joined = (1 if shape.conv_type == "none" else 2) * shape.mixed_heads.width
    numbers = joined + shape.hidden + 2 * shape.ffn_hidden
    matrices = joined * shape.hidden + 2 * shape.hidden * shape.ffn_hidden // shape.ffn_groups
    bits = DROPOUT_BITS["cuda"] if precision.device == "cuda" and shape.dropout else 0
    norms = 2 * (shape.hidden * (FLOAT32 + bits) + MOMENTS)
    copies = precision.width * matrices if precision.is_narrow else 0
    return Kept(precision.width * numbers + norms, copies)


def stack_kept(shape: StackShape, length: int, precision: Precision) -> Kept:
    """Of all layers; with recomputation, of one while it goes backward, beside all inputs."""
    layer = layer_kept(shape, length, precision)
    if not shape.checkpoint_activations:
        return layer.times(shape.layers)
    return layer.and_of(Kept(FLOAT32 * shape.hidden).times(shape.layers))


def layer_gradients(shape: StackShape, precision: Precision) -> Kept:
    """What a layer's backward adds to what it keeps, at most: where the feed-forward begins."""
    return Kept(precision.width * (shape.ffn_hidden + shape.hidden))


def embeddings_kept(shape: StackShape, precision: Precision) -> Kept:
    """Token and segment; what goes into LayerNorm, and what chose the dropped numbers."""
    width = shape.embedding_dim
    bits = DROPOUT_BITS[precision.device] if shape.dropout else 0
    projected = precision.width * width if width != shape.hidden else 0
    return Kept(2 * INT64 + (FLOAT32 + bits) * width + MOMENTS + projected)


def training_memory(subject: Subject, numbers: Numbers, masked: int) -> Memory:
    """Of a step on one batch, in which so many tokens are guessed."""
    options, shape, tokens = subject.options, subject.shape, subject.recipe.tokens_of_batch
    width = FLOAT32 if options["autocast_dtype"] == "float32" else FLOAT32 // 2
    precision = Precision(width, options["device"])

    def layers(stack: StackShape, number: int) -> int:
        return stack_kept(stack, subject.recipe.length, precision).of(number)

    embeddings = embeddings_kept(shape, precision).of(tokens)
    logits = min(LOGITS_AT_ONCE[precision.device], masked * options["vocabulary"])
    weights, early = FLOAT32 * numbers.all, FLOAT32 * numbers.early
    # Logits and probabilities, and the gradient of the softmax matrix; narrow, the logits once
    # more, that matrix and a piece of its gradient.
    vocabulary = FLOAT32 * (2 * logits + numbers.token_table)
    if precision.is_narrow:
        vocabulary += width * (logits + 2 * numbers.token_table)
    if options["objective"] != REPLACED_TOKENS:
        activations = embeddings + layers(shape, tokens)
        of_head = 0 if options["objective"] == FINE_TUNING else vocabulary
        beside = max(of_head, layer_gradients(shape, precision).of(tokens))
        in_step = [activations + beside, weights]
    else:
        guessing = embeddings + layers(subject.generator, tokens)
        piece = _piece(subject, precision.device)
        head = Kept(3 * width * shape.hidden + 3 * FLOAT32).of(piece)
        detecting = embeddings + layers(shape, piece)
        activations = max(guessing, detecting)
        # Of pieces all gradients are early, those of the first beside the activations of the next.
        of_pieces = weights - early if piece < tokens else 0
        in_step = [
            guessing + max(vocabulary, layer_gradients(subject.generator, precision).of(tokens)),
            early + of_pieces + detecting + max(head, layer_gradients(shape, precision).of(piece)),
            # The loss's own gradient scales early ones, into other tensors; the token table gets
            # one more of the discriminator.
            weights + early + of_pieces + FLOAT32 * numbers.token_table,
        ]
    moments = 2 * weights
    return Memory(weights, weights, moments, activations, weights + moments + max(in_step))


def _piece(subject: Subject, device: str) -> int:
    """Tokens that go through the discriminator at once: whole examples."""
    tokens, length = subject.recipe.tokens_of_batch, subject.recipe.length
    most = max(1, POSITIONS_AT_ONCE.get(device, tokens) // length) * length
    # The pieces are as equal as they can be.
    pieces = -(-tokens // most)
    return -(-subject.recipe.batch // pieces) * length
