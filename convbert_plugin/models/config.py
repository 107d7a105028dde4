"""The options of the model, and the shape that they describe."""

from dataclasses import dataclass, field, fields
from typing import Any, Union

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import DictConfig, open_dict

from convbert_plugin.models.architectures import SMALL
from convbert_plugin.modules.convolution import CONV_BACKENDS, CONV_BRANCHES
from convbert_plugin.modules.shape import OPTIONS, StackShape

AUTOCAST_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _option(default: Any, words: str) -> Any:
    return field(default=default, metadata={"help": words})


def _size(name: str, words: str) -> Any:
    """One that differs between architectures: the small model's where none is named."""
    return _option(SMALL[name], words)


@dataclass
class ConvBertConfig(FairseqDataclass):
    encoder_layers: int = _size("encoder_layers", "number of layers")
    encoder_embed_dim: int = _size("encoder_embed_dim", "hidden size")
    encoder_ffn_embed_dim: int = _size("encoder_ffn_embed_dim", "inner size of the feed-forward")
    encoder_attention_heads: int = _size(
        "encoder_attention_heads", "nominal number of heads: the head ratio divides it"
    )
    embedding_dim: int = _size(
        "embedding_dim", "size of the embeddings, projected to the hidden size if it differs"
    )
    head_ratio: int = _size(
        "head_ratio", "divides the number of heads (paper: gamma); 1 keeps them all"
    )
    conv_kernel_size: int = _size("conv_kernel_size", "taps of the convolution, odd")
    conv_type: ChoiceEnum(list(CONV_BRANCHES)) = field(
        default=SMALL["conv_type"],
        metadata={"help": "what stands beside self-attention (none: self-attention alone)"},
    )
    conv_backend: ChoiceEnum(list(CONV_BACKENDS)) = field(
        default="auto",
        metadata={
            "help": "code that computes the convolutions: the fastest that can run here, or one "
            "by name (torch: the old name of auto)"
        },
    )
    ffn_groups: int = _size("ffn_groups", "groups of the grouped linear layers")
    max_positions: int = _size("max_positions", "rows of the position table")
    dropout: float = _option(0.1, "dropout of embeddings, attention output and feed-forward")
    attention_dropout: float = _option(0.1, "dropout of attention probabilities")
    pads_visible: bool = _option(
        False, "let pads enter the convolution and pad to full length, as released"
    )
    autocast_dtype: ChoiceEnum(list(AUTOCAST_DTYPES)) = field(
        default="float32",
        metadata={
            "help": "precision of the matrix products; parameters and losses stay in fp32 "
            "(float16 comes without loss scaling: prefer bfloat16)"
        },
    )
    compile: bool = _option(False, "compile the layers for training")
    checkpoint_activations: bool = _option(
        False, "keep the inputs of layers alone for the backward pass, which computes them again"
    )


def say_later_options(cfg: Union[ConvBertConfig, DictConfig]) -> None:
    """Give the config of an older version's checkpoint what it could not say yet."""
    later = {
        option.name: option.default
        for option in fields(ConvBertConfig)
        if not hasattr(cfg, option.name)
    }
    if isinstance(cfg, DictConfig) and later:
        with open_dict(cfg):
            cfg.update(later)


def stack_shape(cfg: ConvBertConfig) -> StackShape:
    """The discriminator's shape."""
    names = [field.name for field in fields(StackShape)]
    values = {name: getattr(cfg, OPTIONS.get(name, name)) for name in names}
    choices = {name: str(values[name]) for name in ("conv_type", "conv_backend")}
    return StackShape(**{**values, **choices})
