"""A checkpoint of the released TensorFlow code: both networks and their heads."""

import re
from collections import Counter
from pathlib import Path
from typing import Collection, Mapping, Optional

from convbert_plugin.conversion.portable import PortableModel, precision_remarks
from convbert_plugin.errors import UserError, listed
from convbert_plugin.files.text_files import PathLike
from convbert_plugin.formats.keys import foreign_names, tensorflow_names
from convbert_plugin.formats.safe_loading import checked_tensors
from convbert_plugin.formats.tensor_bundle import open_bundle
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.convbert import ConvBertModel
from convbert_plugin.models.loading import check_layers, empty_model, in_fp32
from convbert_plugin.models.parts import GENERATOR, KEYS, REPLACED_TOKEN_HEAD, Parts, part_at
from convbert_plugin.tokenization.tokenizer import Tokenizer, check_rows, load_tokenizer

# What the layers of a network read: a variable more there is another computation.
OF_A_LAYER = re.compile(r"(electra|generator)/encoder/layer_\d+/")
# The parts of a generator, and what it has where it does not share the discriminator's embeddings.
OF_THE_GENERATOR, OWN_EMBEDDINGS = ("generator/", "generator_predictions/"), "generator/embeddings/"
# ELECTRA's at every size that was released.
HEAD_SIZE = 64

Shapes = Mapping[str, tuple]


def read_tensorflow(source: PathLike, tokenizer: Optional[Tokenizer] = None) -> PortableModel:
    """The model of a checkpoint named by its prefix, its .index file or its folder.

    ``tokenizer`` stands for the vocab.txt beside it. The sizes are read off the shapes. Variables
    that are no part of the model are left out, which is told.

    Raises:
        UserError: a file that is missing or damaged; variables that are missing or of another
            shape, by their names; an ELECTRA whose heads cannot be known; a vocabulary of another
            length.
    """
    bundle = open_bundle(source)
    shapes, remarks = _with_one_embedding(bundle.shapes)
    try:
        config, generator_size = _config(shapes), _generator_size(shapes)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{bundle.prefix}: no ConvBERT or ELECTRA of the released code ({error})"
        ) from None
    remarks += _heads_remarks(config, bundle.prefix)
    check_layers(config.encoder_layers, shapes, bundle.prefix)
    rows = shapes["electra/embeddings/word_embeddings"][0]
    tokenizer = tokenizer or load_tokenizer(Path(bundle.prefix).parent)
    check_rows(tokenizer, rows, bundle.prefix)
    names = tensorflow_names(grouped=config.ffn_groups > 1)
    try:
        model = empty_model(ConvBertModel, config, range(rows), _parts(shapes, generator_size))
        expected = model.state_dict()
        wanted = KEYS.from_own(expected, names).keys()
        of_model, left_out = _divided(shapes, wanted)
        # Before anything is read of what does not fit.
        KEYS.check_names(of_model, expected, names)
    except UserError as error:
        raise UserError(f"{bundle.prefix}: not the variables of one model: {error}") from None
    tensors = checked_tensors({name: bundle.read(name) for name in wanted}, bundle.prefix)
    if left_out:
        remarks += (f"left out, no part of the model: {listed(left_out)}",)
    return PortableModel(
        config=config,
        tensors=in_fp32(KEYS.to_own(tensors, expected, names)),
        tokenizer=tokenizer,
        trained_positions=config.max_positions,
        trained_positions_assumed=True,
        generator_size=generator_size,
        remarks=(*remarks, *precision_remarks(tensors)),
    )


def _with_one_embedding(shapes: Shapes) -> tuple[Shapes, tuple[str, ...]]:
    """The variables without a generator that reads other embeddings, and what to tell of it."""
    if not any(name.startswith(OWN_EMBEDDINGS) for name in shapes):
        return shapes, ()
    kept = {name: shapes[name] for name in shapes if not name.startswith(OF_THE_GENERATOR)}
    return kept, (
        "left out: the generator: it has embeddings of its own, where here both share one",
    )


def _divided(shapes: Shapes, wanted: Collection[str]) -> tuple[Shapes, list[str]]:
    """The variables of the model, and words for the others.

    Slots of an optimizer, of which every variable may have one, are told by their kind.
    """
    of_model, others, slots = {}, [], Counter[str]()
    for name, shape in shapes.items():
        owner = name
        while owner and owner not in wanted:
            owner = owner.rpartition("/")[0]
        if owner == name or (not owner and OF_A_LAYER.match(name)):
            of_model[name] = shape
        elif owner:
            slots[name.removeprefix(f"{owner}/")] += 1
        else:
            others.append(name)
    return of_model, [*(f"{count:,} x {slot}" for slot, count in slots.items()), *others]


def _parts(shapes: Shapes, generator_size: Optional[float]) -> Parts:
    """The parts of pretraining; TensorFlow's other heads have no counterpart here."""
    parts: Parts = {} if generator_size is None else {GENERATOR: {"size": generator_size}}
    names = foreign_names(part_at(REPLACED_TOKEN_HEAD).keys, tensorflow_names(False))
    if not shapes.keys().isdisjoint(names.values()):
        parts[REPLACED_TOKEN_HEAD] = {}
    return parts


def _config(shapes: Shapes) -> ConvBertConfig:
    """The discriminator's sizes."""
    _, embedding_dim = shapes["electra/embeddings/word_embeddings"]
    hidden, width = shapes["electra/encoder/layer_0/attention/self/query/kernel"]
    is_layer = re.compile(r"electra/encoder/layer_(\d+)/")
    layers = {found[1] for found in map(is_layer.match, shapes) if found}
    convolution = _convolution(shapes, hidden, width)
    return ConvBertConfig(
        encoder_layers=len(layers),
        encoder_embed_dim=hidden,
        embedding_dim=embedding_dim,
        max_positions=shapes["electra/embeddings/position_embeddings"][0],
        **convolution,
        **_feed_forward(shapes),
    )


def _convolution(shapes: Shapes, hidden: int, width: int) -> dict:
    kernels = shapes.get("electra/encoder/layer_0/attention/self/conv_attn_kernel/bias")
    if kernels is None:
        return {
            "conv_type": "none",
            "encoder_attention_heads": hidden // HEAD_SIZE,
            "head_ratio": hidden // width,
        }
    taps = shapes["electra/encoder/layer_0/attention/self/conv_attn_key/depthwise_kernel"][0]
    heads_left = kernels[0] // taps
    heads = hidden // (width // heads_left)
    return {
        "conv_type": "span_dynamic",
        "conv_kernel_size": taps,
        "encoder_attention_heads": heads,
        "head_ratio": heads // heads_left,
    }


def _heads_remarks(config: ConvBertConfig, path: PathLike) -> tuple[str, ...]:
    """What is assumed of the heads. Raises UserError where nothing can be."""
    hidden = config.encoder_embed_dim
    if config.conv_type != "none":
        return ()
    if hidden < HEAD_SIZE or hidden % HEAD_SIZE:
        raise UserError(
            f"{path}: no shape tells the attention heads of an ELECTRA, and a width of {hidden} "
            f"does not divide into ELECTRA's, of {HEAD_SIZE} each: make it a folder of "
            "transformers whose config.json says num_attention_heads, and use --from hf"
        )
    return (
        f"assuming {config.encoder_attention_heads} attention heads of {HEAD_SIZE}, ELECTRA's rule "
        f"for a width of {hidden}: no shape tells them",
    )


def _feed_forward(shapes: Shapes) -> dict:
    layer = "electra/encoder/layer_0/intermediate"
    grouped = shapes.get(f"{layer}/g_dense/kernel")
    groups, _, inner = grouped or (1, *shapes[f"{layer}/dense/kernel"])
    return {"encoder_ffn_embed_dim": groups * inner, "ffn_groups": groups}


def _generator_size(shapes: Shapes) -> Optional[float]:
    """The generator's width as a fraction of the discriminator's, None where there is none."""
    if not any(name.startswith("generator/") for name in shapes):
        return None
    widths = [
        shapes[f"{network}/encoder/layer_0/attention/output/dense/bias"][0]
        for network in ("generator", "electra")
    ]
    return widths[0] / widths[1]
