"""From any library to any other, by way of a portable model."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from convbert_plugin.conversion.fairseq_folder import read_fairseq, write_fairseq
from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.conversion.resizing import change_positions, change_vocabulary
from convbert_plugin.conversion.tensorflow_checkpoint import read_tensorflow
from convbert_plugin.conversion.transformers_folder import (
    CONFIG_FILE,
    read_transformers,
    write_transformers,
)
from convbert_plugin.errors import UserError
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.files.whole_output import whole_folder
from convbert_plugin.formats.finding import CHECKPOINT_FILES, INDEX, MODEL_FILE
from convbert_plugin.tokenization.tokenizer import Tokenizer


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


def _read_fairseq(source: PathLike, options: Conversion) -> PortableModel:
    if options.tokenizer is not None:
        raise UserError("--tokenizer: a folder of this plugin has its own; map it with --vocab")
    return read_fairseq(source)


READERS = {
    "hf": lambda source, options: read_transformers(source, options.tokenizer, options.head),
    "tf": lambda source, options: read_tensorflow(source, options.tokenizer),
    "fairseq": _read_fairseq,
}
# Whether a source looks like what a reader takes.
SIGNS = {
    "hf": lambda source: (source / CONFIG_FILE).is_file(),
    "tf": lambda source: (
        any(source.glob(f"*{INDEX}"))
        or (source.is_file() and source.suffix == INDEX)
        or Path(f"{source}{INDEX}").is_file()
    ),
    "fairseq": lambda source: (
        any((source / name).is_file() for name in CHECKPOINT_FILES)
        or (source.is_file() and source.suffix == Path(MODEL_FILE).suffix)
    ),
}
WRITERS = {
    "hf": lambda model, folder, o: write_transformers(model, folder, o.network, o.head),
    "fairseq": lambda model, folder, options: write_fairseq(model, folder),
}


def convert(
    source: PathLike,
    destination: PathLike,
    origin: str,
    target: str,
    options: Conversion,
    report: Callable[[str], None] = lambda step: None,
) -> list[str]:
    """Read ``source`` as ``origin``, change what the options say, write ``destination``.

    ``origin`` and ``target``: keys of ``READERS`` and ``WRITERS``. ``report`` is told of each step
    before it begins. Returns lines to tell the user.

    Raises:
        UserError: whatever stands in the way; then ``destination`` is as it was.
    """
    with whole_folder(destination) as folder:
        report("reading")
        _check_origin(Path(source), origin)
        model = READERS[origin](source, options)
        numbers = sum(tensor.numel() for tensor in model.tensors.values())
        read = f"{len(model.tensors):,} tensors ({numbers:,} numbers)"
        assumed = _assumed(model, target, options)
        report("changing")
        model = _changed(model, options)
        report("writing")
        lines = WRITERS[target](model, folder, options)
    return [f"{destination}: written from {read} of {source}", *lines, *model.remarks, *assumed]


def _check_origin(source: Path, origin: str) -> None:
    """Raise UserError where a source looks like that of another reader alone."""
    signs = [name for name, is_seen in SIGNS.items() if is_seen(source)]
    if signs and origin not in signs:
        raise UserError(f"{source}: not what --from {origin} takes: try --from {signs[0]}")


def _changed(model: PortableModel, options: Conversion) -> PortableModel:
    length, positions = options.trained_positions, model.config.max_positions
    if options.pads_visible:
        model = replace(model, config=replace(model.config, pads_visible=True))
    if length is not None:
        if length > positions:
            raise UserError(f"--trained-length {length}: this model has only {positions} positions")
        model = replace(model, trained_positions=length, example_length=None)
    if options.max_positions is not None:
        model = change_positions(model, options.max_positions)
    if options.vocabulary is not None:
        model = change_vocabulary(model, options.vocabulary)
    return model


def _assumed(model: PortableModel, target: str, options: Conversion) -> list[str]:
    """What was assumed of the source, as far as it shows in what is written, and what does not."""
    lines = []
    is_used = target == "fairseq" or options.max_positions is not None
    if model.trained_positions_assumed and options.trained_positions is None and is_used:
        lines.append(
            f"assuming that all {model.trained_positions} positions were trained: say "
            "--trained-length if fewer were"
        )
    if options.pads_visible and target == "hf":
        lines.append("--pads-visible changes nothing here: transformers always shows pads")
    return lines
