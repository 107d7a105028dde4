"""From any library to any other, by way of a portable model."""

from dataclasses import dataclass, replace
from typing import Callable, Optional

from convbert_plugin.conversion.fairseq_folder import read_fairseq, write_fairseq
from convbert_plugin.conversion.output_folder import whole_folder
from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.conversion.surgery import change_positions, change_vocabulary
from convbert_plugin.conversion.tensorflow_checkpoint import read_tensorflow
from convbert_plugin.conversion.transformers_folder import read_transformers, write_transformers
from convbert_plugin.data.tokenizer import Tokenizer
from convbert_plugin.errors import UserError


@dataclass
class Conversion:
    """What to do on the way. None leaves a thing as the source has it.

    ``tokenizer``: the source's own, where it lies elsewhere. ``head``: the name of the
    classification head. ``network``: discriminator or generator, for transformers.
    ``trained_positions``: the length of the examples in training. ``vocabulary``: the tokenizer
    to map the model to.
    """

    tokenizer: Optional[Tokenizer] = None
    head: Optional[str] = None
    network: str = "discriminator"
    pads_visible: bool = False
    max_positions: Optional[int] = None
    trained_positions: Optional[int] = None
    vocabulary: Optional[Tokenizer] = None


def _read_fairseq(source, options: Conversion) -> PortableModel:
    if options.tokenizer is not None:
        raise UserError("--tokenizer: a folder of this plugin has its own; map it with --vocab")
    return read_fairseq(source)


READERS = {
    "hf": lambda source, options: read_transformers(source, options.tokenizer, options.head),
    "tf": lambda source, options: read_tensorflow(source, options.tokenizer),
    "fairseq": _read_fairseq,
}
WRITERS = {
    "hf": lambda model, folder, o: write_transformers(model, folder, o.network, o.head),
    "fairseq": lambda model, folder, options: write_fairseq(model, folder),
}


def convert(
    source,
    destination,
    origin: str,
    target: str,
    options: Conversion,
    report: Callable[[str], None] = lambda step: None,
) -> list[str]:
    """Read ``source`` as ``origin``, change what the options say, write ``destination``.

    ``origin`` and ``target``: keys of ``READERS`` and ``WRITERS``. ``report`` is told each step.
    Returns lines to tell the user.

    Raises:
        UserError: whatever stands in the way; then ``destination`` is as it was.
    """
    with whole_folder(destination) as folder:
        report("reading")
        model = READERS[origin](source, options)
        read = _size(model)
        report("changing")
        model, lines = _changed(model, options)
        report("writing")
        lines += WRITERS[target](model, folder, options)
    return [f"{destination}: written from {read} of {source}", *lines]


def _changed(model: PortableModel, options: Conversion) -> tuple[PortableModel, list[str]]:
    lines = []
    if options.pads_visible:
        model = replace(model, config=replace(model.config, pads_visible=True))
    if options.trained_positions is not None:
        trained = min(options.trained_positions, model.config.max_positions)
        model = replace(model, trained_positions=trained)
    if options.max_positions is not None:
        model, told = change_positions(model, options.max_positions)
        lines += told
    if options.vocabulary is not None:
        model, told = change_vocabulary(model, options.vocabulary)
        lines += told
    return model, lines


def _size(model: PortableModel) -> str:
    numbers = sum(tensor.numel() for tensor in model.tensors.values())
    return f"{len(model.tensors):,} tensors ({numbers:,} numbers)"
