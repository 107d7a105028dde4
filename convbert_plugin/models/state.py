"""Fit a checkpoint's tensors to a model, part by part."""

import logging
import re
from typing import Iterable

from convbert_plugin.errors import UserError
from convbert_plugin.formats.keys import shape_problems

logger = logging.getLogger(__name__)

# Parts that a checkpoint may lack or have in excess: what it says when either is the case.
OPTIONAL_PARTS = {
    r"generator": "generator",
    r"replaced_token_head": "replaced-token head",
    r"masked_lm_head": "masked-LM head",
    r"question_answering_head": "question-answering head",
    r"classification_heads\.([^.]+)": "classification head {0}",
}
CLASSIFICATION_OUTPUT = r"classification_heads\.([^.]+)\.output\.bias"
GENERATOR = "generator"
TOKEN_TABLE = "embeddings.tokens.weight"


def fit_state_dict(model, state_dict: dict):
    """Drop and fill the optional parts of ``state_dict`` in place, then check all the rest.

    A part that the model does not have is dropped; one that the checkpoint does not have keeps
    the model's fresh values, where it takes such. Both are logged.

    Raises:
        UserError: a part that is missing and not taken fresh; tensors that are missing, unknown or
            of another shape, with their names.
    """
    own = model.state_dict()
    held, wanted = optional_parts(state_dict), optional_parts(own)
    for part in [part for part in held if part not in wanted]:
        logger.info(f"the checkpoint's {held[part]} is not used here: dropped")
        for name in _names_of(part, state_dict):
            del state_dict[name]
    missing = [part for part in wanted if part not in held]
    if missing and not model.takes_fresh_parts:
        raise UserError(
            f"the checkpoint has no {wanted[missing[0]]}: train it on this task before it is scored"
        )
    for part in missing:
        logger.warning(f"the checkpoint has no {wanted[part]}: it starts from a fresh one")
        state_dict.update({name: own[name] for name in _names_of(part, own)})
    _check_vocabulary(own, state_dict)
    _check_classification_heads(own, state_dict)
    if problems := tensor_problems(own, state_dict):
        arch = getattr(model.cfg, "_name", None) or "this model"
        if _fits_without(GENERATOR, own, state_dict):
            raise UserError(
                "the checkpoint's generator does not fit: give the --generator-size that it was "
                f"trained with ({problems})"
            )
        raise UserError(
            f"the checkpoint does not fit --arch {arch}: give the --arch and the sizes that it "
            f"was trained with ({problems})"
        )


def optional_parts(names: Iterable[str]) -> dict[str, str]:
    """The optional parts that tensors of these names belong to, with the words for each."""
    parts = {}
    for name in names:
        for pattern, words in OPTIONAL_PARTS.items():
            if found := re.match(rf"{pattern}\.", name):
                parts[found[0][:-1]] = words.format(*found.groups())
    return parts


def _names_of(part: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{part}.")]


def _check_vocabulary(own, state_dict):
    if TOKEN_TABLE in state_dict and len(state_dict[TOKEN_TABLE]) != len(own[TOKEN_TABLE]):
        raise UserError(
            f"the checkpoint's vocabulary has {len(state_dict[TOKEN_TABLE]):,} tokens, this "
            f"data's has {len(own[TOKEN_TABLE]):,}: use data made with the vocabulary of the "
            "checkpoint"
        )


def _check_classification_heads(own, state_dict):
    for name in own:
        found = re.fullmatch(CLASSIFICATION_OUTPUT, name)
        if not found or name not in state_dict:
            continue
        head = f"the checkpoint's classification head {found[1]}"
        there, here = len(state_dict[name]), len(own[name])
        if there != here:
            raise UserError(
                f"{head} has {there} outputs, this task has {here}: prepare the data with the "
                "labels of the checkpoint, or under another name"
            )
        dense = name.replace("output.bias", "dense.bias")
        if (dense in state_dict) != (dense in own):
            kind = "transformers" if dense in state_dict else "released"
            raise UserError(f"{head} is of another kind: add --classification-head {kind}")


def _fits_without(part: str, own, state_dict) -> bool:
    tensors = (own, state_dict)
    return not tensor_problems(
        *({n: t for n, t in some.items() if not n.startswith(f"{part}.")} for some in tensors)
    )


def tensor_problems(own, state_dict) -> str:
    """All of ``state_dict`` that is missing, unknown or of another shape than in ``own``."""
    return shape_problems(_shapes(state_dict), _shapes(own))


def _shapes(tensors) -> dict:
    return {name: tensor.shape for name, tensor in tensors.items()}
