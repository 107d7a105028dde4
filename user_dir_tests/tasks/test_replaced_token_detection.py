"""The task: what it refuses, what it hands the checkpoint, what it builds."""

import gc
import os

import numpy as np
import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.tasks.replaced_token_detection import ReplacedTokenDetectionTask
from convbert_plugin.tokenization.tokenizer import load_tokenizer
from convbert_plugin.training.fairseq_options import check_precision
from convbert_plugin.training.run_lock import LOCK_FILE

pytestmark = pytest.mark.pretraining


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


@pytest.fixture
def folder(tmp_path, write_vocabulary):
    write_vocabulary(tmp_path / "data")
    return tmp_path / "data"


def test_shards_of_different_vocabularies(setup_task, write_vocabulary, write_lines, folder):
    other = folder.with_name("other")
    write_vocabulary(other, words=150)
    for shard in (folder, other):
        write_lines(shard / "train", [[9] * 20])
    # Before the first epoch, which may take days.
    with pytest.raises(UserError) as error:
        setup_task(os.pathsep.join(map(str, (folder, other))))
    assert_one_line(error, other / "dict.txt", "--srcdict")


def test_missing_split(setup_task, corpus):
    with pytest.raises(UserError) as error:
        setup_task(corpus).load_dataset("test")
    assert_one_line(error, corpus / "test.bin", "fairseq-preprocess")


@pytest.mark.parametrize("sharded", [False, True])
def test_missing_dictionary(setup_task, corpus, tmp_path, sharded):
    data = f"{corpus}{os.pathsep}{tmp_path}" if sharded else tmp_path
    with pytest.raises(UserError) as error:
        setup_task(data)
    assert_one_line(error, tmp_path / "dict.txt", "is missing", "fairseq-preprocess")


def test_missing_index(setup_task, write_lines, folder):
    write_lines(folder / "train", [[9] * 20])
    (folder / "train.idx").unlink()
    with pytest.raises(UserError) as error:
        setup_task(folder).load_dataset("train")
    assert_one_line(error, folder / "train.idx", "fairseq-preprocess")


def test_empty_corpus(setup_task, write_lines, folder):
    """What fairseq-preprocess makes of an empty text."""
    write_lines(folder / "train", [])
    assert (folder / "train.bin").stat().st_size == 0
    with pytest.raises(UserError) as error:
        setup_task(folder).load_dataset("train")
    assert_one_line(error, folder / "train.bin", "no text")


@pytest.mark.slow
# fairseq's data set that could not be made complains as it is thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", ["bin", "idx"])
@pytest.mark.parametrize("kept", [4, 50])
def test_files_cut_short(setup_task, write_lines, random_lines, folder, suffix, kept):
    write_lines(folder / "train", random_lines(1))
    file = folder / f"train.{suffix}"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError) as error:
        setup_task(folder).load_dataset("train")
    assert_one_line(error, folder / "train.bin", "cut short", "fairseq-preprocess")
    del error
    gc.collect()


def test_format_without_random_access(setup_task, write_lines, folder):
    write_lines(folder / "train", [[9] * 20], kind="cached")
    with pytest.raises(UserError) as error:
        setup_task(folder).load_dataset("train")
    assert_one_line(error, folder / "train.bin", "--dataset-impl mmap")


def test_corpus_of_blank_lines(setup_task, write_lines, folder):
    write_lines(folder / "train", [[], [], []])
    with pytest.raises(UserError) as error:
        setup_task(folder).load_dataset("train")
    assert_one_line(error, folder / "train.bin", "no text")


def test_ids_beyond_the_vocabulary(setup_task, write_vocabulary, write_lines, tmp_path):
    smaller = tmp_path / "smaller"
    write_vocabulary(smaller, words=150)
    write_lines(smaller / "train", [[9] * 20] * 50 + [[9, 150, 7]])
    with pytest.raises(UserError) as error:
        setup_task(smaller).load_dataset("train")
    assert_one_line(error, smaller / "train.bin", "token 150", "150 of dict.txt")


def test_the_last_id_of_the_vocabulary_is_in_it(setup_task, write_lines, folder):
    write_lines(folder / "train", [[199] * 20])
    task = setup_task(folder)
    task.load_dataset("train")
    assert len(task.dataset("train")) == 1


def test_lines_of_another_separator(setup_task, write_lines, folder):
    write_lines(folder / "train", [[9] * 20], end=2)
    with pytest.raises(UserError) as error:
        setup_task(folder).load_dataset("train")
    assert_one_line(error, folder / "train.bin", "line 1", "[SEP]")


@pytest.mark.parametrize("length", ["7", "0", "-128"])
def test_examples_too_short_to_be(setup_task, corpus, length):
    with pytest.raises(UserError) as error:
        setup_task(corpus, "--tokens-per-sample", length)
    assert_one_line(error, f"--tokens-per-sample {length}", "at least 8")


def test_examples_longer_than_the_model(config_of, setup_task, corpus):
    config = config_of(corpus, "--max-positions", "31")
    with pytest.raises(UserError) as error:
        setup_task(corpus).build_model(config.model)
    assert_one_line(error, "--tokens-per-sample 32", "31 positions", "--max-positions")


@pytest.mark.parametrize("mask_prob", ["0", "1", "-0.15", "15", "nan"])
def test_mask_prob_out_of_range(setup_task, corpus, mask_prob):
    with pytest.raises(UserError) as error:
        setup_task(corpus, "--mask-prob", mask_prob)
    assert_one_line(error, "--mask-prob", "between 0 and 1")


@pytest.mark.parametrize("flag", ["--bf16", "--fp16", "--amp"])
def test_precision_flags_of_fairseq(setup_task, corpus, flag):
    with pytest.raises(UserError) as error:
        setup_task(corpus, flag)
    assert_one_line(error, flag, "use --autocast-dtype bfloat16")


@pytest.mark.parametrize("flag", ["fp16", "amp"])
def test_precision_flags_pass_on_a_gpu(config_of, corpus, flag, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = config_of(corpus, f"--{flag}").task
    config.cpu = False
    check_precision(config)


@pytest.mark.parametrize("optimizer", ["convbert_adamw", "adam"])
def test_memory_efficient_precision_is_for_other_optimizers(
    config_of, corpus, optimizer, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    flag = "--memory-efficient-fp16"
    config = config_of(corpus, flag, "--optimizer", optimizer).task
    config.cpu = False
    if optimizer == "adam":
        check_precision(config)
        return
    with pytest.raises(UserError) as error:
        check_precision(config)
    assert_one_line(error, f"{flag} does not go with", "use --autocast-dtype bfloat16")


def test_a_checkpoint_of_any_precision_is_read(config_of, corpus):
    """What was trained on a GPU is opened on a CPU."""
    config = config_of(corpus, "--fp16").task
    assert ReplacedTokenDetectionTask.setup_task(config, from_checkpoint=True)


def test_the_checkpoint_folder_gets_dictionary_and_tokenizer(setup_task, corpus, tmp_path):
    save_dir = tmp_path / "checkpoints"
    save_dir.mkdir()
    task = setup_task(corpus, "--save-dir", str(save_dir))
    state = task.get_checkpoint_dict()
    names = {file.name for file in save_dir.iterdir()}
    assert names - {LOCK_FILE} == {"dict.txt", "vocab.txt"}
    for name in ("dict.txt", "vocab.txt"):
        assert (save_dir / name).read_bytes() == (corpus / name).read_bytes()
    kept = {**load_tokenizer(corpus / "vocab.txt").description(), "trained_positions": 0}
    kept["begun"] = {"kind": "random weights"}
    assert state == {"ReplacedTokenDetectionTask": kept}
    assert kept["vocabulary"] == task.source_dictionary.fingerprint()
    task.get_checkpoint_dict()


def test_the_state_is_loaded_without_running_code(setup_task, corpus, tmp_path):
    path = tmp_path / "state.pt"
    torch.save(setup_task(corpus).state_dict(), path)
    setup_task(corpus).load_state_dict(torch.load(path, weights_only=True))


def test_a_checkpoint_of_another_vocabulary(setup_task, write_vocabulary, corpus, tmp_path):
    write_vocabulary(tmp_path / "other", words=150)
    other = setup_task(tmp_path / "other")
    task = setup_task(corpus)
    for load in (task.load_state_dict, task.set_checkpoint_dict):
        with pytest.raises(UserError) as error:
            load(other.state_dict())
        assert_one_line(error, corpus, "dict.txt beside the checkpoint")
        load(task.state_dict())
        load({})


def test_scores_become_python_floats(setup_task, corpus):
    stats = {"loss": torch.tensor(1.5), "auc": torch.tensor(0.25, dtype=torch.float64), "n": 3}
    setup_task(corpus).post_validate(None, stats, None)
    assert stats == {"loss": 1.5, "auc": 0.25, "n": 3}
    assert {type(value) for value in stats.values()} == {float, int}


def test_vocabulary_and_numbers_for_model_and_criterion(setup_task, corpus):
    task = setup_task(corpus, "--tokens-per-sample", "128")
    assert task.max_positions() == 128
    assert task.masked_tokens_per_token == 19 / 128
    assert len(task.source_dictionary) == len(task.target_dictionary) == 200


@pytest.mark.parametrize(
    ("flags", "option", "value"),
    [
        (("--mask-prob", "0.3"), "mask_prob", 0.3),
        (("--objective", "masked_lm"), "objective", "masked_lm"),
        (("--mask-with-replacement",), "mask_with_replacement", True),
        (("--full-blocks",), "full_blocks", True),
        (("--tokens-per-sample", "64"), "max_length", 64),
        (("--seed", "9"), "seed", 9),
    ],
)
def test_options_reach_the_examples(setup_task, corpus, flags, option, value):
    defaults, task = setup_task(corpus), setup_task(corpus, *flags)
    for each in (defaults, task):
        each.load_dataset("valid")
    assert getattr(task.dataset("valid").options, option) == value
    assert getattr(defaults.dataset("valid").options, option) != value


def test_examples_are_those_of_the_file(setup_task, write_lines, folder):
    lines = [[10] * 8, [11] * 9, [], [12] * 40, [13] * 3]
    write_lines(folder / "train", lines)
    task = setup_task(folder, "--full-blocks", "--tokens-per-sample", "22")
    task.load_dataset("train")
    dataset = task.dataset("train")
    found = []
    for index in range(len(dataset)):
        example = dataset[index]
        tokens = example["tokens"].clone()
        tokens[example["positions"]] = example["targets"]
        found.append(tokens.tolist())
    assert found == [
        [2, *[10] * 8, *[11] * 9, 3],
        [2, *[12] * 20, 3],
        [2, *[12] * 20, 3],
        [2, *[13] * 3, 3],
    ]
    assert np.asarray(dataset.sizes).tolist() == [19, 22, 22, 5]


def warnings_of(caplog, task, split="train"):
    caplog.clear()
    task.load_dataset(split)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("length", [310, 2900])
def test_much_text_that_never_reaches_the_model_is_told(
    setup_task, write_lines, folder, caplog, length
):
    # One document a line, of which an example holds 29 tokens beside [CLS], [SEP] and [SEP].
    write_lines(folder / "train", [[10] * length, []] * 50)
    (line,) = warnings_of(caplog, setup_task(folder, "--tokens-per-sample", "32"))
    # Short examples are drawn at random, but cut as the others are.
    assert f"{1 - 29 / length:.0%} OF THE TEXT NEVER REACHES THE MODEL" in line
    assert "--full-blocks" in line
    full = setup_task(folder, "--tokens-per-sample", "32", "--full-blocks")
    assert warnings_of(caplog, full) == []
    dataset = full.dataset("train")
    assert sum(len(dataset[index]["tokens"]) - 2 for index in range(len(dataset))) == 50 * length


def test_little_text_lost_is_no_warning(setup_task, write_lines, folder, caplog):
    write_lines(folder / "train", [[10] * 9, [11] * 9, []] * 50)
    assert warnings_of(caplog, setup_task(folder, "--tokens-per-sample", "32")) == []


def test_data_without_a_tokenizer_is_refused(setup_task, write_lines, folder, tmp_path):
    # As fairseq-preprocess leaves it without --srcdict, or without --user-dir.
    write_lines(folder / "train", [[9] * 20])
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError) as error:
        setup_task(folder)
    assert_one_line(error, folder, "no tokenizer beside its dict.txt", "--srcdict", "--user-dir")
