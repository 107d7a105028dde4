"""What every way in makes and every way out takes: a model without the library it came from."""

from dataclasses import dataclass, field
from typing import Mapping, Optional

import torch
from torch import Tensor

from convbert_plugin.formats.answers import Answers
from convbert_plugin.formats.reading import Reading
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.tokenization.tokenizer import Tokenizer

# In what tensors are kept here, and what else they may be stored in without a loss.
KEPT_DTYPE = "float32"
HALF_DTYPES = ("float16", "bfloat16")


@dataclass
class PortableModel:
    """A model's sizes, tensors and tokenizer.

    ``tensors`` are fp32 and have our names; they say which parts there are (encoder, generator,
    heads). ``generator_size`` is the generator's width as a fraction of the discriminator's, None
    without a generator. ``trained_positions``: examples in training were no longer than that, and
    nothing says so if it is ``assumed``; ``example_length``: to how many they were cut, where that
    is known. ``transformers_config`` is the config.json that the model came with, empty if it
    had none. ``answers``: what the outputs of its heads mean, by their scopes. ``reading``: how it
    reads the contexts of questions, where that is known. ``remarks``: what to tell of how it was
    read and changed.
    """

    config: ConvBertConfig
    tensors: dict[str, Tensor]
    tokenizer: Tokenizer
    trained_positions: int
    generator_size: Optional[float] = None
    transformers_config: dict = field(default_factory=dict)
    trained_positions_assumed: bool = False
    example_length: Optional[int] = None
    answers: Mapping[str, Answers] = field(default_factory=dict)
    reading: Optional[Reading] = None
    remarks: tuple[str, ...] = ()


def dtypes_of(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the dtypes of tensors, each once."""
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})


def precision_remarks(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What to tell of a source of these tensors, where they cannot be written as they were."""
    dtypes = dtypes_of(tensors)
    if len(dtypes) == 1 and dtypes[0] in (KEPT_DTYPE, *HALF_DTYPES):
        return ()
    is_exact = all(
        torch.equal(tensor.float().to(tensor.dtype), tensor) for tensor in tensors.values()
    )
    outcome = "all their numbers fit" if is_exact else "rounded"
    return (
        f"the {' and '.join(dtypes)} tensors of the source are kept in {KEPT_DTYPE}: {outcome}",
    )
