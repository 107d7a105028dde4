"""A folder as this project reads and writes it: a checkpoint, dict.txt, the tokenizer's files."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Optional, cast

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

import convbert_plugin.tasks  # noqa: F401 (registers what the options below name)
from convbert_plugin.conversion.portable import PortableModel, precision_remarks
from convbert_plugin.criterions.pretraining_loss import ReplacedTokenDetectionCriterion
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.fairseq_checkpoint import checkpoint_of, read_checkpoint
from convbert_plugin.formats.finding import MODEL_FILE, checkpoint_at
from convbert_plugin.formats.tensor_writing import save_pickled
from convbert_plugin.models.architectures import ARCHITECTURES, released_generator_size
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import check_vocabulary, empty_model_of, in_fp32, stored_parts
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
    trained = _trained_positions(checkpoint.task, config.max_positions)
    generator = stored_parts(checkpoint, config).get(GENERATOR, {})
    return PortableModel(
        config=config,
        tensors=in_fp32(checkpoint.tensors),
        tokenizer=tokenizer,
        trained_positions=trained or config.max_positions,
        trained_positions_assumed=trained is None,
        generator_size=generator.get("size"),
        transformers_config=checkpoint.transformers_config,
        remarks=precision_remarks(checkpoint.tensors),
    )


def _trained_positions(task: dict, positions: int) -> Optional[int]:
    length = task.get("tokens_per_sample")
    return min(length, positions) if type(length) is int and length > 0 else None


def write_fairseq(model: PortableModel, folder: Path) -> list[str]:
    """Write the folder that ``from_pretrained`` and ``fairseq-train`` take; lines to tell."""
    model.tokenizer.save(folder)
    save_pickled(
        checkpoint_of(
            model.tensors,
            _run_config(model),
            model.tokenizer.fingerprint(),
            model.transformers_config,
            (ReplacedTokenDetectionCriterion.__name__, ConvBertAdamW.__name__),
        ),
        folder / MODEL_FILE,
    )
    sizes, pretraining = architecture_options(model.config), _pretraining_options(model)
    words = [f"{option} {value}" for option, value in pretraining.items()]
    lines = [
        PADS[model.config.pads_visible],
        f"fairseq-train takes it with {' '.join([sizes, *_length_option(model), *words])}",
    ]
    if pretraining:
        lines.append(f"fine-tuning takes it without {' and '.join(pretraining)}")
    return lines


def architecture_options(config: ConvBertConfig) -> str:
    """The options of ``fairseq-train`` that build a model of these sizes."""
    name = nearest_architecture(config)
    sizes = ARCHITECTURES[name]
    words = [f"--arch {name}"]
    words += [
        f"--{option.replace('_', '-')} {getattr(config, option)}"
        for option in sizes
        if getattr(config, option) != sizes[option]
    ]
    return " ".join([*words, *(["--pads-visible"] if config.pads_visible else [])])


def _length_option(model: PortableModel) -> list[str]:
    """Examples as long as in training, which are never longer than the model has positions."""
    length = min(model.trained_positions, model.config.max_positions)
    is_usual = length == ReplacedTokenDetectionTaskConfig.tokens_per_sample
    return [] if is_usual else [f"--tokens-per-sample {length}"]


def _pretraining_options(model: PortableModel) -> dict[str, object]:
    """The options of pretraining alone that build the other parts of this model."""
    released = released_generator_size(nearest_architecture(model.config))
    options: dict[str, object] = {}
    if model.generator_size not in (None, released):
        options["--generator-size"] = model.generator_size
    if (objective := _objective(model)) != DEFAULT_OBJECTIVE:
        options["--objective"] = objective
    return options


def nearest_architecture(config: ConvBertConfig) -> str:
    """The named architecture that differs from these sizes in the fewest."""

    def differences(name: str) -> int:
        return sum(getattr(config, option) != size for option, size in ARCHITECTURES[name].items())

    return min(ARCHITECTURES, key=differences)


def _run_config(model: PortableModel) -> dict:
    """What fairseq-train would store of a pretraining run with this model."""
    name = nearest_architecture(model.config)
    parser = options.get_training_parser()
    arguments = options.parse_args_and_arch(
        parser,
        [
            *(".", "--task", "replaced_token_detection", "--arch", name),
            *("--criterion", "replaced_token_detection", "--optimizer", "convbert_adamw"),
            *("--lr-scheduler", "convbert_linear", "--objective", _objective(model)),
            *("--tokens-per-sample", str(model.trained_positions)),
        ],
    )
    with warnings.catch_warnings():
        # fairseq configures hydra 1.3 in the style of 1.0.
        warnings.simplefilter("ignore", UserWarning)
        config = convert_namespace_to_omegaconf(arguments)
    stored = cast(dict, OmegaConf.to_container(config, resolve=True, enum_to_str=True))
    stored["model"] = {**stored["model"], **asdict(model.config), "_name": name}
    stored["task"]["generator_size"] = model.generator_size
    return stored


def _objective(model: PortableModel) -> str:
    parts = parts_of(model.tensors)
    is_masked_lm = MASKED_LM_HEAD in parts and REPLACED_TOKEN_HEAD not in parts
    return "masked_lm" if is_masked_lm else DEFAULT_OBJECTIVE
