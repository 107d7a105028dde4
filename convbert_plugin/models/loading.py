"""A model from a checkpoint: exactly the parts that the checkpoint holds, and nothing fresh."""

from dataclasses import fields
from enum import Enum
from typing import Collection, Mapping, NamedTuple, Optional

import torch

from convbert_plugin.errors import UserError, shown
from convbert_plugin.formats.fairseq_checkpoint import FairseqCheckpoint
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.state import TOKEN_TABLE, tensor_problems
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE

CLASSIFICATION_HEAD = "classification_heads."
# Three projections, an output, two feed-forward layers and two LayerNorms, with their biases.
FEWEST_TENSORS_OF_LAYER = 16


class Head(NamedTuple):
    """What makes a classification head."""

    classes: int
    kind: str


class Parts(NamedTuple):
    """What a model has beside its encoder."""

    generator: bool = False
    replaced_token_head: bool = False
    masked_lm_head: bool = False
    question_answering_head: bool = False
    classification_heads: Mapping[str, Head] = {}


def parts_of(tensors: Mapping[str, torch.Tensor]) -> Parts:
    """The parts that tensors of our names make up."""
    first_words = {name.split(".")[0] for name in tensors}
    heads = {
        name.split(".")[1]: Head(
            classes=len(tensor),
            kind="transformers" if _dense_of(name) in tensors else "released",
        )
        for name, tensor in tensors.items()
        if name.startswith(CLASSIFICATION_HEAD) and name.endswith(".output.bias")
    }
    words = (part for part in Parts._fields if part != "classification_heads")
    return Parts(**{part: part in first_words for part in words}, classification_heads=heads)


def _dense_of(output_bias: str) -> str:
    return output_bias.replace(".output.bias", ".dense.weight")


def empty_model(
    model_class,
    config: ConvBertConfig,
    vocabulary,
    parts: Parts,
    generator_size: Optional[float] = None,
):
    """A model of these parts whose tensors have names and shapes, and no numbers.

    Of the vocabulary only the length is needed here.

    Raises:
        UserError: sizes that do not fit each other, or beyond what can be counted.
    """
    try:
        with torch.device("meta"):
            return _with_parts(model_class(config, vocabulary), parts, generator_size)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        # torch adds a trace of its own to some.
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"its sizes make no model ({reason})") from None


def _with_parts(model, parts: Parts, generator_size):
    if parts.generator:
        model.add_generator(generator_size)
        model.replaced_token_head = None
    if parts.replaced_token_head:
        model.add_replaced_token_head()
    if parts.masked_lm_head:
        model.add_masked_lm_head()
    if parts.question_answering_head:
        model.add_question_answering_head()
    for name, head in parts.classification_heads.items():
        model.register_classification_head(name, head.classes, head.kind)
    return model


def empty_model_of(model_class, checkpoint: FairseqCheckpoint, vocabulary, path):
    """The empty model that a checkpoint describes and its tensors fill without rest.

    Raises:
        UserError: options that make no model, tensors that do not fit them.
    """
    config = config_of(checkpoint.model, checkpoint.tensors, path)
    size = checkpoint.task.get("generator_size")
    try:
        model = empty_model(model_class, config, vocabulary, parts_of(checkpoint.tensors), size)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if problems := tensor_problems(model.state_dict(), checkpoint.tensors):
        raise UserError(f"{path}: its tensors do not fit its own options ({problems})")
    return model


def load_model(model_class, checkpoint: FairseqCheckpoint, vocabulary, path):
    """The model of a checkpoint with its tensors, in fp32.

    Raises:
        UserError: as ``empty_model_of``; another vocabulary.
    """
    check_vocabulary(checkpoint, vocabulary, path)
    model = empty_model_of(model_class, checkpoint, vocabulary, path)
    torch.nn.Module.load_state_dict(model, in_fp32(checkpoint.tensors), assign=True)
    model.tag_parameters()
    return model


def check_vocabulary(checkpoint: FairseqCheckpoint, vocabulary, path):
    """Raise UserError if the checkpoint was trained with another vocabulary."""
    rows = len(checkpoint.tensors.get(TOKEN_TABLE, ()))
    is_other = checkpoint.vocabulary not in (None, vocabulary.fingerprint())
    if is_other or rows != len(vocabulary):
        raise UserError(
            f"{path}: was trained with another vocabulary ({rows:,} symbols) than the "
            f"{DICTIONARY_FILE} beside it ({len(vocabulary):,}): bring its own back"
        )


def in_fp32(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors in fp32, each in memory of its own."""
    return {
        name: tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def config_of(values: Mapping, names: Collection[str], path) -> ConvBertConfig:
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
    name = values.get("_name")
    config._name = name if isinstance(name, str) else None
    check_layers(config.encoder_layers, names, path)
    return config


def check_layers(layers: int, names: Collection[str], path):
    """Raise UserError, before so many layers are built, where the tensors cannot be theirs."""
    if layers * FEWEST_TENSORS_OF_LAYER > len(names):
        raise UserError(
            f"{path}: says {shown(layers)} layers and has only {len(names)} tensors: damaged, or "
            "another model"
        )


def _fits(value, field) -> bool:
    if issubclass(field.type, Enum):
        return value in [choice.value for choice in field.type]
    if field.type is float:
        return type(value) in (int, float)
    return type(value) is field.type
