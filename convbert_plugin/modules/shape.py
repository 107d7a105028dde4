"""The numbers that make a stack of layers, and the rules that bind them."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional

from convbert_plugin.errors import UserError


class Heads(NamedTuple):
    """Heads of the mixed attention: as many for attention as for convolution."""

    number: int
    size: int

    @property
    def width(self) -> int:
        return self.number * self.size


def released_heads(hidden: int, heads: int, ratio: int) -> Heads:
    """Heads that remain after the head ratio (paper: gamma).

    The size of a head is hidden / heads whatever the ratio; where the ratio leaves none, one
    remains (the small generator). Source: the released modeling.py:896-901.
    """
    return Heads(number=max(1, heads // ratio), size=hidden // heads)


SIZES = ("hidden", "layers", "heads", "ffn_hidden", "embedding_dim", "ffn_groups", "head_ratio")
RATES = ("dropout", "attention_dropout")
# The CPU's own code keeps as many numbers a token on the stack of a thread.
MOST_TAPS = 1023
# The option that sets a field, where it has another name.
OPTIONS = {
    "hidden": "encoder_embed_dim",
    "layers": "encoder_layers",
    "heads": "encoder_attention_heads",
    "ffn_hidden": "encoder_ffn_embed_dim",
}
# What layers of the same tensors may compute otherwise by, dropout apart.
OF_FUNCTION = ("heads", "head_ratio", "conv_type", "conv_kernel_size", "pads_visible")


def flag_of(name: str) -> str:
    """What sets a field on the command line."""
    return f"--{OPTIONS.get(name, name).replace('_', '-')}"


@dataclass(frozen=True)
class StackShape:
    """Sizes and switches of one stack of layers, the discriminator's or the generator's.

    Raises:
        UserError: sizes that do not fit each other, by the name of the option to change.
    """

    embedding_dim: int
    hidden: int
    layers: int
    heads: int
    ffn_hidden: int
    ffn_groups: int
    head_ratio: int
    conv_kernel_size: int
    conv_type: str
    conv_backend: str
    dropout: float
    attention_dropout: float
    pads_visible: bool
    compile: bool = False
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        for name in SIZES:
            if (value := getattr(self, name)) < 1:
                raise UserError(f"{flag_of(name)} {value}: choose a number of at least 1")
        for name in RATES:
            if not 0 <= (rate := getattr(self, name)) < 1:
                raise UserError(f"{flag_of(name)} {rate:g}: choose a rate from 0 to below 1")
        if self.conv_kernel_size < 1 or self.conv_kernel_size % 2 == 0:
            raise UserError(
                f"--conv-kernel-size {self.conv_kernel_size}: a span reaches equally far to both "
                "sides; choose an odd number, such as 9"
            )
        if self.conv_kernel_size > MOST_TAPS:
            raise UserError(
                f"--conv-kernel-size {self.conv_kernel_size}: choose at most {MOST_TAPS}, which "
                "reaches 511 tokens to both sides"
            )
        if self.hidden % self.heads:
            raise UserError(
                f"a hidden size of {self.hidden} does not divide into {self.heads} heads: change "
                "--encoder-embed-dim or --encoder-attention-heads (of a generator: "
                "--generator-size)"
            )
        for width in (self.hidden, self.ffn_hidden):
            if width % self.ffn_groups:
                raise UserError(
                    f"a width of {width} does not divide into {self.ffn_groups} groups: change "
                    "--ffn-groups, --encoder-embed-dim or --encoder-ffn-embed-dim (of a "
                    "generator: --generator-size)"
                )

    @property
    def mixed_heads(self) -> Heads:
        return released_heads(self.hidden, self.heads, self.head_ratio)

    @property
    def function(self) -> tuple:
        """What layers of the same tensors compute: equal where they compute the same."""
        of_attention = (self.mixed_heads, self.conv_type)
        if self.conv_type == "none":
            return of_attention
        return (*of_attention, self.conv_kernel_size, self.pads_visible)

    def unlike(self, other: "StackShape") -> Optional[str]:
        """The options by which another shape computes something else, None where it does not."""
        if self.function == other.function:
            return None
        here, there = (
            {name: getattr(shape, name) for name in OF_FUNCTION} for shape in (self, other)
        )
        return ", ".join(
            f"{flag_of(name)} {value} (here {there[name]})"
            for name, value in here.items()
            if value != there[name]
        )

    def generator(self, fraction: float) -> "StackShape":
        """The generator's shape: width and heads scaled, everything else as here.

        Source: the released run_pretraining.py:241-252.
        """
        if not 0 < fraction <= 1:
            raise UserError(f"--generator-size {fraction:g}: choose a fraction in (0, 1]")
        hidden = round(self.hidden * fraction)
        if hidden < 1:
            raise UserError(
                f"--generator-size {fraction:g}: leaves nothing of a hidden size of {self.hidden}; "
                "choose a larger fraction"
            )
        # A third typed as 0.333 still leaves four of twelve heads.
        heads = max(1, int(self.heads * fraction + 0.01))
        return replace(self, hidden=hidden, heads=heads, ffn_hidden=4 * hidden)
