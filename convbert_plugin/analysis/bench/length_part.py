"""How time and memory grow with the length, a batch having as many tokens whatever its length."""

from typing import Iterator

from convbert_plugin.analysis.bench.comparing import Comparison
from convbert_plugin.analysis.bench.encoder_part import encoder_comparison
from convbert_plugin.analysis.bench.plan import TOKENS, Plan

PART = "length"


def length_comparisons(plan: Plan) -> Iterator[Comparison]:
    """Forward and backward of the encoder at every length, for the smallest size that is asked."""
    arch = plan.archs[0]
    for length in plan.sizes.lengths:
        tokens = plan.batch * plan.length if plan.batch else TOKENS[plan.device]
        setting = plan.setting(arch, batch=max(1, tokens // length), length=length)
        title = f"forward + backward, {setting.words}"
        yield encoder_comparison(PART, title, setting, True, plan)
