"""How much text a pretraining reads."""

from typing import NamedTuple


class Recipe(NamedTuple):
    """Batches of so many examples, each of so many tokens."""

    batch: int
    length: int
    updates: int = 1_000_000

    @property
    def tokens_of_batch(self) -> int:
        return self.batch * self.length

    @property
    def tokens(self) -> int:
        return self.tokens_of_batch * self.updates

    def hours(self, tokens_per_second: float) -> float:
        return self.tokens / tokens_per_second / 3600


# Source: the released configure_pretraining.py:62-105; for ELECTRA's, Clark et al. 2020, table 6.
RECIPES = {
    "convbert_small": Recipe(128, 128),
    "convbert_medium": Recipe(128, 128),
    "convbert_base": Recipe(256, 128),
    "electra_small": Recipe(128, 128),
    "electra_base": Recipe(256, 512, 766_000),
}
