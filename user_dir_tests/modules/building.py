"""Toy sizes: odd and unequal, so that a swapped dimension fails."""

from convbert_plugin.modules.shape import StackShape

TOY = {
    "embedding_dim": 10,
    "hidden": 42,
    "layers": 2,
    "heads": 7,
    "ffn_hidden": 54,
    "ffn_groups": 2,
    "head_ratio": 2,
    "conv_kernel_size": 5,
    "conv_type": "span_dynamic",
    "conv_backend": "auto",
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "pads_visible": False,
}


def shape_of(**changes) -> StackShape:
    return StackShape(**{**TOY, **changes})
