"""ConvBERT and ELECTRA of transformers with random weights, in memory and as folders."""

from pathlib import Path

import torch
import transformers

from convbert_plugin.formats.keys import transformers_names
from convbert_plugin.models.parts import KEYS

LAYERS = 12

# hidden size, embedding size, heads, feed-forward groups
SIZES = {
    "small": (256, 128, 4, 1),
    "medium": (384, 128, 8, 2),
    "base": (768, 768, 12, 1),
}

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# What config.json says of a vocabulary.
SPECIAL_IDS = {"pad_token_id": "[PAD]", "bos_token_id": "[CLS]", "eos_token_id": "[SEP]"}
WORDS = [f"{a}{b}" for a in "bcdfghjklmnpqrstvwxz" for b in "aeiouy"]
# BERT's vocabulary starts with [PAD] too; the other special tokens stand anywhere.
VOCABULARY = [SPECIALS[0], *WORDS[:40], *SPECIALS[1:], *WORDS[40:], ".", ",", "##s", "##ed"]
# Odd and unequal, so that a swapped dimension fails.
TOY = {
    "hidden_size": 40,
    "embedding_size": 14,
    "num_attention_heads": 8,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "max_position_embeddings": 37,
}
TOY_CONVBERT = {**TOY, "conv_kernel_size": 5, "num_groups": 2}
CLASSES = {
    "convbert": (
        *("ConvBertModel", "ConvBertForMaskedLM"),
        *("ConvBertForSequenceClassification", "ConvBertForQuestionAnswering"),
    ),
    "electra": (
        *("ElectraModel", "ElectraForPreTraining", "ElectraForMaskedLM"),
        *("ElectraForSequenceClassification", "ElectraForQuestionAnswering"),
    ),
}


def sizes_of(architecture: str) -> dict:
    """The options of transformers for one of our architectures."""
    family, size = architecture.split("_")
    hidden, embedding, heads, groups = SIZES[size]
    sizes = {
        "hidden_size": hidden,
        "embedding_size": embedding,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": LAYERS,
    }
    return {**sizes, "num_groups": groups} if family == "convbert" else sizes


def transformers_model(architecture: str, seed: int):
    """The encoder of that name in evaluation mode, every number of it random."""
    family = architecture.split("_")[0]
    return random_model(CLASSES[family][0], seed, **sizes_of(architecture))


def random_model(class_name: str, seed: int, **options):
    """A model of transformers in evaluation mode, every number of it random."""
    prefix = "ConvBert" if class_name.startswith("ConvBert") else "Electra"
    # ConvBERT's default of 1 is not the pad of its own vocabulary.
    config = getattr(transformers, f"{prefix}Config")(pad_token_id=0, **options)
    model = getattr(transformers, class_name)(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(std=0.05, generator=generator)
            if name.endswith("LayerNorm.weight"):
                parameter.add_(1)
    return model.eval()


def toy_model(class_name: str, seed: int = 1, **options):
    """A small one, over the vocabulary above."""
    toy = TOY_CONVBERT if class_name.startswith("ConvBert") else TOY
    return random_model(class_name, seed, **{**toy, "vocab_size": len(VOCABULARY), **options})


def save_folder(model, folder: Path, vocabulary=VOCABULARY) -> Path:
    """What transformers writes of a model of that vocabulary, with a vocab.txt beside it."""
    for name, symbol in SPECIAL_IDS.items():
        setattr(model.config, name, vocabulary.index(symbol))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{symbol}\n" for symbol in vocabulary))
    return folder


def plugin_state_dict(theirs, ours) -> dict:
    """The tensors of an encoder of transformers, for a model of ours of the same sizes."""
    return KEYS.to_own(theirs.state_dict(), ours.state_dict(), transformers_names(""))
