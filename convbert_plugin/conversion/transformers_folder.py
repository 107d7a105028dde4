"""A folder as transformers reads and writes it: config.json, the tensors, the tokenizer's files."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Iterable, Mapping, Optional, Sequence

import torch
from torch import Tensor

from convbert_plugin.conversion.portable import (
    HALF_DTYPES,
    KEPT_DTYPE,
    PortableModel,
    dtypes_of,
    precision_remarks,
)
from convbert_plugin.conversion.transformers_heads import own_heads, their_heads
from convbert_plugin.errors import UserError, listed, readable
from convbert_plugin.files.json_files import read_json_object
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats import transformers_config
from convbert_plugin.formats.answers import ANSWERS, UNKNOWN, Answers, answers_kept
from convbert_plugin.formats.keys import foreign_names, transformers_names
from convbert_plugin.formats.reading import READING, reading_kept, to_keep
from convbert_plugin.formats.safe_loading import checked_tensors, load_pickled, load_safetensors
from convbert_plugin.formats.tensor_writing import save_safetensors
from convbert_plugin.models.config import ConvBertConfig, stack_shape
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import check_layers, empty_model, in_fp32
from convbert_plugin.models.parts import (
    GENERATOR,
    GENERATOR_SCOPES,
    KEYS,
    MASKED_LM_HEAD,
    PARTS,
    QUESTION_ANSWERING_HEAD,
    Part,
    Parts,
    names_in,
    part_at,
    parts_of,
    words_for,
)
from convbert_plugin.tokenization.tokenizer import Tokenizer, check_rows, load_tokenizer
from convbert_plugin.tokenization.tokenizer_writing import takes_text_alone, transformers_files

CONFIG_FILE = "config.json"
# The one that came with a model, for errors.
SOURCE_CONFIG = f"the source's {CONFIG_FILE}"
TENSORS_FILE = "model.safetensors"
LOADERS = {TENSORS_FILE: load_safetensors, "pytorch_model.bin": load_pickled}
# Buffers that older versions stored.
COUNTED_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
TOKEN_TABLE = "embeddings.word_embeddings.weight"
TIED_MATRIX = "generator_lm_head.weight"
# fairseq's own name for the head of a model that has one.
DEFAULT_HEAD = "sentence_classification_head"

BARE_CLASS_SUFFIX = "Model"
# What would make transformers run foreign code, or take plain tensors for packed ones.
NOT_PASSED_ON = ("auto_map", "quantization_config")


def read_transformers(
    source: PathLike, tokenizer: Optional[Tokenizer] = None, head_name: Optional[str] = None
) -> PortableModel:
    """The model of a folder of transformers, ConvBERT or Electra, with the head that it has.

    ``tokenizer`` stands for the folder's own. A classification head is called ``head_name``.

    Raises:
        UserError: a file that is missing, damaged, not safe to load or does not fit the others;
            a model that cannot be represented here.
    """
    folder, config_path = Path(source), Path(source) / CONFIG_FILE
    if not config_path.exists():
        raise UserError(f"{config_path} is missing: give a folder that transformers wrote")
    config = read_json_object(config_path)
    options = transformers_config.own_options(config, config_path)
    if config["model_type"] == "convbert":
        options |= own_heads(options, config_path)
    # Used on the way out, and stored until then.
    transformers_config.dtype_name(config, config_path)
    path, tensors = _read_tensors(folder)
    parts = _parts(tensors, head_name)
    check_layers(options["encoder_layers"], tensors, config_path)
    rows = transformers_config.vocabulary_size(config, config_path)
    tokenizer = tokenizer or load_tokenizer(folder)
    check_rows(tokenizer, rows, config_path)
    if head_name is not None and not any(part_at(scope).is_named for scope in parts):
        raise UserError(f"--head {head_name}: {path} has no classification head: drop it")
    own_config = ConvBertConfig(**options)
    has_body = any(name.startswith(f"{config['model_type']}.") for name in tensors)
    body = config["model_type"] if has_body else ""
    tensors = _without_tied_matrix(tensors, body, path)
    try:
        # A range has the length of a vocabulary, and no more is needed of one.
        model = empty_model(ConvBertModel, own_config, range(rows), parts)
    except UserError as error:
        line = transformers_config.in_their_words(str(error))
        raise UserError(f"{config_path}: {line}") from None
    try:
        own = KEYS.to_own(tensors, model.state_dict(), transformers_names(body))
    except UserError as error:
        _check_class(config, config_path)
        raise UserError(f"{path}: does not fit {CONFIG_FILE}: {error}") from None
    _check_labels(config, config_path, own, path)
    return PortableModel(
        config=own_config,
        tensors=in_fp32(own),
        tokenizer=tokenizer,
        trained_positions=transformers_config.trained_positions(config, config_path),
        trained_positions_assumed=transformers_config.TRAINED_POSITIONS not in config,
        transformers_config=transformers_config.with_dtype(config, _stored_dtype(tensors)),
        answers=_answers(config, config_path, parts),
        reading=reading_kept(config, config_path) if QUESTION_ANSWERING_HEAD in parts else None,
        remarks=(*_class_remarks(config, parts, config_path), *precision_remarks(tensors)),
    )


def _answers(config: Mapping, path: Path, parts: Parts) -> dict[str, Answers]:
    """What config.json says of the outputs of a classification head, where there is one."""
    said, labels = config.get(ANSWERS, {}), transformers_config.labels_in(config)
    if isinstance(said, dict):
        said = {**UNKNOWN._asdict(), **said, "labels": labels}
    scopes = [scope for scope in parts if part_at(scope).is_named]
    answers = answers_kept({ANSWERS: dict.fromkeys(scopes, said)}, path)
    return {scope: told for scope, told in answers.items() if told != UNKNOWN}


def _read_tensors(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    for name, load in LOADERS.items():
        # What is there and no file is refused by what reads it.
        if os.path.lexists(folder / name):
            return folder / name, checked_tensors(
                load(folder / name), folder / name, COUNTED_BUFFERS
            )
        if (folder / f"{name}.index.json").is_file():
            raise UserError(
                f"{folder}: its tensors are cut into several files: load it in transformers and "
                "save it again with max_shard_size='100GB'"
            )
    raise UserError(f"{folder}: {' or '.join(LOADERS)} is missing in it")


def _check_labels(config: Mapping, config_path: Path, own: Mapping, path: Path) -> None:
    """Raise UserError where there are other labels than rows of the head."""
    said = transformers_config.label_count(config, config_path)
    for scope in (scope for scope in parts_of(own) if part_at(scope).has_labels):
        rows = len(own[f"{scope}.output.bias"])
        if said not in (None, rows):
            raise UserError(
                f"{config_path}: says {said} labels, and the {words_for(scope)} in {path.name} has "
                f"{rows} rows: correct num_labels or id2label"
            )


def _class_said(config: Mapping) -> Optional[str]:
    """The class that a model was saved from, where its config.json says it."""
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes else None
    return name if isinstance(name, str) else None


def _check_class(config: Mapping, path: Path) -> None:
    """Raise UserError where the class of a model has a head that has no counterpart here."""
    name = _class_said(config)
    heads = [part.transformers_class for part in PARTS if part.transformers_class]
    if name is not None and not name.endswith((*heads, BARE_CLASS_SUFFIX)):
        raise UserError(
            f"{path}: the head of {readable(name)} is not supported here: only "
            f"{', '.join(heads)} and models without a head are"
        )


def _class_remarks(config: Mapping, scopes: Iterable[str], path: Path) -> tuple[str, ...]:
    """What to tell where the tensors are those of another class than the model was saved from."""
    name = _class_said(config)
    held = [_class_of(config["model_type"], scope) for scope in [*scopes] or [""]]
    if name is None or name.removeprefix("TF").removeprefix("Flax") in held:
        return ()
    return (f"{path}: says {readable(name)}, and its tensors are taken as those of {held[0]}",)


def _class_of(model_type: str, scope: str) -> str:
    suffix = (scope and part_at(scope).transformers_class) or BARE_CLASS_SUFFIX
    return transformers_config.MODEL_TYPES[model_type].class_prefix + suffix


def _stored_dtype(tensors: Mapping) -> str:
    """The dtype in which a model of these tensors is told to be stored, and kept."""
    dtypes = dtypes_of(tensors)
    return dtypes[0] if len(dtypes) == 1 and dtypes[0] in HALF_DTYPES else KEPT_DTYPE


def _without_tied_matrix(tensors: Mapping, body: str, path: Path) -> dict:
    """The tensors less the softmax matrix that is the token table."""
    prefix = f"{body}." if body else ""
    kept = dict(tensors)
    tied, table = kept.pop(TIED_MATRIX, None), kept.get(prefix + TOKEN_TABLE)
    if tied is not None and (table is None or not torch.equal(tied, table)):
        raise UserError(
            f"{path}: {TIED_MATRIX} is not {prefix + TOKEN_TABLE}: the model here has one table "
            "for both"
        )
    return kept


def _parts(tensors: Mapping, head_name: Optional[str]) -> Parts:
    """The heads that tensors of their names make up."""
    parts: Parts = {}
    for part in PARTS:
        names = foreign_names(part.keys, transformers_names(""))
        if part.transformers_class is None or tensors.keys().isdisjoint(names.values()):
            continue
        scope = f"{part.name}.{head_name or DEFAULT_HEAD}" if part.is_named else part.name
        found = {ours: tensors[theirs] for ours, theirs in names.items() if theirs in tensors}
        parts[scope] = {**part.options_of(found.get), **part.transformers_options}
    return parts


def write_transformers(
    model: PortableModel, folder: Path, network: str = "discriminator", head: Optional[str] = None
) -> list[str]:
    """Write the folder from which ``AutoModel`` and ``AutoTokenizer`` load one of the networks.

    Returns lines to tell: what was written, what could not be and why.

    Raises:
        UserError: a network or a head that is not there, or that transformers cannot represent.
    """
    if network == "generator":
        model = generator_alone(model)
    scope, lines = _choose_head(model, head)
    config = _config_of(model, scope)
    kept = ("embeddings.", "encoder.", *([f"{scope}."] if scope else []))
    names = transformers_names(config["model_type"] if scope else "")
    own = {name: tensor for name, tensor in model.tensors.items() if name.startswith(kept)}
    name = transformers_config.dtype_name(config, SOURCE_CONFIG)
    if not all(_holds(getattr(torch, name), tensor) for tensor in own.values()):
        lines.append(f"written in {KEPT_DTYPE}: {name}, as the source was, would change numbers")
        name = KEPT_DTYPE
        config = transformers_config.with_dtype(config, name)
    tensors = {
        foreign: tensor.to(getattr(torch, name)).contiguous()
        for foreign, tensor in KEYS.from_own(own, names).items()
    }
    save_safetensors(tensors, folder / TENSORS_FILE)
    config_text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    tokenizer_files = transformers_files(
        model.tokenizer, model.config.max_positions, fills_masks=scope == MASKED_LM_HEAD
    )
    for name, content in {CONFIG_FILE: config_text.encode(), **tokenizer_files}.items():
        (folder / name).write_bytes(content)
    if not takes_text_alone(tokenizer_files):
        further = model.tokenizer.further_specials
        lines.append(
            f"transformers takes {' '.join(model.tokenizer.specials.values())} in a text for "
            "special tokens: give its tokenizer split_special_tokens=True for texts that may hold "
            "them as text" + (f", which cuts {listed(further)} too" if further else "")
        )
    if model.config.conv_type != "none" and not model.config.pads_visible:
        lines.append(
            "transformers lets pads into the convolution: text without pads gives the same "
            "features there, padded text others near the pads"
        )
    return [f"the {network} as {config['architectures'][0]}", *lines]


def _holds(dtype: torch.dtype, tensor: Tensor) -> bool:
    """Whether all numbers of an fp32 tensor are numbers of ``dtype``."""
    return torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def generator_alone(model: PortableModel) -> PortableModel:
    """The generator as a masked-language model of its own, with the embeddings that it shares."""
    if model.generator_size is None:
        raise UserError(
            "--network generator: there is none in this model: give a checkpoint of a pretraining"
        )
    shape = stack_shape(model.config).generator(model.generator_size)
    config = replace(
        model.config,
        encoder_embed_dim=shape.hidden,
        encoder_ffn_embed_dim=shape.ffn_hidden,
        encoder_attention_heads=shape.heads,
    )
    tensors = {
        new_scope + name.removeprefix(scope): tensor
        for scope, new_scope in GENERATOR_SCOPES.items()
        for name, tensor in model.tensors.items()
        if name.startswith(scope)
    }
    return PortableModel(config, tensors, model.tokenizer, model.trained_positions)


def _choose_head(model: PortableModel, name: Optional[str]) -> tuple[str, list[str]]:
    """The scope of the head that goes to transformers (empty: no head), and what is left out."""
    parts = parts_of(model.tensors)
    heads = [name for part in PARTS if part.is_named for name in names_in(parts, part.name)]
    name = _named_head(heads, name)
    model_type = transformers_config.type_of(asdict(model.config))
    possible, lines = [], []
    for part in PARTS:
        scope = f"{part.name}.{name}" if part.is_named else part.name
        if scope not in parts or part.transformers_class is None:
            continue
        if reason := _why_not(part, parts[scope], model_type):
            lines.append(f"left out: the {words_for(scope)}: {reason}")
        else:
            possible.append(scope)
    lines += [
        f"left out: the {words_for(scope)}: a model of transformers has one head"
        for scope in possible[1:]
    ]
    if GENERATOR in parts:
        lines.append("left out: the generator: --network generator exports it")
    return next(iter(possible), ""), lines


def _why_not(part: Part, options: Mapping, model_type: str) -> Optional[str]:
    if model_type not in part.transformers_models:
        return "the ConvBERT of transformers has none"
    fits = part.transformers_options.items() <= options.items()
    return None if fits else part.unlike_transformers


def _named_head(heads: Sequence[str], name: Optional[str]) -> Optional[str]:
    known = ", ".join(heads) or "it has none"
    if name is not None and name not in heads:
        raise UserError(f"--head {name}: not a classification head of this model ({known})")
    if name is None and len(heads) > 1:
        raise UserError(f"{len(heads)} classification heads ({known}): choose by --head")
    return name or next(iter(heads), None)


def _config_of(model: PortableModel, scope: str) -> dict:
    symbols, source = model.tokenizer.symbols, model.transformers_config
    options = asdict(model.config)
    if transformers_config.type_of(options) == "convbert":
        options |= their_heads(options, source)
    config = transformers_config.transformers_options(options, len(symbols), source)
    specials = model.tokenizer.specials
    ids = {f"{role}_token_id": symbols.index(specials[role]) for role in ("pad", "bos", "eos")}
    config = {**config, "architectures": [_class_of(config["model_type"], scope)], **ids}
    for name in (*NOT_PASSED_ON, transformers_config.TRAINED_POSITIONS, ANSWERS, READING):
        config.pop(name, None)
    if model.trained_positions < model.config.max_positions:
        config[transformers_config.TRAINED_POSITIONS] = model.trained_positions
    if not scope or not part_at(scope).has_labels:
        return config
    if scope == QUESTION_ANSWERING_HEAD and model.reading is not None:
        config |= to_keep(model.reading)
    classes = len(model.tensors[f"{scope}.output.bias"])
    answers = model.answers.get(scope, UNKNOWN)
    config = transformers_config.labels_for(config, classes, answers.labels, SOURCE_CONFIG)
    is_cut = (answers.length or model.config.max_positions) < model.config.max_positions
    ours = {"score_range": answers.score_range, "length": answers.length if is_cut else None}
    return {**config, **({ANSWERS: ours} if any(ours.values()) else {})}
