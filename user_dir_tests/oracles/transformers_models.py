"""ConvBERT and ELECTRA of transformers, with random weights, and the names of their tensors."""

import re

import torch
from transformers import ConvBertConfig, ConvBertModel, ElectraConfig, ElectraModel

LAYERS = 12

# hidden size, embedding size, heads, feed-forward groups
SIZES = {
    "small": (256, 128, 4, 1),
    "medium": (384, 128, 8, 2),
    "base": (768, 768, 12, 1),
}

NAMES = {
    "embeddings.word_embeddings": "embeddings.tokens",
    "embeddings.position_embeddings": "embeddings.positions",
    "embeddings.token_type_embeddings": "embeddings.segments",
    "embeddings.LayerNorm": "embeddings.layer_norm",
    "embeddings_project": "encoder.embedding_projection",
}
LAYER_NAMES = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.self.key_conv_attn_layer.depthwise": "attention.conv_branch.span_key.depthwise",
    "attention.self.key_conv_attn_layer.pointwise": "attention.conv_branch.span_key.pointwise",
    # the bias of the whole separable convolution
    "attention.self.key_conv_attn_layer": "attention.conv_branch.span_key.pointwise",
    "attention.self.conv_kernel_layer": "attention.conv_branch.conv.weight_linear",
    "attention.self.conv_out_layer": "attention.conv_value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_layer_norm",
    "intermediate.dense": "feed_forward.inner",
    "output.dense": "feed_forward.outer",
    "output.LayerNorm": "feed_forward_layer_norm",
}


def transformers_model(architecture: str, seed: int):
    """The model of that name in evaluation mode, every number of it random."""
    family, size = architecture.split("_")
    hidden, embedding, heads, groups = SIZES[size]
    sizes = {
        "hidden_size": hidden,
        "embedding_size": embedding,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": LAYERS,
        "layer_norm_eps": 1e-12,
        # ConvBERT's default, 1, is not the pad of its own vocabulary.
        "pad_token_id": 0,
    }
    if family == "convbert":
        model = ConvBertModel(ConvBertConfig(num_groups=groups, **sizes))
    else:
        model = ElectraModel(ElectraConfig(**sizes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.05, generator=generator)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1)
    return model.eval()


def plugin_state_dict(model) -> dict:
    """The tensors of a model of transformers under this project's names, in its shapes."""
    return dict(_renamed(name, tensor) for name, tensor in model.state_dict().items())


def _renamed(name, tensor):
    module, kind = name.rsplit(".", 1)
    in_layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", module)
    if in_layer is None:
        return f"{NAMES[module]}.{kind}", tensor
    own_name = f"encoder.layers.{in_layer[1]}.{LAYER_NAMES[in_layer[2]]}.{kind}"
    if kind == "bias" or module.endswith("pointwise"):
        # Stored with a last axis of one there, that of a convolution.
        tensor = tensor.reshape(tensor.shape[:2] if kind == "weight" else -1)
    return own_name, tensor
