"""The options of the model, and the shape that they describe."""

from dataclasses import dataclass, field

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from convbert_plugin.models.architectures import SMALL
from convbert_plugin.modules.convolution import CONV_BACKENDS, CONV_BRANCHES
from convbert_plugin.modules.shape import StackShape

AUTOCAST_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class ConvBertConfig(FairseqDataclass):
    encoder_layers: int = field(
        default=SMALL["encoder_layers"], metadata={"help": "number of layers"}
    )
    encoder_embed_dim: int = field(
        default=SMALL["encoder_embed_dim"], metadata={"help": "hidden size"}
    )
    encoder_ffn_embed_dim: int = field(
        default=SMALL["encoder_ffn_embed_dim"], metadata={"help": "inner size of the feed-forward"}
    )
    encoder_attention_heads: int = field(
        default=SMALL["encoder_attention_heads"],
        metadata={"help": "nominal number of heads: the head ratio divides it"},
    )
    embedding_dim: int = field(
        default=SMALL["embedding_dim"],
        metadata={"help": "size of the embeddings, projected to the hidden size if it differs"},
    )
    head_ratio: int = field(
        default=SMALL["head_ratio"],
        metadata={"help": "divides the number of heads (paper: gamma); 1 keeps them all"},
    )
    conv_kernel_size: int = field(
        default=SMALL["conv_kernel_size"], metadata={"help": "taps of the convolution, odd"}
    )
    conv_type: ChoiceEnum(list(CONV_BRANCHES)) = field(
        default=SMALL["conv_type"],
        metadata={"help": "what stands beside self-attention (none: self-attention alone)"},
    )
    conv_backend: ChoiceEnum(list(CONV_BACKENDS)) = field(
        default="torch", metadata={"help": "code that computes the dynamic convolution"}
    )
    ffn_groups: int = field(
        default=SMALL["ffn_groups"], metadata={"help": "groups of the grouped linear layers"}
    )
    max_positions: int = field(
        default=SMALL["max_positions"], metadata={"help": "rows of the position table"}
    )
    dropout: float = field(
        default=0.1, metadata={"help": "dropout of embeddings, attention output and feed-forward"}
    )
    attention_dropout: float = field(
        default=0.1, metadata={"help": "dropout of attention probabilities"}
    )
    pads_visible: bool = field(
        default=False,
        metadata={"help": "let pads enter the convolution and pad to full length, as released"},
    )
    autocast_dtype: ChoiceEnum(list(AUTOCAST_DTYPES)) = field(
        default="float32",
        metadata={
            "help": "precision of the matrix products; parameters and losses stay in fp32 "
            "(float16 comes without loss scaling: prefer bfloat16)"
        },
    )


def stack_shape(cfg: ConvBertConfig) -> StackShape:
    """The discriminator's shape."""
    return StackShape(
        embedding_dim=cfg.embedding_dim,
        hidden=cfg.encoder_embed_dim,
        layers=cfg.encoder_layers,
        heads=cfg.encoder_attention_heads,
        ffn_hidden=cfg.encoder_ffn_embed_dim,
        ffn_groups=cfg.ffn_groups,
        head_ratio=cfg.head_ratio,
        conv_kernel_size=cfg.conv_kernel_size,
        conv_type=str(cfg.conv_type),
        conv_backend=str(cfg.conv_backend),
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        pads_visible=cfg.pads_visible,
    )
