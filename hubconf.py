"""``torch.hub.load(CHECKOUT, "convbert", FOLDER, source="local")``."""

dependencies = ["fairseq", "safetensors", "sentencepiece", "tokenizers", "torch"]


def convbert(folder, checkpoint_file=None):
    """A trained or converted model with its tokenizer, from a folder; see ``from_pretrained``."""
    from convbert_plugin import ConvBertModel

    return ConvBertModel.from_pretrained(folder, checkpoint_file)
