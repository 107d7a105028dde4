"""Fit a checkpoint's tensors to a model, part by part."""

import logging
from typing import Iterable, Mapping, Optional

from fairseq.models import BaseFairseqModel
from torch import Tensor

from convbert_plugin.errors import UserError
from convbert_plugin.formats.keys import shape_problems, shapes_of
from convbert_plugin.formats.surgery import tile_positions
from convbert_plugin.models.parts import (
    GENERATOR,
    Options,
    part_at,
    parts_of,
    scopes_of,
    words_for,
)

logger = logging.getLogger(__name__)

TOKEN_TABLE, POSITION_TABLE = "embeddings.tokens.weight", "embeddings.positions.weight"
# Option of a part -> what to say where that of a checkpoint is another one than is wanted.
OPTION_PROBLEMS = {
    "classes": "has {there} outputs, this task has {here}: prepare the data with the labels of the "
    "checkpoint, or under another name",
    "kind": "is of another kind: add {flag} {there}",
}


def fit_state_dict(model: BaseFairseqModel, state_dict: dict[str, Tensor]) -> None:
    """Drop and fill the optional parts of ``state_dict`` in place, then check all the rest.

    A part that the model does not have is dropped; one that the checkpoint does not have keeps
    the model's fresh values, where it takes such. Both are logged. Positions are repeated where
    the model is told from which one on.

    Raises:
        UserError: a part that is missing and not taken fresh; tensors that are missing, unknown or
            of another shape, with their names; options that make another model of the same
            tensors than of those that the model is told to be ``trained_as``.
    """
    own = model.state_dict()
    held, wanted = scopes_of(state_dict), scopes_of(own)
    for scope in [scope for scope in held if scope not in wanted]:
        logger.info(f"the checkpoint's {words_for(scope)} is not used here: dropped")
        for name in _names_of(scope, state_dict):
            del state_dict[name]
    missing = [scope for scope in wanted if scope not in held]
    if missing and not model.takes_fresh_parts:
        raise UserError(
            f"the checkpoint has no {words_for(missing[0])}: train it on this task before it is "
            "scored"
        )
    for scope in missing:
        logger.warning(f"the checkpoint has no {words_for(scope)}: it starts from a fresh one")
        state_dict.update({name: own[name] for name in _names_of(scope, own)})
    _check_vocabulary(own, state_dict)
    if model.repeats_positions is not None and POSITION_TABLE in state_dict:
        table, rows = state_dict[POSITION_TABLE], len(own[POSITION_TABLE])
        state_dict[POSITION_TABLE] = tile_positions(table, rows, model.repeats_positions)
    for scope, options in parts_of(own).items():
        if problem := part_problem(scope, parts_of(state_dict)[scope], options):
            raise UserError(problem)
    if problems := tensor_problems(own, state_dict):
        arch = getattr(model.cfg, "_name", None) or "this model"
        if not tensor_problems(_without(GENERATOR, own), _without(GENERATOR, state_dict)):
            raise UserError(
                "the checkpoint's generator does not fit: give the --generator-size that it was "
                f"trained with ({problems})"
            )
        raise UserError(
            f"the checkpoint does not fit --arch {arch}: give the --arch and the sizes that it "
            f"was trained with ({problems})"
        )
    shapes = model.shapes()
    for stack, shape in model.trained_as.items():
        if stack in shapes and (problem := shape.unlike(shapes[stack])):
            raise UserError(
                f"the checkpoint's {stack} was trained with {problem}: its tensors fit and would "
                "be another model's: give the options that it was trained with"
            )


def part_problem(scope: str, there: Options, here: Options) -> Optional[str]:
    """Why a checkpoint's part of these options is not the one that is wanted; None where it is."""
    for option, words in OPTION_PROBLEMS.items():
        if there.get(option) != here.get(option):
            told = words.format(
                there=there[option], here=here[option], flag=part_at(scope).kind_flag
            )
            return f"the checkpoint's {words_for(scope)} {told}"
    return None


def _names_of(scope: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{scope}.")]


def _check_vocabulary(own: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> None:
    here = len(own[TOKEN_TABLE])
    there = len(state_dict.get(TOKEN_TABLE, own[TOKEN_TABLE]))
    if there != here:
        raise UserError(
            f"the checkpoint's vocabulary has {there:,} tokens, this data's has {here:,}: use data "
            "made with the vocabulary of the checkpoint"
        )


def _without(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: tensor for n, tensor in tensors.items() if not n.startswith(f"{part}.")}


def tensor_problems(own: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> str:
    """All of ``state_dict`` that is missing, unknown or of another shape than in ``own``."""
    return shape_problems(shapes_of(state_dict), shapes_of(own))
