"""Fit a checkpoint's tensors to a model, part by part."""

import logging

from convbert_plugin.errors import UserError

logger = logging.getLogger(__name__)

# Parts that a checkpoint may lack or have in excess: what it says when either is the case.
OPTIONAL_PARTS = {
    "generator": "generator",
    "replaced_token_head": "replaced-token head",
    "masked_lm_head": "masked-LM head",
}
NAMES_SHOWN = 3


def fit_state_dict(model, state_dict: dict):
    """Drop and fill the optional parts of ``state_dict`` in place, then check all the rest.

    A part that the model does not have is dropped; one that the checkpoint does not have keeps
    the model's fresh values. Both are logged.

    Raises:
        UserError: tensors that are missing, unknown or of another shape, with their names.
    """
    own = model.state_dict()
    for part, words in OPTIONAL_PARTS.items():
        of_part = [name for name in state_dict if name.startswith(f"{part}.")]
        own_of_part = [name for name in own if name.startswith(f"{part}.")]
        if of_part and not own_of_part:
            logger.info(f"the checkpoint's {words} is not used here: dropped")
            for name in of_part:
                del state_dict[name]
        if own_of_part and not of_part:
            logger.warning(f"the checkpoint has no {words}: it starts from a fresh one")
            model.fresh_parts.add(part)
            state_dict.update({name: own[name] for name in own_of_part})
    _check_vocabulary(own, state_dict)
    _check_tensors(model, own, state_dict)


def _check_vocabulary(own, state_dict):
    name = "embeddings.tokens.weight"
    if name in state_dict and len(state_dict[name]) != len(own[name]):
        raise UserError(
            f"the checkpoint's vocabulary has {len(state_dict[name]):,} tokens, this data's has "
            f"{len(own[name]):,}: use data made with the vocabulary of the checkpoint"
        )


def _check_tensors(model, own, state_dict):
    problems = [f"{name} is missing" for name in own if name not in state_dict]
    problems += [f"{name} is unknown" for name in state_dict if name not in own]
    problems += [
        f"{name} is {tuple(state_dict[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state_dict and state_dict[name].shape != tensor.shape
    ]
    if problems:
        shown = "; ".join(problems[:NAMES_SHOWN])
        more = f"; and {len(problems) - NAMES_SHOWN} more" if len(problems) > NAMES_SHOWN else ""
        arch = getattr(model.cfg, "_name", None) or "this model"
        raise UserError(
            f"the checkpoint does not fit --arch {arch}: give the --arch and the sizes that it "
            f"was trained with ({shown}{more})"
        )
