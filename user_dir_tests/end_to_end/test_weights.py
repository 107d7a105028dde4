"""Converted models in fairseq's own commands, trained ones in transformers, and the hub."""

import pytest
import torch
import transformers

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main as convbert_command
from user_dir_tests.end_to_end.conftest import TINY, VOCABULARY
from user_dir_tests.oracles.transformers_models import random_model, save_folder
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.weights

# Those of TINY, in the words of transformers.
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "embedding_size": 20,
    "conv_kernel_size": 3,
    "max_position_embeddings": 40,
    "vocab_size": len(VOCABULARY),
}
TEXTS = ["the small cat sees a mouse.", "the old dog called a cat.", "a bird!", "the"]
KEPT = ("--lr", "0", "--max-update", "1", "--dropout", "0")


def convert(origin, target, source, destination, *options):
    words = ("convert", "--from", origin, "--to", target, source, destination, *options)
    assert convbert_command([str(word) for word in words]) == 0
    return destination


@pytest.fixture
def published(tmp_path):
    """A folder of transformers over the vocabulary of the corpus."""
    model = random_model("ConvBertForMaskedLM", 1, **SIZES)
    return save_folder(model, tmp_path / "published", VOCABULARY)


def messages_of(caplog):
    return [record.message for record in caplog.records]


@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model"])
def test_fairseq_train_starts_from_published_weights(
    corpus, fairseq_train, published, tmp_path, caplog, flag
):
    folder = convert("hf", "fairseq", published, tmp_path / "here")
    run = fairseq_train(corpus.data, tmp_path / "run", flag, folder / "model.pt", *KEPT)
    given = torch.load(folder / "model.pt", weights_only=True)["model"]
    # With a rate of 0, what was loaded is what is saved.
    kept = run.checkpoint()["model"]
    encoder = [name for name in kept if name.startswith(("embeddings.", "encoder."))]
    assert len(encoder) > 40
    assert all(torch.equal(kept[name], given[name]) for name in encoder)
    assert "the checkpoint's masked-LM head is not used here: dropped" in messages_of(caplog)
    assert len(run.logs["train_inner"]) == 1


def test_the_masked_language_model_goes_on(corpus, fairseq_train, published, tmp_path):
    folder = convert("hf", "fairseq", published, tmp_path / "here")
    arguments = ("--restore-file", folder / "model.pt", "--objective", "masked_lm", *KEPT)
    run = fairseq_train(corpus.data, tmp_path / "run", *arguments)
    given = torch.load(folder / "model.pt", weights_only=True)["model"]
    kept = run.checkpoint()["model"]
    assert kept.keys() == given.keys()
    assert all(torch.equal(tensor, given[name]) for name, tensor in kept.items())


def test_a_run_that_started_so_is_resumed(corpus, fairseq_train, published, tmp_path):
    folder = convert("hf", "fairseq", published, tmp_path / "here")
    start = ("--finetune-from-model", folder / "model.pt", "--total-num-update", "9")
    fairseq_train(corpus.data, tmp_path / "run", *start, "--max-update", "2")
    resumed = fairseq_train(corpus.data, tmp_path / "run", *start, "--max-update", "4")
    assert [log["num_updates"] for log in resumed.logs["train_inner"]] == ["3", "4"]


def test_a_converted_pretraining_validates_alike(corpus, fairseq_train, fairseq_validate, tmp_path):
    # The converted one has the default seed, which chooses the masks of the validation.
    run = fairseq_train(corpus.data, tmp_path / "run", "--max-update", "3", "--seed", "1")
    folder = convert("fairseq", "fairseq", run.folder, tmp_path / "again")
    losses = [
        fairseq_validate(corpus.data, path)["valid"][-1]["valid_loss"]
        for path in (run.folder / "checkpoint_last.pt", folder / "model.pt")
    ]
    assert losses[0] == losses[1]


def test_a_pretrained_model_gives_its_features_in_transformers(pretrained, tmp_path):
    folder = convert("fairseq", "hf", pretrained.folder, tmp_path / "there")
    convbert = ConvBertModel.from_pretrained(pretrained.folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for pair in [(text,) for text in TEXTS] + [(TEXTS[0], TEXTS[1])]:
        tokens = convbert.encode(*pair)
        batch = tokenizer(*pair, return_tensors="pt")
        assert batch["input_ids"][0].tolist() == tokens.tolist()
        with torch.no_grad():
            theirs = model(**batch, output_hidden_states=True).hidden_states
        ours = convbert.extract_features(tokens, return_all_hiddens=True)
        for mine, oracle in zip(ours, theirs, strict=True):
            assert relative_error(mine, oracle) <= TOLERANCES[torch.float32]["transformers"]


def test_special_tokens_of_a_text_are_text_in_transformers_too(
    pretrained, published, tmp_path, capsys
):
    """But where it has to fill masks: there it takes all of them for what they are called."""
    convbert = ConvBertModel.from_pretrained(pretrained.folder)
    texts = ["the [SEP] [CLS] sees", "[UNK][PAD] a <s> </s> [MASK]."]
    capsys.readouterr()
    there = convert("fairseq", "hf", pretrained.folder, tmp_path / "there")
    assert "split_special_tokens" not in capsys.readouterr().out
    tokenizer = transformers.AutoTokenizer.from_pretrained(there)
    for text in (texts, [texts[0]], [texts[1]]):
        assert tokenizer(*text)["input_ids"] == convbert.encode(*text).tolist()
    here = convert("hf", "fairseq", published, tmp_path / "here")
    masks = convert("fairseq", "hf", here, tmp_path / "masks")
    assert "split_special_tokens=True for texts" in capsys.readouterr().out
    tokenizer = transformers.AutoTokenizer.from_pretrained(masks)
    fill = transformers.pipeline("fill-mask", model=str(masks), tokenizer=tokenizer, top_k=3)
    theirs = [guess["token_str"] for guess in fill("the [MASK] sees.")]
    ours = ConvBertModel.from_pretrained(here).fill_mask("the [MASK] sees.", topk=3)
    assert theirs == [guess.token for guess in ours]
    split = tokenizer(*texts, split_special_tokens=True)
    assert split["input_ids"] == convbert.encode(*texts).tolist()


def test_a_model_of_sentencepieces_goes_to_transformers(tmp_path, corpus, fairseq_train):
    from user_dir_tests.end_to_end.conftest import run_preprocess

    vocabulary, pieces = tmp_path / "vocabulary", tmp_path / "pieces"
    text = corpus.text / "train.txt"
    command = ("train-vocab", "--vocab-size", "45", text, vocabulary)
    assert convbert_command([str(word) for word in command]) == 0
    for split in ("train", "valid"):
        source = corpus.text / f"{split}.txt"
        command = ("encode", "--workers", "1", "--tokenizer", vocabulary, source)
        arguments = [str(word) for word in (*command, pieces / f"{split}.txt")]
        assert convbert_command(arguments) == 0
    run_preprocess(pieces, tmp_path / "data")
    run = fairseq_train(tmp_path / "data", tmp_path / "run", "--max-update", "2")
    folder = convert("fairseq", "hf", run.folder, tmp_path / "there")
    convbert = ConvBertModel.from_pretrained(run.folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config, vocabulary = model.config, convbert.vocabulary
    assert config.pad_token_id == tokenizer.pad_token_id == vocabulary.pad()
    assert config.bos_token_id == tokenizer.cls_token_id == vocabulary.bos()
    assert config.eos_token_id == tokenizer.sep_token_id == vocabulary.eos()
    for text in TEXTS:
        batch = tokenizer(text, return_tensors="pt")
        assert batch["input_ids"][0].tolist() == convbert.encode(text).tolist()
        with torch.no_grad():
            theirs = model(**batch).last_hidden_state
        ours = convbert.extract_features(convbert.encode(text))
        assert relative_error(ours, theirs) <= TOLERANCES[torch.float32]["transformers"]
    back = convert("hf", "fairseq", folder, tmp_path / "back")
    again = ConvBertModel.from_pretrained(back)
    for text in TEXTS:
        assert torch.equal(again.encode(text), convbert.encode(text))


def with_heads(run, folder):
    """The checkpoint of a run as if heads had been trained with it, the rest as it is."""
    convbert = ConvBertModel.from_pretrained(run.folder)
    convbert.register_classification_head("mrpc", num_classes=2)
    convbert.register_classification_head("score", num_classes=1)
    convbert.register_classification_head("tone", num_classes=3, kind="transformers")
    state = run.checkpoint()
    state["model"] = convbert.model.state_dict()
    folder.mkdir()
    torch.save(state, folder / "checkpoint_best.pt")
    for name in ("dict.txt", "vocab.txt", "tokenizer_config.json"):
        (folder / name).write_bytes((run.folder / name).read_bytes())
    return convbert, folder


def test_heads_are_restored(pretrained, tmp_path):
    before, folder = with_heads(pretrained, tmp_path / "heads")
    after = ConvBertModel.from_pretrained(folder)
    tokens = after.encode(*TEXTS[:2])
    for head, classes in (("mrpc", 2), ("score", 1), ("tone", 3)):
        prediction = after.predict(head, tokens)
        assert prediction.shape == (1, classes)
        assert torch.equal(prediction, before.predict(head, tokens))
        if classes > 1:
            assert prediction.exp().sum().item() == pytest.approx(1, abs=1e-6)
    # Of the pretraining, what detects and fills is there too.
    assert torch.equal(after.detect_replaced(tokens), before.detect_replaced(tokens))
    assert after.fill_mask("the [MASK] sees.") == before.fill_mask("the [MASK] sees.")


def test_heads_that_training_does_not_use_are_dropped(
    corpus, pretrained, fairseq_train, tmp_path, caplog
):
    _, folder = with_heads(pretrained, tmp_path / "heads")
    start = ("--finetune-from-model", folder / "checkpoint_best.pt")
    run = fairseq_train(corpus.data, tmp_path / "run", *start, "--max-update", "1")
    assert "the checkpoint's classification head mrpc is not used here: dropped" in messages_of(
        caplog
    )
    assert not any(name.startswith("classification_heads.") for name in run.checkpoint()["model"])


def test_a_checkpoint_that_is_not_there_is_no_fresh_start(corpus, fairseq_train, tmp_path):
    """fairseq itself would train from scratch."""
    with pytest.raises(SystemExit) as ended:
        fairseq_train(corpus.data, tmp_path / "run", "--restore-file", tmp_path / "nowhere.pt")
    assert "nowhere.pt: no such file" in ended.value.code


def test_the_printed_options_build_the_model(corpus, fairseq_train, published, tmp_path, capsys):
    folder = convert("hf", "fairseq", published, tmp_path / "here", "--pads-visible")
    line = next(line for line in capsys.readouterr().out.splitlines() if "--arch" in line)
    options = line.split(" with ")[1].split()
    assert "--pads-visible" in options
    start = ("--finetune-from-model", folder / "model.pt", "--max-update", "1")
    run = fairseq_train(corpus.data, tmp_path / "run", *TINY[:2], *options, *start)
    config = run.checkpoint()["cfg"]["model"]
    assert config["encoder_embed_dim"] == SIZES["hidden_size"]
    assert config["pads_visible"] is True


@pytest.mark.parametrize(
    ("trained_with", "printed"),
    [
        (
            ("--generator-size", "1", "--tokens-per-sample", "48", "--max-positions", "64"),
            ("--max-positions 64", "--tokens-per-sample 48", "--generator-size 1.0"),
        ),
        (
            ("--objective", "masked_lm", "--tokens-per-sample", "128", "--max-positions", "130"),
            ("--max-positions 130", "--objective masked_lm"),
        ),
    ],
    ids=["generator", "masked_lm"],
)
def test_the_printed_options_build_every_part(
    corpus, fairseq_train, tmp_path, capsys, caplog, trained_with, printed
):
    """Beside what no model has: data, task, criterion and optimization."""
    run = fairseq_train(corpus.data, tmp_path / "run", *trained_with, "--max-update", "1")
    folder = convert("fairseq", "fairseq", run.folder, tmp_path / "again")
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("fairseq-train takes it with"))
    options = line.split(" with ")[1]
    assert all(words in options for words in printed)
    assert ("--tokens-per-sample" in options) is ("48" in trained_with)
    others = ("--lr", "0", "--max-update", "1", "--tokens-per-sample", "128")
    start = ("--finetune-from-model", folder / "model.pt", *others)
    again = fairseq_train(corpus.data, tmp_path / "on", *start, *options.split())
    assert not any("starts from a fresh one" in message for message in messages_of(caplog))
    given = torch.load(folder / "model.pt", weights_only=True)["model"]
    kept = again.checkpoint()["model"]
    assert all(torch.equal(kept[name], tensor) for name, tensor in given.items())
    names = [words.split()[0] for words in printed if words.startswith(("--gen", "--obj"))]
    assert f"fine-tuning takes it without {' and '.join(names)}" in lines
