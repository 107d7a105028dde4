"""A model from a checkpoint: exactly the parts that the checkpoint holds, and nothing fresh."""

from dataclasses import Field, fields
from enum import Enum
from typing import Any, Callable, Collection, Iterable, Mapping, Optional, Sized, cast

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor
from torch.overrides import TorchFunctionMode

from convbert_plugin.data.vocabulary import Vocabulary, check_same_vocabulary
from convbert_plugin.errors import UserError, shown
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.answers import UNKNOWN, Answers
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint
from convbert_plugin.formats.surgery import is_tiled
from convbert_plugin.models.architectures import released_generator_size
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.parts import GENERATOR, Parts, parts_of, words_for
from convbert_plugin.models.state import POSITION_TABLE, TOKEN_TABLE, tensor_problems
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE

# Three projections, an output, two feed-forward layers and two LayerNorms, with their biases.
FEWEST_TENSORS_OF_LAYER = 16


class _NoRandomNumbers(TorchFunctionMode):
    """Initializers leave tensors as they are.

    For those without storage torch would first import its compiler, which takes over a second.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: tuple[Any, ...] = (),
        keywords: Optional[dict[str, Any]] = None,
    ) -> Any:
        keywords = keywords or {}
        if function.__name__ in ("normal_", "uniform_"):
            return arguments[0] if arguments else keywords["tensor"]
        return function(*arguments, **keywords)


def empty_model(
    model_class: type[BaseFairseqModel], config: ConvBertConfig, vocabulary: Sized, parts: Parts
) -> BaseFairseqModel:
    """A model of these parts whose tensors have names and shapes, and no numbers.

    Of the vocabulary only the length is needed here.

    Raises:
        UserError: sizes that do not fit each other, or beyond what can be counted.
    """
    try:
        with torch.device("meta"), _NoRandomNumbers():
            model = model_class(config, cast(Vocabulary, vocabulary))
            for scope, options in parts.items():
                model.add_part(scope, **options)
    except UserError:
        raise
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        # torch adds a trace of its own to some.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"its sizes make no model ({reason})") from None
    return model


def stored_parts(checkpoint: FairseqCheckpoint, config: ConvBertConfig) -> Parts:
    """The parts of a checkpoint of such a model, with all that builds them again."""
    parts = parts_of(checkpoint.tensors)
    if GENERATOR in parts:
        size = checkpoint.task.get("generator_size")
        parts[GENERATOR]["size"] = released_generator_size(config._name) if size is None else size
    return parts


def empty_model_of(
    model_class: type[BaseFairseqModel],
    checkpoint: FairseqCheckpoint,
    vocabulary: Sized,
    path: PathLike,
) -> BaseFairseqModel:
    """The empty model that a checkpoint describes and its tensors fill without rest.

    Raises:
        UserError: options that make no model, tensors or answers that do not fit them.
    """
    config = config_of(checkpoint.model, checkpoint.tensors, path)
    try:
        parts = stored_parts(checkpoint, config)
        model = empty_model(model_class, config, vocabulary, parts)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if problems := tensor_problems(model.state_dict(), checkpoint.tensors):
        raise UserError(f"{path}: its tensors do not fit its own options ({problems})")
    answers_of(checkpoint, path)
    return model


def load_model(
    model_class: type[BaseFairseqModel],
    checkpoint: FairseqCheckpoint,
    vocabulary: Vocabulary,
    path: PathLike,
) -> BaseFairseqModel:
    """The model of a checkpoint with its tensors, in fp32.

    Raises:
        UserError: as ``empty_model_of``; another vocabulary.
    """
    check_vocabulary(checkpoint, vocabulary, path)
    model = empty_model_of(model_class, checkpoint, vocabulary, path)
    torch.nn.Module.load_state_dict(model, in_fp32(checkpoint.tensors), assign=True)
    model.tag_parameters()
    return model


def check_vocabulary(checkpoint: FairseqCheckpoint, vocabulary: Vocabulary, path: PathLike) -> None:
    """Raise UserError if the checkpoint was trained with another vocabulary."""
    rows = len(checkpoint.tensors.get(TOKEN_TABLE, ()))
    problem = (
        f"{path}: was trained with another vocabulary ({rows:,} symbols) than the tokenizer and "
        f"{DICTIONARY_FILE} beside it have ({len(vocabulary):,}): bring its own back"
    )
    check_same_vocabulary(vocabulary, checkpoint.kept, problem)
    if rows != len(vocabulary):
        raise UserError(problem)


def answers_of(checkpoint: FairseqCheckpoint, path: PathLike) -> dict[str, Answers]:
    """What the outputs of the heads in a sound checkpoint mean, by their scopes.

    Of an earlier version's, or of heads from elsewhere, nothing is known.

    Raises:
        UserError: answers of another number of outputs.
    """
    answers = {}
    for scope, options in parts_of(checkpoint.tensors).items():
        if (outputs := options.get("classes")) is not None:
            answers[scope] = held = checkpoint.answers.get(scope, UNKNOWN)
            if held.are_known and outputs != (len(held.labels) or 1):
                raise UserError(
                    f"{path}: its {words_for(scope)} has {outputs} outputs, and {held}: damaged"
                )
    return answers


def example_length(checkpoint: FairseqCheckpoint, answers: Iterable[Answers]) -> int:
    """To how many tokens the examples of heads with these answers are cut."""
    positions = len(checkpoint.tensors[POSITION_TABLE])
    known = [held.length for held in answers if held.length]
    return min(max(known, default=checkpoint.example_length or positions), positions)


def usable_positions(checkpoint: FairseqCheckpoint) -> int:
    """How many positions of a sound checkpoint were trained, or repeat such."""
    table = checkpoint.tensors[POSITION_TABLE]
    trained = min(checkpoint.trained_positions or len(table), len(table))
    return len(table) if is_tiled(table, trained) else trained


def untrained_positions(path: PathLike, length: int, usable: int) -> str:
    """The line that tells of examples of such a length."""
    return (
        f"{path}: examples of up to {length} tokens reach positions that were never trained, those "
        f"beyond {usable}: cut them there, or repeat the trained ones first by convbert convert "
        f"--from fairseq --to fairseq --max-positions {length} {path} NEW_FOLDER"
    )


def in_fp32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in fp32, each in memory of its own."""
    return {
        name: tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def config_of(values: Mapping, names: Collection[str], path: PathLike) -> ConvBertConfig:
    """The options of a stored model; those that this version does not know are left out.

    Raises:
        UserError: an option of another type, or more layers than there are tensors.
    """
    known = {field.name: field for field in fields(ConvBertConfig) if field.name != "_name"}
    stored = {name: values[name] for name in known if name in values}
    for name, value in stored.items():
        if not _fits(value, known[name]):
            raise UserError(
                f"{path}: its option {name} is {shown(value)}: damaged, or not written here"
            )
    config = ConvBertConfig(**stored)
    architecture = values.get("_name")
    config._name = architecture if isinstance(architecture, str) else None
    check_layers(config.encoder_layers, names, path)
    return config


def check_layers(layers: int, names: Collection[str], path: PathLike) -> None:
    """Raise UserError, before so many layers are built, where the tensors cannot be theirs."""
    if layers * FEWEST_TENSORS_OF_LAYER > len(names):
        raise UserError(
            f"{path}: says {shown(layers)} layers and has only {len(names)} tensors: damaged, or "
            "another model"
        )


def _fits(value: object, field: Field) -> bool:
    kind = cast(type, field.type)
    if issubclass(kind, Enum):
        return value in [choice.value for choice in kind]
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind
