"""Folders of transformers in and out: the same numbers, the same files, and words for the rest."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from convbert_plugin import ConvBertModel
from convbert_plugin.conversion.fairseq_folder import write_fairseq
from convbert_plugin.conversion.portable import PortableModel
from convbert_plugin.conversion.transformers_folder import DEFAULT_HEAD
from convbert_plugin.formats.answers import Answers
from convbert_plugin.models.architectures import ARCHITECTURES, released_generator_size
from convbert_plugin.models.config import ConvBertConfig
from convbert_plugin.models.loading import config_of
from convbert_plugin.tokenization.wordpiece import WordPieceTokenizer
from user_dir_tests.models.building import model_of, randomize
from user_dir_tests.oracles.transformers_models import (
    CLASSES,
    SPECIAL_IDS,
    VOCABULARY,
    random_model,
    save_folder,
    sizes_of,
    toy_model,
)
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = [pytest.mark.weights, pytest.mark.slow]

PAD, START, MASK, END = (VOCABULARY.index(f"[{name}]") for name in ("PAD", "CLS", "MASK", "SEP"))
EVERY_CLASS = [*CLASSES["convbert"], *CLASSES["electra"]]
LENGTHS = (11, 7, 1)
# Of base, what heads see is its width; oracles/test_transformers_encoder.py has all of its levels.
FEW_LAYERS = 2
# Its logits differ most, on single tokens.
WORST_CLASS = "ConvBertForQuestionAnswering"


def padded_batch(length=LENGTHS[0], real=LENGTHS, seed=1):
    """Random tokens with pads, and random segments."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, len(VOCABULARY), (len(real), length), generator=generator)
    pads = torch.arange(length) >= torch.tensor(real)[:, None]
    tokens[tokens.eq(PAD)] = MASK
    segments = torch.randint(0, 2, tokens.shape, generator=generator)
    return tokens.masked_fill(pads, PAD), segments


def outputs_there(model, tokens, segments):
    """Hidden states of every level, and the logits of the head if there is one."""
    with torch.no_grad():
        output = model(
            tokens,
            attention_mask=tokens.ne(PAD).long(),
            token_type_ids=segments,
            output_hidden_states=True,
        )
    if "ForQuestionAnswering" in type(model).__name__:
        logits = torch.stack([output.start_logits, output.end_logits], dim=-1)
    else:
        logits = getattr(output, "logits", None)
    return output.hidden_states, logits


def logits_here(convbert, class_name, tokens, segments):
    model = convbert.model
    with torch.no_grad():
        if class_name.endswith("ForSequenceClassification"):
            return convbert.predict(DEFAULT_HEAD, tokens, segments, return_logits=True)
        if class_name.endswith("ForQuestionAnswering"):
            return model.head_logits("question_answering_head", tokens, segments)
        if class_name.endswith("ForPreTraining"):
            return model.replaced_logits(tokens, segments)
        every = torch.arange(tokens.numel())
        log_probs = model.masked_lm_log_probs(tokens, segments, every)
        return log_probs.view(*tokens.shape, -1)


def assert_same_outputs(theirs, convbert, class_name, tokens, segments):
    states, logits = outputs_there(theirs, tokens, segments)
    result = convbert.extract_features(tokens, segments, return_all_hiddens=True)
    tolerance = TOLERANCES[torch.float32]["transformers"]
    errors = [relative_error(mine, oracle) for mine, oracle in zip(result, states, strict=True)]
    assert max(errors) <= tolerance, errors
    if logits is not None:
        mine = logits_here(convbert, class_name, tokens, segments)
        oracle = logits.log_softmax(-1) if class_name.endswith("ForMaskedLM") else logits
        assert relative_error(mine, oracle) <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("class_name", EVERY_CLASS)
def test_every_class_gives_its_outputs_here(convert, tmp_path, class_name, seed):
    theirs = toy_model(class_name, seed, num_labels=2)
    source = save_folder(theirs, tmp_path / "source")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here", "--pads-visible")
    convbert = ConvBertModel.from_pretrained(folder)
    assert_same_outputs(theirs, convbert, class_name, *padded_batch())


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "medium", "base"])
@pytest.mark.parametrize("class_name", CLASSES["convbert"][1:])
def test_the_heads_of_every_size(convert, tmp_path, size, class_name):
    sizes = {**sizes_of(f"convbert_{size}"), "vocab_size": len(VOCABULARY)}
    options = f"--arch convbert_{size} --pads-visible --tokens-per-sample 512"
    if size == "base" and class_name != WORST_CLASS:
        sizes["num_hidden_layers"] = FEW_LAYERS
        options = options.replace(size, f"{size} --encoder-layers {FEW_LAYERS}")
    if class_name.endswith("ForSequenceClassification"):
        # Errors are relative to the largest logit, and of two both may be near 0.
        sizes["num_labels"] = 7
    theirs = random_model(class_name, 3, **sizes)
    source = save_folder(theirs, tmp_path / "source")
    folder, lines = convert("hf", "fairseq", source, tmp_path / "here", "--pads-visible")
    objective = " --objective masked_lm" if class_name.endswith("ForMaskedLM") else ""
    assert f"fairseq-train takes it with {options}{objective}" in lines
    convbert = ConvBertModel.from_pretrained(folder)
    assert len(convbert.model.encoder.layers) == sizes["num_hidden_layers"]
    for lengths in ((1,) * 8, (2, 1, 2, 1), (9, 5, 2), (128, 77), (512,)):
        batch = padded_batch(lengths[0], lengths)
        assert_same_outputs(theirs, convbert, class_name, *batch)


def same_tensors(folder, other):
    ours, theirs = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name


def json_of(path):
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("class_name", EVERY_CLASS)
def test_in_and_out_again(convert, tmp_path, class_name, dtype):
    labels = {0: "yes", 1: "no", 2: "perhaps"} if "Sequence" in class_name else {0: "a", 1: "b"}
    model = toy_model(class_name, id2label=labels, label2id={v: k for k, v in labels.items()})
    source = save_folder(model.to(dtype), tmp_path / "source")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here")
    back, _ = convert("fairseq", "hf", folder, tmp_path / "back")
    same_tensors(back, source)
    assert json_of(back / "config.json") == json_of(source / "config.json")
    assert (back / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    loaded = getattr(transformers, class_name).from_pretrained(back)
    configs = [transformers.AutoConfig.from_pretrained(f).to_dict() for f in (back, source)]
    assert configs[0] | {"_name_or_path": ""} == configs[1] | {"_name_or_path": ""}
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("heads", "ratio"), [(8, 2), (5, 2), (12, 3), (4, 1), (1, 2)], ids=lambda number: str(number)
)
def test_heads_that_transformers_makes_otherwise(convert, tmp_path, heads, ratio):
    """Its head is half as wide as what the heads that the ratio leaves would fill, at any ratio."""
    theirs = toy_model("ConvBertModel", num_attention_heads=heads, head_ratio=ratio)
    source = save_folder(theirs, tmp_path / "source")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here", "--pads-visible")
    assert_same_outputs(theirs, ConvBertModel.from_pretrained(folder), "", *padded_batch())
    back, _ = convert("fairseq", "hf", folder, tmp_path / "back")
    same_tensors(back, source)
    assert json_of(back / "config.json") == json_of(source / "config.json")


def portable(architecture="convbert_small", parts=(), seed=1, generator_size=0.5, **changes):
    """A small model of this project with parts, ready to be written."""
    sizes = {
        **{"encoder_layers": 2, "encoder_embed_dim": 40, "encoder_ffn_embed_dim": 56},
        **{"encoder_attention_heads": 8, "embedding_dim": 14, "max_positions": 37, **changes},
    }
    model = model_of(architecture, len(VOCABULARY), **sizes)
    for part in parts:
        if part == "generator":
            model.add_generator(generator_size)
        elif part.startswith("head "):
            _, name, kind, *classes = part.split()
            model.register_classification_head(name, int(*classes or ["3"]), kind)
        else:
            model.add_part(part)
    randomize(model, seed)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = config_of({**vars(model.cfg)}, tensors, "model")
    tokenizer = WordPieceTokenizer(VOCABULARY)
    size = generator_size if "generator" in parts else None
    return PortableModel(config, tensors, tokenizer, config.max_positions, size)


def written(model, folder):
    folder.mkdir()
    write_fairseq(model, folder)
    return folder


def state_of(folder):
    return torch.load(folder / "model.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "parts"),
    [
        ("convbert_small", ()),
        ("convbert_small", ("masked_lm_head",)),
        ("convbert_small", ("question_answering_head",)),
        ("convbert_small", (f"head {DEFAULT_HEAD} transformers",)),
        ("electra_small", ("replaced_token_head",)),
        ("electra_small", (f"head {DEFAULT_HEAD} transformers",)),
    ],
)
def test_out_and_in_again(convert, tmp_path, architecture, parts):
    source = written(portable(architecture, parts), tmp_path / "source")
    folder, lines = convert("fairseq", "hf", source, tmp_path / "there")
    assert not any("left out" in line for line in lines), lines
    back, _ = convert("hf", "fairseq", folder, tmp_path / "back")
    ours, again = state_of(source), state_of(back)
    assert ours["model"].keys() == again["model"].keys()
    for name, tensor in ours["model"].items():
        assert torch.equal(tensor, again["model"][name]), name
    assert ours["cfg"] == again["cfg"]
    assert ours["task_state"] == again["task_state"]
    assert (back / "dict.txt").read_bytes() == (source / "dict.txt").read_bytes()
    # Of a folder of transformers, its tokenizer.json is the tokenizer.
    assert (back / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def answers_in(folder):
    return state_of(folder)["task_state"]["answers"]


SCOPE = f"classification_heads.{DEFAULT_HEAD}"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"id2label": {1: "no", 0: "yes", 2: "perhaps"}}, ["yes", "no", "perhaps"]),
        ({"id2label": {0: "LABEL_0", 1: "LABEL_1"}}, None),
        ({"id2label": {0: "same", 1: "same"}}, None),
        ({"num_labels": 1}, None),
    ],
    ids=str,
)
def test_labels_of_transformers_are_labels_here(convert, tmp_path, said, kept):
    model = toy_model("ConvBertForSequenceClassification", **said)
    source = save_folder(model, tmp_path / "source")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here")
    hub = ConvBertModel.from_pretrained(folder)
    if kept is None:
        assert answers_in(folder) == {}
        with pytest.raises(ValueError, match="keeps nothing of its classes: there are no labels"):
            hub.labels(DEFAULT_HEAD)
    else:
        assert hub.labels(DEFAULT_HEAD) == kept
        tokens, segments = padded_batch()
        with torch.no_grad():
            output = model.eval()(tokens[:1], token_type_ids=segments[:1])
        word = said["id2label"][output.logits.argmax().item()]
        said_here = hub.predict(DEFAULT_HEAD, tokens[:1], segments[:1], return_labels=True)
        assert said_here == [word]


@pytest.mark.parametrize(
    "answers",
    [
        Answers(("c", "a", "b"), length=20),
        Answers(score_range=(-100.0, -50.0), length=20),
        Answers(("c", "a", "b")),
        Answers(score_range=(0.0, 5.0)),
    ],
    ids=str,
)
def test_what_a_head_answers_goes_there_and_back(convert, tmp_path, answers):
    classes = len(answers.labels) or 1
    model = portable(parts=(f"head {DEFAULT_HEAD} transformers {classes}",))
    model.answers = {SCOPE: answers}
    source = written(model, tmp_path / "source")
    folder, _ = convert("fairseq", "hf", source, tmp_path / "there")
    config = transformers.AutoConfig.from_pretrained(folder)
    numbered = [f"LABEL_{number}" for number in range(classes)]
    assert list(config.id2label.values()) == (list(answers.labels) or numbered)
    assert config.label2id == {word: number for number, word in config.id2label.items()}
    back, _ = convert("hf", "fairseq", folder, tmp_path / "back")
    assert answers_in(back) == answers_in(source)
    hubs = [ConvBertModel.from_pretrained(f) for f in (source, back)]
    text = " ".join(["a"] * 30)
    ours, theirs = (hub.predict(DEFAULT_HEAD, hub.encode(text)) for hub in hubs)
    assert ours.dtype == (torch.float32 if answers.labels else torch.float64)
    assert torch.equal(ours, theirs)
    assert len(hubs[0].encode(text)) == (answers.length or 32)


def test_answers_in_a_config_that_are_none(convert_fails, tmp_path):
    model = toy_model("ConvBertForSequenceClassification", answers={"score_range": [5, 1]})
    source = save_folder(model, tmp_path / "source")
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert line.startswith(f"{source / 'config.json'}: its answers are ")


def test_the_length_of_training_goes_with_the_model(convert, tmp_path):
    model = portable()
    model.trained_positions = 20
    folder, _ = convert("fairseq", "hf", written(model, tmp_path / "a"), tmp_path / "there")
    assert json_of(folder / "config.json")["trained_positions"] == 20
    back, _ = convert("hf", "fairseq", folder, tmp_path / "back")
    assert state_of(back)["cfg"]["task"]["tokens_per_sample"] == 20


def test_the_choice_of_pads_is_stored_and_printed(convert, tmp_path):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    masked, lines = convert("hf", "fairseq", source, tmp_path / "masked")
    assert any(line.startswith("pads are masked") for line in lines)
    visible, lines = convert("hf", "fairseq", source, tmp_path / "visible", "--pads-visible")
    assert any(line.startswith("pads are visible") for line in lines)
    tokens, segments = padded_batch()
    features = {}
    for folder, is_visible in ((masked, False), (visible, True)):
        convbert = ConvBertModel.from_pretrained(folder)
        assert convbert.model.cfg.pads_visible is is_visible
        features[is_visible] = convbert.extract_features(tokens, segments)
    assert not torch.allclose(features[False], features[True], atol=1e-3)
    again, _ = convert("fairseq", "fairseq", visible, tmp_path / "again")
    assert ConvBertModel.from_pretrained(again).model.cfg.pads_visible


def test_special_ids_are_those_of_the_vocabulary(convert, tmp_path):
    folder, _ = convert("fairseq", "hf", written(portable(), tmp_path / "a"), tmp_path / "there")
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (PAD, START, END)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token_id == PAD
    assert (
        transformers.AutoModel.from_pretrained(folder).embeddings.word_embeddings.padding_idx == PAD
    )


@pytest.mark.parametrize("class_name", ["ConvBertModel", "ElectraModel"])
@pytest.mark.parametrize(
    "said",
    [
        # The defaults of transformers' ConvBertConfig, of which 1 is a word of BERT's vocabulary.
        {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
        {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None},
        {},
    ],
    ids=["other ids", "none", "absent"],
)
def test_special_ids_that_contradict_the_vocabulary_are_corrected(
    convert, tmp_path, class_name, said
):
    source = save_folder(toy_model(class_name), tmp_path / "source")
    config = {k: v for k, v in json_of(source / "config.json").items() if k not in SPECIAL_IDS}
    (source / "config.json").write_text(json.dumps({**config, **said}))
    folder, _ = convert("hf", "hf", source, tmp_path / "there")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    assert ids == (PAD, START, END)
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == ids


@pytest.mark.parametrize("new_zip", [True, False])
def test_a_pickled_model(convert, tmp_path, new_zip):
    source = save_folder(toy_model("ConvBertForMaskedLM"), tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    # As old versions wrote them: with buffers that only count, and the tied matrix twice.
    tensors["convbert.embeddings.position_ids"] = torch.arange(37).expand(1, -1)
    tensors["generator_lm_head.weight"] = tensors["convbert.embeddings.word_embeddings.weight"]
    torch.save(tensors, source / "pytorch_model.bin", _use_new_zipfile_serialization=new_zip)
    folder, _ = convert("hf", "hf", source, tmp_path / "there")
    expected = toy_model("ConvBertForMaskedLM").state_dict()
    loaded = transformers.ConvBertForMaskedLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


class TestGenerator:
    @pytest.mark.parametrize("architecture", [None, "convbert_medium", "convbert_base"])
    def test_as_a_masked_language_model(self, convert, tmp_path, architecture):
        """Out, and in again, of a toy and of the released sizes."""
        sizes, fraction = ARCHITECTURES.get(architecture, {}), released_generator_size(architecture)
        if architecture == "convbert_base":
            sizes = {**sizes, "encoder_layers": FEW_LAYERS}
        whole = portable(parts=("generator",), generator_size=fraction, pads_visible=True, **sizes)
        source = written(whole, tmp_path / "source")
        folder, lines = convert("fairseq", "hf", source, tmp_path / "g", "--network", "generator")
        assert lines[1] == "the generator as ConvBertForMaskedLM"
        theirs, info = transformers.ConvBertForMaskedLM.from_pretrained(
            folder, output_loading_info=True
        )
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys"))
        assert theirs.config.hidden_size == round(whole.config.encoder_embed_dim * fraction)
        convbert = ConvBertModel.from_pretrained(source)
        tokens, segments = padded_batch()
        _, logits = outputs_there(theirs.eval(), tokens, segments)
        mine = logits_here(convbert, "ForMaskedLM", tokens, segments)
        error = relative_error(mine, logits.log_softmax(-1))
        assert error <= TOLERANCES[torch.float32]["transformers"]
        back, _ = convert("hf", "fairseq", folder, tmp_path / "back", "--pads-visible")
        alone = ConvBertModel.from_pretrained(back)
        assert_same_outputs(theirs, alone, "ConvBertForMaskedLM", tokens, segments)

    def test_of_the_released_small_size(self, convert_fails, tmp_path):
        small = ARCHITECTURES["convbert_small"]
        whole = portable(parts=("generator",), generator_size=1 / 4, **small)
        source = written(whole, tmp_path / "source")
        line = convert_fails("fairseq", "hf", source, tmp_path / "g", "--network", "generator")
        assert line.startswith("transformers cannot represent this model")
        assert "1 attention and 1 convolution heads of size 64 give 128" in line

    def test_is_not_in_every_model(self, convert_fails, tmp_path):
        source = written(portable(), tmp_path / "source")
        line = convert_fails("fairseq", "hf", source, tmp_path / "g", "--network", "generator")
        assert "--network generator: there is none in this model" in line


def test_what_a_pretraining_leaves_out_is_told(convert, tmp_path):
    source = written(portable(parts=("generator",)), tmp_path / "source")
    folder, lines = convert("fairseq", "hf", source, tmp_path / "there")
    assert lines[1] == "the discriminator as ConvBertModel"
    assert sum("left out" in line for line in lines) == 2
    loaded, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert type(loaded).__name__ == "ConvBertModel"
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys"))


def test_a_released_head_has_no_counterpart(convert, tmp_path):
    source = written(portable(parts=("head topic released",)), tmp_path / "source")
    _, lines = convert("fairseq", "hf", source, tmp_path / "there")
    assert lines[1] == "the discriminator as ConvBertModel"
    assert "classification head topic" in lines[2]
    assert "dense layer with GELU" in lines[2]


def test_one_of_several_heads(convert, convert_fails, tmp_path):
    heads = ("head topic transformers", "head tone transformers")
    source = written(portable(parts=heads), tmp_path / "source")
    line = convert_fails("fairseq", "hf", source, tmp_path / "there")
    assert "topic, tone" in line
    assert "--head" in line
    assert "nowhere" in convert_fails("fairseq", "hf", source, tmp_path / "b", "--head", "nowhere")
    folder, _ = convert("fairseq", "hf", source, tmp_path / "there", "--head", "tone")
    weight = load_file(folder / "model.safetensors")["classifier.out_proj.weight"]
    assert torch.equal(weight, state_of(source)["model"]["classification_heads.tone.output.weight"])
    assert transformers.AutoConfig.from_pretrained(folder).num_labels == 3


def test_a_head_under_another_name(convert, tmp_path):
    source = save_folder(toy_model("ConvBertForSequenceClassification"), tmp_path / "source")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here", "--head", "tone")
    assert list(ConvBertModel.from_pretrained(folder).model.classification_heads) == ["tone"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conv_type": "dynamic"}, "--conv-type dynamic"),
        ({"head_ratio": 4}, "2 attention and 2 convolution heads"),
        ({"conv_type": "none"}, "head ratio"),
    ],
)
def test_models_that_transformers_cannot_represent(convert_fails, tmp_path, changes, words):
    source = written(portable(**changes), tmp_path / "source")
    line = convert_fails("fairseq", "hf", source, tmp_path / "there")
    assert line.startswith("transformers cannot represent this model")
    assert words in line


def broken(folder, change):
    config = json_of(folder / "config.json")
    config.update(change)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bert"}, ("model_type", "'bert'", "convbert and electra")),
        ({"hidden_act": "gelu_new"}, ("hidden_act", "gelu_new")),
        ({"layer_norm_eps": 1e-5}, ("layer_norm_eps", "1e-05")),
        ({"type_vocab_size": 3}, ("type_vocab_size", "3")),
        ({"hidden_size": "40"}, ("hidden_size '40'", "whole number")),
        ({"num_hidden_layers": True}, ("num_hidden_layers True",)),
        ({"num_hidden_layers": 10**9}, ("layers",)),
        ({"hidden_size": 10**12}, ("config.json: its sizes make no model",)),
        ({"num_hidden_layers": 2}, ("encoder.layer.2.attention.self.query.weight is unknown",)),
        ({"num_hidden_layers": 4}, ("encoder.layer.3.attention.self.query.weight is missing",)),
        ({"vocab_size": 999}, ("999 rows", f"{len(VOCABULARY)} symbols", "--tokenizer")),
        ({"conv_kernel_size": 7}, ("encoder.layer.{0,1,2}.", "depthwise", "is (40, 1, 5)")),
        ({"num_attention_heads": 6}, ("40", "3 heads")),
        ({"num_groups": 1}, ("intermediate.dense.weight is (2, 20, 28), not (56, 40)",)),
        ({"hidden_dropout_prob": 1.5}, ("config.json: hidden_dropout_prob 1.5: choose a rate",)),
        ({"num_groups": 3}, ("change num_groups, hidden_size or intermediate_size",)),
        ({"id2label": ["a", "b"]}, ("config.json: id2label ['a', 'b']", "object of numbers")),
        ({"id2label": {"a": "b"}}, ("config.json: id2label {'a': 'b'}",)),
        ({"id2label": None, "num_labels": None}, ("config.json: num_labels None",)),
        ({"hidden_dropout_prob": float("nan")}, ("hidden_dropout_prob nan", "number from 0 on")),
        ({"hidden_size": 10**30}, ("hidden_size 1000000", "whole number")),
        ({"max_position_embeddings": 10**30}, ("max_position_embeddings 1000000",)),
        ({"trained_positions": 38}, ("trained_positions 38", "37 positions")),
        ({"dtype": ["a"]}, ("dtype ['a']", "float32, float16, bfloat16, float64")),
        ({"dtype": "int8"}, ("dtype 'int8'", "float32")),
        ({"model_type": "x" * 10**6}, ("model_type of 'xxx", "convbert and electra")),
        ({"hidden_act": "x" * 10**6}, ("hidden_act 'xxx",)),
        ({"hidden_size": "x" * 10**6}, ("hidden_size 'xxx",)),
        ({"dtype": "x" * 10**6}, ("dtype 'xxx",)),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_config_that_does_not_fit(convert_fails, tmp_path, change, words):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    broken(source, change)
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert all(word in line for word in words), line
    assert str(source) in line
    assert len(line) < 2000


@pytest.mark.parametrize(
    "change", [{"position_embedding_type": None}, {"dtype": None}], ids=lambda change: str(change)
)
def test_what_stands_for_the_default_is_taken(convert, tmp_path, change):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    broken(source, change)
    folder, _ = convert("hf", "hf", source, tmp_path / "there")
    same_tensors(folder, source)
    assert json_of(folder / "config.json") == json_of(source / "config.json")


def test_a_kept_config_that_is_not_theirs(convert_fails, tmp_path):
    model = portable()
    model.transformers_config = {"model_type": "convbert", "dtype": ["a"]}
    line = convert_fails("fairseq", "hf", written(model, tmp_path / "a"), tmp_path / "there")
    assert line.startswith("the source's config.json: dtype ['a']")


def test_all_keys_that_are_wrong_are_listed(convert_fails, tmp_path):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    for layer in (0, 2):
        del tensors[f"encoder.layer.{layer}.output.dense.bias"]
    tensors["pooler.dense.weight"] = torch.zeros(2)
    tensors["embeddings.LayerNorm.bias"] = torch.zeros(15)
    save_file(tensors, source / "model.safetensors")
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert "encoder.layer.{0,2}.output.dense.bias is missing" in line
    assert "pooler.dense.weight is unknown" in line
    assert "embeddings.LayerNorm.bias is (15,), not (14,)" in line


def test_a_softmax_matrix_of_its_own(convert_fails, tmp_path):
    source = save_folder(toy_model("ConvBertForMaskedLM"), tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["generator_lm_head.weight"] = torch.zeros(len(VOCABULARY), 14)
    save_file(tensors, source / "model.safetensors")
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert "generator_lm_head.weight" in line


@pytest.mark.parametrize("class_name", ["ForTokenClassification", "ForMultipleChoice"])
def test_a_head_that_is_not_here(convert_fails, tmp_path, class_name):
    source = save_folder(toy_model(f"ConvBert{class_name}"), tmp_path / "source")
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert line.startswith(f"{source / 'config.json'}: the head of ConvBert{class_name} is not")
    assert "ForSequenceClassification" in line
    broken(source, {"architectures": {"of": "another kind"}})
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert "classifier.weight is unknown" in line


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3),
        ({"id2label": None, "num_labels": 5}, 5),
    ],
    ids=["id2label", "num_labels"],
)
@pytest.mark.parametrize("head", ["SequenceClassification", "QuestionAnswering"])
def test_other_labels_than_the_head_has(convert_fails, tmp_path, head, change, count):
    source = save_folder(toy_model(f"ConvBertFor{head}", num_labels=2), tmp_path / "source")
    broken(source, change)
    line = convert_fails("hf", "hf", source, tmp_path / "there")
    assert f"config.json: says {count} labels, and " in line
    assert "in model.safetensors has 2 rows" in line


@pytest.mark.parametrize(
    ("part", "said", "rows"),
    [
        ("question_answering_head", {"id2label": {"0": "a", "1": "b", "2": "c"}}, 2),
        ("question_answering_head", {"num_labels": 5}, 2),
        ("question_answering_head", {}, 2),
        ("head topic transformers", {"num_labels": 5}, 3),
        ("head topic transformers", {}, 3),
    ],
    ids=str,
)
def test_labels_are_as_many_as_rows(convert, tmp_path, part, said, rows):
    """Where a head came to a model whose config.json knew another one, or none."""
    model = portable(parts=(part,))
    model.transformers_config = {"model_type": "convbert", **said}
    source = written(model, tmp_path / "source")
    folder, lines = convert("fairseq", "hf", source, tmp_path / "there")
    name = lines[1].split()[-1]
    loaded, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert loaded.config.num_labels == rows
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_kept_labels_that_are_not_theirs(convert_fails, tmp_path):
    model = portable(parts=("head topic transformers",))
    model.transformers_config = {"model_type": "convbert", "id2label": ["a", "b", "c"]}
    line = convert_fails("fairseq", "hf", written(model, tmp_path / "a"), tmp_path / "there")
    assert line.startswith("the source's config.json: id2label ['a', 'b', 'c']")


@pytest.mark.parametrize("class_name", ["ConvBertForMaskedLM", "ElectraForMaskedLM"])
def test_a_softmax_matrix_that_only_equals_the_table(convert, tmp_path, class_name):
    """Here they are one; a config.json that says otherwise would make transformers draw one."""
    theirs = toy_model(class_name, tie_word_embeddings=False)
    table = theirs.get_input_embeddings().weight.detach()
    theirs.generator_lm_head.weight = torch.nn.Parameter(table.clone())
    source = save_folder(theirs, tmp_path / "source")
    assert "generator_lm_head.weight" in load_file(source / "model.safetensors")
    here, _ = convert("hf", "fairseq", source, tmp_path / "here")
    there, _ = convert("fairseq", "hf", here, tmp_path / "there")
    loaded = getattr(transformers, class_name).from_pretrained(there)
    assert torch.equal(loaded.generator_lm_head.weight, table)
    assert loaded.config.tie_word_embeddings is True


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ({"dtype": "float16"}, torch.float32),
        ({"dtype": "float64"}, torch.float32),
        ({"dtype": None}, torch.float16),
        ({}, torch.bfloat16),
        ({"dtype": None, "torch_dtype": "float32"}, torch.float16),
        ({"torch_dtype": "bfloat16"}, torch.float16),
    ],
    ids=str,
)
def test_the_dtype_of_the_tensors_is_kept_whatever_config_json_says(
    convert, tmp_path, said, stored
):
    model = toy_model("ConvBertModel")
    # In float16 that would be infinite.
    model.embeddings.word_embeddings.weight.data[7] = 1e4 if stored == torch.float16 else 1e5
    source = save_folder(model.to(stored), tmp_path / "source")
    config = {k: v for k, v in json_of(source / "config.json").items() if k != "dtype"}
    (source / "config.json").write_text(json.dumps({**config, **said}))
    here, _ = convert("hf", "fairseq", source, tmp_path / "here")
    back, lines = convert("fairseq", "hf", here, tmp_path / "back")
    same_tensors(back, source)
    assert transformers.AutoConfig.from_pretrained(back).dtype == stored
    assert not any("float" in line for line in lines)


@pytest.mark.parametrize("other", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_tensors_of_two_dtypes_lose_nothing_and_are_told(convert, tmp_path, other):
    source = save_folder(toy_model("ConvBertModel").half(), tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"] = torch.full((14,), 2.0**-30, dtype=other)
    save_file(tensors, source / "model.safetensors", {"format": "pt"})
    there, lines = convert("hf", "hf", source, tmp_path / "there")
    kinds = " and ".join(sorted(["float16", str(other)[6:]]))
    assert lines[-1] == (
        f"the {kinds} tensors of the source are kept in float32: all their numbers fit"
    )
    written_tensors = load_file(there / "model.safetensors")
    assert all(torch.equal(written_tensors[name], t.float()) for name, t in tensors.items())
    assert json_of(there / "config.json")["dtype"] == "float32"


@pytest.mark.parametrize("target", ["hf", "fairseq"])
@pytest.mark.parametrize("is_rounded", [True, False])
def test_float64_is_kept_in_float32_and_told(convert, tmp_path, target, is_rounded):
    model = toy_model("ConvBertModel").double()
    if is_rounded:
        model.embeddings.word_embeddings.weight.data[3, 2] = 1 / 3
    source = save_folder(model, tmp_path / "source")
    there, lines = convert("hf", target, source, tmp_path / "there")
    outcome = "rounded" if is_rounded else "all their numbers fit"
    assert f"the float64 tensors of the source are kept in float32: {outcome}" in lines
    if target == "fairseq":
        there, _ = convert("fairseq", "hf", there, tmp_path / "back")
    given = load_file(source / "model.safetensors")
    for name, tensor in load_file(there / "model.safetensors").items():
        assert torch.equal(tensor, given[name].float()), name
    assert json_of(there / "config.json")["dtype"] == "float32"


@pytest.mark.parametrize("is_pickled", [False, True])
@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        (torch.float32, torch.nan),
        (torch.float16, torch.inf),
        (torch.bfloat16, -torch.inf),
        (torch.float64, 1e39),
    ],
    ids=str,
)
def test_numbers_that_are_none_are_refused(convert_fails, tmp_path, dtype, number, is_pickled):
    model = toy_model("ElectraForPreTraining").to(dtype)
    model.electra.encoder.layer[1].output.dense.bias.data[3] = number
    source = save_folder(model, tmp_path / "source")
    if is_pickled:
        torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
        (source / "model.safetensors").unlink()
    line = convert_fails("hf", "fairseq", source, tmp_path / "there")
    name = "pytorch_model.bin" if is_pickled else "model.safetensors"
    assert line.startswith(
        f"{source / name}: electra.encoder.layer.1.output.dense.bias holds NaN, or"
    )


@torch.no_grad()
def test_another_class_of_the_same_tensors_is_told(convert, tmp_path):
    """ElectraForCausalLM is one of ElectraForMaskedLM, until it is told to be a decoder."""
    theirs = toy_model("ElectraForCausalLM")
    source = save_folder(theirs, tmp_path / "source")
    there, lines = convert("hf", "hf", source, tmp_path / "there")
    assert lines[-1] == (
        f"{source / 'config.json'}: says ElectraForCausalLM, and its tensors are taken as those of "
        "ElectraForMaskedLM"
    )
    _, lines = convert("hf", "fairseq", source, tmp_path / "here")
    assert any("says ElectraForCausalLM" in line for line in lines)
    tokens, segments = padded_batch()
    loaded = transformers.ElectraForMaskedLM.from_pretrained(there)
    _, expected = outputs_there(theirs, tokens, segments)
    _, logits = outputs_there(loaded, tokens, segments)
    assert torch.equal(logits, expected)


def test_a_decoder_is_refused(convert_fails, tmp_path):
    source = save_folder(toy_model("ElectraForCausalLM", is_decoder=True), tmp_path / "source")
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert line.startswith(f"{source / 'config.json'}: is_decoder True: ")


@pytest.mark.parametrize(
    ("saved", "said", "taken"),
    [
        # As transformers calls those that it saved from TensorFlow and from Flax.
        ("ConvBertForMaskedLM", "TFConvBertForMaskedLM", None),
        ("ElectraForMaskedLM", "FlaxElectraForMaskedLM", None),
        ("ConvBertModel", "ConvBertModel", None),
        ("ConvBertModel", None, None),
        ("ConvBertModel", "ConvBertForMaskedLM", "ConvBertModel"),
        ("ConvBertForMaskedLM", "ConvBertModel", "ConvBertForMaskedLM"),
        ("ElectraForMaskedLM", "ElectraForPreTraining", "ElectraForMaskedLM"),
        (
            "ConvBertForSequenceClassification",
            "BertForSequenceClassification",
            "ConvBertForSequenc",
        ),
        ("ConvBertModel", "MyOwnConvBertModel", "ConvBertModel"),
    ],
)
def test_what_a_config_calls_its_class_is_compared_with_its_tensors(
    convert, tmp_path, saved, said, taken
):
    source = save_folder(toy_model(saved), tmp_path / "source")
    broken(source, {"architectures": said and [said]})
    _, lines = convert("hf", "hf", source, tmp_path / "there")
    told = [line for line in lines if "says" in line]
    assert len(told) == (taken is not None)
    assert taken is None or f"says {said}, and its tensors are taken as those of {taken}" in told[0]


@pytest.mark.parametrize("number", [1 / 3, 1e5])
def test_numbers_that_the_dtype_of_the_source_lacks(convert, tmp_path, number):
    source = save_folder(toy_model("ConvBertModel").half(), tmp_path / "source")
    here, _ = convert("hf", "fairseq", source, tmp_path / "here")
    state = state_of(here)
    # As after a training, or a change of vocabulary.
    state["model"]["embeddings.tokens.weight"][3] = number
    torch.save(state, here / "model.pt")
    there, lines = convert("fairseq", "hf", here, tmp_path / "there")
    assert "written in float32: float16, as the source was, would change numbers" in lines
    table = load_file(there / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert torch.equal(table, state["model"]["embeddings.tokens.weight"])
    assert transformers.AutoConfig.from_pretrained(there).dtype == torch.float32


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_file_that_is_missing(convert_fails, tmp_path, name):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    (source / name).unlink()
    line = convert_fails("hf", "fairseq", source, tmp_path / "here")
    assert name in line
    assert str(source) in line


def test_a_vocabulary_from_elsewhere(convert, tmp_path):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    vocabulary = shutil.move(source / "vocab.txt", tmp_path / "words.txt")
    folder, _ = convert("hf", "fairseq", source, tmp_path / "here", "--tokenizer", vocabulary)
    assert (folder / "vocab.txt").read_text() == (tmp_path / "words.txt").read_text()


def test_tensors_in_several_files(convert_fails, tmp_path):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    (source / "model.safetensors").rename(source / "model-00001-of-00002.safetensors")
    (source / "model.safetensors.index.json").write_text("{}")
    assert "max_shard_size" in convert_fails("hf", "fairseq", source, tmp_path / "here")


def test_a_config_is_made_of_every_option():
    """An option of the model that this table does not know would be lost on the way."""
    from convbert_plugin.formats import transformers_config

    known = {*transformers_config.CONVBERT_OPTIONS, "conv_type"}
    runtime = {"_name", "conv_backend", "pads_visible", "autocast_dtype"}
    runtime |= {"compile", "checkpoint_activations"}
    assert {field.name for field in ConvBertConfig.__dataclass_fields__.values()} == known | runtime


def test_what_would_run_foreign_code_is_not_passed_on(convert, tmp_path):
    source = save_folder(toy_model("ConvBertModel"), tmp_path / "source")
    broken(source, {"auto_map": {"AutoModel": "a/b--c.D"}, "quantization_config": {"bits": 4}})
    folder, _ = convert("hf", "hf", source, tmp_path / "there")
    assert not {"auto_map", "quantization_config"} & json_of(folder / "config.json").keys()
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json_of(settings), "auto_map": {"AutoTokenizer": ["a", ""]}}))
    again, _ = convert("hf", "hf", folder, tmp_path / "again")
    assert json_of(again / settings.name).keys() == json_of(settings).keys() - {"auto_map"}
    assert transformers.AutoModel.from_pretrained(folder)
