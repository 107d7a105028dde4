"""The named sizes (reference: the paper's section 4.1, the released training_utils.py:83-105)."""

from typing import Any, Mapping

BASE: Mapping[str, Any] = {
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "embedding_dim": 768,
    "head_ratio": 2,
    "conv_kernel_size": 9,
    "conv_type": "span_dynamic",
    "ffn_groups": 1,
    "max_positions": 512,
}
SMALL: Mapping[str, Any] = {
    **BASE,
    "encoder_embed_dim": 256,
    "encoder_ffn_embed_dim": 1024,
    "encoder_attention_heads": 4,
    "embedding_dim": 128,
}
MEDIUM: Mapping[str, Any] = {
    **SMALL,
    "encoder_embed_dim": 384,
    "encoder_ffn_embed_dim": 1536,
    "encoder_attention_heads": 8,
    "ffn_groups": 2,
}
ELECTRA = {"head_ratio": 1, "conv_type": "none"}

ARCHITECTURES: dict[str, Mapping[str, Any]] = {
    "convbert_small": SMALL,
    "convbert_medium": MEDIUM,
    "convbert_base": BASE,
    "electra_small": {**SMALL, **ELECTRA},
    "electra_base": {**BASE, **ELECTRA},
}


def released_generator_size(architecture: str) -> float:
    """The generator's width as a fraction of the discriminator's."""
    return 1 / 3 if architecture in ("convbert_base", "electra_base") else 1 / 4
