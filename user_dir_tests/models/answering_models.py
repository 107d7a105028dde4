"""Small models that answer questions, as folders of this project."""

from pathlib import Path
from typing import Optional

from convbert_plugin.conversion.fairseq_folder import write_fairseq
from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.models.loading import config_of
from convbert_plugin.models.parts import QUESTION_ANSWERING_HEAD
from convbert_plugin.tokenization.wordpiece import WordPieceTokenizer
from user_dir_tests.models.building import model_of, randomize

SIZES = {
    "encoder_layers": 2,
    "encoder_embed_dim": 40,
    "encoder_ffn_embed_dim": 56,
    "encoder_attention_heads": 8,
    "embedding_dim": 14,
}


def save_answering_model(
    folder: Path, kind: Optional[str], pieces, reading=None, trained=None, seed=1, **changes
):
    """Write a model with random numbers over WordPieces, and return its folder.

    ``kind``: that of its head, None for a model without one. Matrices are so large that logits of
    neighbours differ a lot, as of a trained model.
    """
    architecture = changes.pop("architecture", "convbert_small")
    model = model_of(architecture, len(pieces), **{"max_positions": 37, **SIZES, **changes})
    if kind is not None:
        model.add_part(QUESTION_ANSWERING_HEAD, kind=kind)
    randomize(model, seed, std=0.3)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = config_of({**vars(model.cfg)}, tensors, "model")
    folder.mkdir()
    tokenizer = WordPieceTokenizer(list(pieces))
    trained = trained or config.max_positions
    write_fairseq(PortableModel(config, tensors, tokenizer, trained, reading=reading), folder)
    return folder
