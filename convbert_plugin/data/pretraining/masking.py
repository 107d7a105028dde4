"""Choose the tokens that the generator must guess."""

from typing import NamedTuple

import numpy as np


class MaskingRecipe(NamedTuple):
    """What becomes of a chosen token: [MASK], a random token, or (the rest) itself."""

    masked: float
    random: float


MASKING_RECIPES = {
    # The released pretrain_helpers.py:105-187.
    "replaced_token_detection": MaskingRecipe(masked=0.85, random=0.0),
    # BERT (Devlin et al. 2019, section 3.1).
    "masked_lm": MaskingRecipe(masked=0.8, random=0.1),
}
# The released limit leaves room for this share above the mean.
MASK_PROBABILITY_MARGIN = 0.005


class Masking(NamedTuple):
    """Positions [M] to guess, and the tokens [T] with the masks written in."""

    positions: np.ndarray
    tokens: np.ndarray


def masked_count(length: int, mask_prob: float, max_length: int) -> int:
    """Tokens to guess in an example of ``length`` tokens, specials counted.

    Source: the released pretrain_helpers.py:132-137 (halves are rounded to even) and
    configure_pretraining.py:93-94.
    """
    limit = int((mask_prob + MASK_PROBABILITY_MARGIN) * max_length)
    return max(1, min(limit, round(mask_prob * length)))


def mask_tokens(
    tokens: np.ndarray,
    candidates: np.ndarray,
    count: int,
    recipe: MaskingRecipe,
    mask_id: int,
    replaceable_ids: np.ndarray,
    with_replacement: bool,
    rng: np.random.Generator,
) -> Masking:
    """Draw ``count`` of the candidate positions and mask them by the recipe.

    Shapes: tokens [T], candidates [N] -> positions [M], tokens [T]. Without replacement M is
    ``min(count, N)``; with it, as released, positions may repeat, and one is masked if any of its
    draws says so.
    """
    if len(candidates) == 0:
        return Masking(np.zeros(0, dtype=np.int64), tokens)
    drawn = count if with_replacement else min(count, len(candidates))
    positions = rng.choice(candidates, size=drawn, replace=with_replacement)
    decisions = rng.random(len(positions))
    masked = tokens.copy()
    random_positions = positions[
        (decisions >= recipe.masked) & (decisions < recipe.masked + recipe.random)
    ]
    masked[random_positions] = rng.choice(replaceable_ids, size=len(random_positions))
    masked[positions[decisions < recipe.masked]] = mask_id
    return Masking(positions, masked)
