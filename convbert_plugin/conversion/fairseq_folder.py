"""A folder as this project reads and writes it: a checkpoint, dict.txt, the tokenizer's files."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Mapping, cast

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

import convbert_plugin.tasks  # noqa: F401 (registers what the options below name)
from convbert_plugin.conversion.portable import PortableModel, precision_remarks
from convbert_plugin.criterions.pretraining_loss import ReplacedTokenDetectionCriterion
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.answers import to_keep
from convbert_plugin.formats.fairseq_checkpoint import (
    TRAINED_POSITIONS,
    checkpoint_of,
    read_checkpoint,
)
from convbert_plugin.formats.finding import MODEL_FILE, checkpoint_at
from convbert_plugin.formats.reading import to_keep as reading_to_keep
from convbert_plugin.formats.tensor_writing import save_pickled
from convbert_plugin.models.architectures import ARCHITECTURES, released_generator_size
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import (
    answers_of,
    check_vocabulary,
    empty_model_of,
    in_fp32,
    stored_parts,
)
from convbert_plugin.models.parts import GENERATOR, MASKED_LM_HEAD, REPLACED_TOKEN_HEAD, parts_of
from convbert_plugin.optim.convbert_adamw import ConvBertAdamW
from convbert_plugin.tasks.replaced_token_detection import ReplacedTokenDetectionTaskConfig
from convbert_plugin.tokenization.tokenizer import DICTIONARY_FILE, load_tokenizer

DEFAULT_OBJECTIVE = "replaced_token_detection"
# What is told of ``pads_visible``.
PADS = {
    False: "pads are masked, so that padding never changes a result (released: --pads-visible)",
    True: "pads are visible to the convolution, as released",
}


def read_fairseq(source: PathLike) -> PortableModel:
    """The model of a checkpoint, or of a folder: model.pt, else its best, else its last one.

    Raises:
        UserError: a file that is missing, damaged, not safe to load, or does not fit the others.
    """
    path = checkpoint_at(source)
    tokenizer = load_tokenizer(path.parent)
    vocabulary = Vocabulary.load(path.with_name(DICTIONARY_FILE))
    checkpoint = read_checkpoint(path)
    check_vocabulary(checkpoint, vocabulary, path)
    config = empty_model_of(ConvBertModel, checkpoint, vocabulary, path).cfg
    trained = checkpoint.trained_positions
    generator = stored_parts(checkpoint, config).get(GENERATOR, {})
    return PortableModel(
        config=config,
        tensors=in_fp32(checkpoint.tensors),
        tokenizer=tokenizer,
        trained_positions=min(trained or config.max_positions, config.max_positions),
        trained_positions_assumed=trained is None,
        example_length=checkpoint.example_length,
        generator_size=generator.get("size"),
        transformers_config=checkpoint.transformers_config,
        answers=answers_of(checkpoint, path),
        reading=checkpoint.reading,
        remarks=precision_remarks(checkpoint.tensors),
    )


def write_fairseq(model: PortableModel, folder: Path) -> list[str]:
    """Write the folder that ``from_pretrained`` and ``fairseq-train`` take; lines to tell."""
    name, of_pretraining = nearest_architecture(model.config), _pretraining_options(model)
    model.tokenizer.save(folder)
    save_pickled(
        checkpoint_of(
            model.tensors,
            _run_config(model.config, name, of_pretraining),
            _kept(model),
            model.transformers_config,
            (ReplacedTokenDetectionCriterion.__name__, ConvBertAdamW.__name__),
        ),
        folder / MODEL_FILE,
    )
    usual = {
        **ARCHITECTURES[name],
        "pads_visible": False,
        "tokens_per_sample": ReplacedTokenDetectionTaskConfig.tokens_per_sample,
    }
    words = _words({**vars(model.config), **of_pretraining}, usual)
    released = {"generator_size": released_generator_size(name), "objective": DEFAULT_OBJECTIVE}
    words_of_pretraining = _words(of_pretraining, released)
    told = " ".join([f"--arch {name}", *words, *words_of_pretraining])
    lines = [PADS[model.config.pads_visible], f"fairseq-train takes it with {told}"]
    if words_of_pretraining:
        names = [word.split()[0] for word in words_of_pretraining]
        lines.append(f"fine-tuning takes it without {' and '.join(names)}")
    return lines


def _kept(model: PortableModel) -> dict[str, object]:
    """What a task would keep of the training of this model."""
    return {
        **model.tokenizer.description(),
        TRAINED_POSITIONS: model.trained_positions,
        **to_keep(model.answers),
        **({} if model.reading is None else reading_to_keep(model.reading)),
    }


def _words(values: Mapping, usual: Mapping) -> list[str]:
    """The options of ``fairseq-train`` for those of ``usual`` that have another value."""
    words = []
    for option, usually in usual.items():
        value, flag = values[option], f"--{option.replace('_', '-')}"
        if value not in (None, usually):
            words.append(flag if value is True else f"{flag} {value}")
    return words


def _pretraining_options(model: PortableModel) -> dict[str, object]:
    """What a pretraining with this model is told of its examples and of its other parts."""
    parts = parts_of(model.tensors)
    is_masked_lm = MASKED_LM_HEAD in parts and REPLACED_TOKEN_HEAD not in parts
    length = model.example_length or model.trained_positions
    return {
        "tokens_per_sample": min(length, model.config.max_positions),
        "generator_size": model.generator_size,
        "objective": "masked_lm" if is_masked_lm else DEFAULT_OBJECTIVE,
    }


def nearest_architecture(config: ConvBertConfig) -> str:
    """The named architecture that differs from these sizes in the fewest."""

    def differences(name: str) -> int:
        return sum(getattr(config, option) != size for option, size in ARCHITECTURES[name].items())

    return min(ARCHITECTURES, key=differences)


def _run_config(config: ConvBertConfig, name: str, of_pretraining: Mapping) -> dict:
    """What fairseq-train would store of a pretraining run with this model."""
    arguments = options.parse_args_and_arch(
        options.get_training_parser(),
        [
            *(".", "--task", "replaced_token_detection", "--arch", name),
            *("--criterion", "replaced_token_detection", "--optimizer", "convbert_adamw"),
            *("--lr-scheduler", "convbert_linear"),
        ],
    )
    with warnings.catch_warnings():
        # fairseq configures hydra 1.3 in the style of 1.0.
        warnings.simplefilter("ignore", UserWarning)
        run = convert_namespace_to_omegaconf(arguments)
    stored = cast(dict, OmegaConf.to_container(run, resolve=True, enum_to_str=True))
    stored["model"] = {**stored["model"], **asdict(config), "_name": name}
    stored["task"] = {**stored["task"], **of_pretraining}
    return stored
