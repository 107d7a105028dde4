"""The heads of transformers' ConvBERT, whose head rule is another one than the released.

transformers gives a head half of what its width would be, whatever the ratio; the released rule
(``released_heads``) gives it hidden / heads. Both leave as many heads.
"""

from typing import Mapping

from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.modules.shape import released_heads

NAMES = ("encoder_embed_dim", "encoder_attention_heads", "head_ratio")


def own_heads(options: Mapping, path: PathLike) -> dict:
    """Heads and ratio of which the released rule makes what transformers makes of these.

    Raises:
        UserError: heads that transformers cannot build.
    """
    hidden, heads, ratio = (options[name] for name in NAMES)
    left = released_heads(hidden, heads, ratio).number
    if hidden % (2 * left):
        raise UserError(
            f"{path}: a hidden_size of {hidden} does not divide into 2 x {left} heads: "
            "transformers cannot run it either"
        )
    return {"encoder_attention_heads": 2 * left, "head_ratio": 2}


def their_heads(options: Mapping, source: Mapping) -> dict:
    """Heads and ratio of which transformers makes ours; those of its ``source`` where they do.

    Raises:
        UserError: heads that transformers cannot represent.
    """
    hidden, heads, ratio = (options[name] for name in NAMES)
    left = released_heads(hidden, heads, ratio)
    if 2 * left.width != hidden:
        raise UserError(
            "transformers cannot represent this model: the output layer of its ConvBERT has "
            f"{hidden} inputs, and {left.number} attention and {left.number} convolution heads of "
            f"size {left.size} give {2 * left.width}"
        )
    heads, ratio = source.get("num_attention_heads", 0), source.get("head_ratio", 2)
    are_numbers = all(type(number) is int and number > 0 for number in (heads, ratio))
    if not are_numbers or released_heads(hidden, heads, ratio).number != left.number:
        heads, ratio = 2 * left.number, 2
    return {"encoder_attention_heads": heads, "head_ratio": ratio}
