"""How time and memory grow with the length, a batch having as many tokens whatever its length."""

from dataclasses import replace
from pathlib import Path
from typing import Iterator

from convbert_plugin.analysis.bench.comparing import Comparison
from convbert_plugin.analysis.bench.encoder_part import encoder_comparison
from convbert_plugin.analysis.bench.plan import TOKENS, Plan, write_data

PART = "length"


def length_comparisons(plan: Plan) -> Iterator[Comparison]:
    """Forward and backward of the encoder at every length, for the smallest size that is asked."""
    arch = plan.archs[0]
    for length in plan.sizes.lengths:
        tokens = plan.batch * plan.length if plan.batch else TOKENS[plan.device]
        batch = max(1, tokens // length)
        setting = plan.setting(arch, batch=batch, length=length, data=_text(plan, batch, length))
        title = f"forward + backward, {setting.words}"
        yield encoder_comparison(PART, title, setting, True, plan)


def _text(plan: Plan, batch: int, length: int) -> str:
    """A folder of as many documents as a batch has, each as long as an example."""
    folder = Path(plan.data) / f"of_{length}"
    if not folder.exists():
        sizes = replace(plan.sizes, examples=((plan.device, batch),))
        write_data(folder, replace(plan, length=length, sizes=sizes))
    return str(folder)
