"""Data and checkpoint of one vocabulary, whose texts were normalized otherwise, are refused."""

import json
import shutil

import fairseq_cli.train
import fairseq_cli.validate
import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main as convbert
from user_dir_tests.end_to_end.conftest import RECIPE, TASK, TINY, run_main
from user_dir_tests.end_to_end.glue_runs import GLUE_TASK, GLUE_USUAL, write_pairs

pytestmark = [pytest.mark.survival, pytest.mark.slow]

# What tokenizer_config.json says instead of uncased, and what is said of it.
OTHERS = {
    "cased": ({"do_lower_case": False, "strip_accents": True}, "case ('Aa': 'aa' and 'Aa')"),
    "accents": ({"strip_accents": False}, "accents ('é': 'e' and 'é')"),
    "Chinese": (
        {"tokenize_chinese_chars": False},
        "Chinese characters ('漢字': ' 漢 字 ' and '漢字')",
    ),
}


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    """RTE as convbert prepare-glue makes it, of the tokenizer of the corpus."""
    folder = tmp_path_factory.mktemp("rte")
    source = write_pairs(folder / "RTE", ("entailment", "not_entailment"))
    words = ("--glue-task", "rte", "--tokenizer", corpus.pieces, source, folder / "data")
    assert convbert(["prepare-glue", *map(str, words)]) == 0
    return folder / "data"


@pytest.fixture(scope="module")
def fine_tuned(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fine_tuned") / "run"
    with pytest.MonkeyPatch.context() as patch:
        usual = (*GLUE_USUAL, "--save-dir", folder, "--max-update", "1")
        run_main(patch, fairseq_cli.train, prepared, *usual)
    return folder


@pytest.fixture(params=OTHERS)
def otherwise(request, tmp_path):
    """A copy of a folder whose tokenizer has another setting; the words for that."""
    settings, words = OTHERS[request.param]

    def copy(folder, inside="."):
        copied = shutil.copytree(folder, tmp_path / f"other_{folder.name}")
        path = copied / inside / "tokenizer_config.json"
        held = json.loads(path.read_text())
        path.write_text(json.dumps({**held, **settings}))
        return copied

    return copy, f"another treatment of {words}"


def without_outcomes(checkpoint):
    """The checkpoint as an earlier version wrote it."""
    state = torch.load(checkpoint, weights_only=True)
    for kept in (state["task_state"], *state["extra_state"].values()):
        if isinstance(kept, dict):
            kept.pop("tokenizer", None)
    torch.save(state, checkpoint)


def line_of(action, *arguments):
    with pytest.raises(SystemExit) as ended:
        action(*arguments)
    line = ended.value.code
    assert isinstance(line, str)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model", "--save-dir"])
def test_pretraining_is_not_gone_on_with(
    pretrained, corpus, otherwise, run_fairseq, tmp_path, flag, is_old
):
    copy, words = otherwise
    checkpoint = pretrained.folder / "checkpoint_last.pt"
    if is_old:
        without_outcomes(checkpoint)
    where = pretrained.folder if flag == "--save-dir" else checkpoint
    usual = (*TASK, *TINY, *RECIPE, "--save-dir", tmp_path / "run", "--max-update", "4")
    data = copy(corpus.data)
    assert words in line_of(run_fairseq, fairseq_cli.train, data, *usual, flag, where)
    assert json.loads((pretrained.folder / "tokenizer_config.json").read_text())["do_lower_case"]


def test_a_checkpoint_alone_knows_its_tokenizer(
    pretrained, corpus, otherwise, run_fairseq, tmp_path
):
    copy, words = otherwise
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(pretrained.folder / "checkpoint_last.pt", alone)
    usual = (*TASK, *TINY, *RECIPE, "--save-dir", tmp_path / "run", "--max-update", "4")
    begin = ("--finetune-from-model", alone / "checkpoint_last.pt")
    data = copy(corpus.data)
    line = line_of(run_fairseq, fairseq_cli.train, data, *usual, *begin)
    assert f"checkpoint_last.pt: was trained with {words} than {data} was made with" in line
    shards = f"{corpus.data}:{data}"
    line = line_of(run_fairseq, fairseq_cli.train, shards, *usual)
    assert f"{data / 'dict.txt'}: {words.split(' (')[0]} (" in line
    assert f"than {corpus.data}'s" in line
    validate = (*TASK, "--path", alone / "checkpoint_last.pt", "--batch-size", "8", "--cpu")
    line = line_of(run_fairseq, fairseq_cli.validate, data, *validate)
    assert f"{data}: this data was made with {words} than the checkpoint" in line


@pytest.mark.parametrize("is_old", [False, True])
def test_fine_tuning_and_predicting(
    prepared, fine_tuned, pretrained, otherwise, run_fairseq, tmp_path, is_old
):
    copy, words = otherwise
    run = shutil.copytree(fine_tuned, tmp_path / "run")
    for folder in (run, pretrained.folder) if is_old else ():
        without_outcomes(folder / "checkpoint_last.pt")
    data = copy(prepared, "input0")
    # As if it had been made so.
    (data / "SHA256SUMS").unlink()
    begin = ("--finetune-from-model", pretrained.folder / "checkpoint_last.pt")
    usual = (*GLUE_USUAL, "--max-update", "2", "--save-dir")
    assert words in line_of(run_fairseq, fairseq_cli.train, data, *usual, tmp_path / "a", *begin)
    assert words in line_of(run_fairseq, fairseq_cli.train, data, *usual, run)
    path = ("--path", run / "checkpoint_last.pt")
    predict = ["predict-glue", *map(str, path), str(data), str(tmp_path / "out")]
    line = line_of(convbert, predict)
    assert f"{data}: was prepared with {words} than {run}" in line
    assert not (tmp_path / "out").exists()
    if not is_old:
        validate = (*GLUE_TASK, *path, "--batch-size", "8", "--cpu")
        assert words in line_of(run_fairseq, fairseq_cli.validate, data, *validate)


def test_a_folder_whose_tokenizer_was_changed(pretrained, otherwise, tmp_path):
    copy, words = otherwise
    folder = copy(pretrained.folder)
    with pytest.raises(ValueError, match="was trained with") as error:
        ConvBertModel.from_pretrained(folder, checkpoint_file="checkpoint_last.pt")
    assert words in str(error.value)
    convert = ["convert", "--from", "fairseq", "--to", "fairseq", str(folder), str(tmp_path / "a")]
    assert words in line_of(convbert, convert)


def test_files_of_another_kind_that_do_the_same_go_together(prepared, fine_tuned, corpus, tmp_path):
    """What transformers makes of a vocab.txt has another file, and cuts the same."""
    from transformers import BertTokenizer

    theirs, data = tmp_path / "theirs", tmp_path / "data"
    BertTokenizer(vocab=str(corpus.text / "vocab.txt")).save_pretrained(theirs)
    words = ("--glue-task", "rte", "--tokenizer", theirs, prepared.parent / "RTE", data)
    assert convbert(["prepare-glue", *map(str, words)]) == 0
    assert (data / "input0" / "tokenizer.json").is_file()
    path = ("--path", str(fine_tuned / "checkpoint_last.pt"))
    for source, out in ((prepared, "ours"), (data, "of_theirs")):
        assert convbert(["predict-glue", *path, str(source), str(tmp_path / out)]) == 0
    files = [(tmp_path / out / "RTE.tsv").read_bytes() for out in ("ours", "of_theirs")]
    assert files[0] == files[1]
