"""Fine-tuning through fairseq's own commands: scores, starts, resumes, and one-line errors."""

import resource

import fairseq_cli.train
import fairseq_cli.validate
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn_metrics

from convbert_plugin.analysis.predictions.glue_predictions import load_fine_tuned, predict
from convbert_plugin.cli import main as convbert
from convbert_plugin.data.glue.glue_files import open_rows
from convbert_plugin.files.fingerprints import fingerprint_of
from user_dir_tests.end_to_end.conftest import EVERY_EXAMPLE, Run, record_of
from user_dir_tests.end_to_end.glue_runs import (
    GLUE_TASK,
    GLUE_USUAL,
    LABELS,
    write_mnli,
    write_pairs,
    write_similarities,
)
from user_dir_tests.end_to_end.unrounded import unrounded_updates

pytestmark = pytest.mark.glue

EXACT = 1e-9
# Logits are those of other batches than in training: fp32, and a score may tip by a rounding.
OF_OTHER_BATCHES = 1e-5
# Sums of gradients in another order.
SAME_NORM = 1e-4


def prepare(task, source, out, tokenizer, *options):
    words = ("prepare-glue", "--glue-task", task, "--tokenizer", tokenizer, source, out, *options)
    assert convbert([str(word) for word in words]) == 0
    return out


@pytest.fixture(scope="session")
def glue_data(corpus, tmp_path_factory):
    """Prepared tasks by name."""
    folder = tmp_path_factory.mktemp("glue")
    entailment = ("entailment", "not_entailment")
    sources = {
        "rte": write_pairs(folder / "RTE", entailment),
        "mnli": write_mnli(folder / "MNLI"),
        "sts-b": write_similarities(folder / "STS-B"),
    }
    return {
        task: prepare(task, source, folder / "data" / task, corpus.pieces)
        for task, source in sources.items()
    }


@pytest.fixture
def fine_tune(run_fairseq):
    """Fine-tune a tiny model; the arguments given override the usual ones."""

    def run(data, folder, *arguments):
        usual = (*GLUE_USUAL, "--save-dir", folder)
        return Run(folder, run_fairseq(fairseq_cli.train, data, *usual, *arguments))

    return run


def judged(run, data, split, checkpoint="checkpoint_last.pt"):
    """What the trained model says of a split in batches of one, and the truth."""
    fine_tuned = load_fine_tuned(run.folder / checkpoint, data)
    truth = open_rows(data, fine_tuned.prepared, split, fine_tuned.model.vocabulary).targets
    return predict(fine_tuned, split, batch_size=1), truth


def test_the_accuracy_of_both_sets_of_mnli_in_one_run(glue_data, fine_tune, tmp_path):
    data = glue_data["mnli"]
    subsets = ("--valid-subset", "valid,valid1", "--best-checkpoint-metric", "accuracy")
    run = fine_tune(
        data, tmp_path / "run", *subsets, "--maximize-best-checkpoint-metric", "--max-update", "10"
    )
    record = record_of(run)
    assert [entry["subset"] for entry in record["validations"]] == ["valid", "valid1"] * 2
    for subset, entry in zip(("valid", "valid1"), record["validations"][-2:], strict=True):
        logits, truth = judged(run, data, subset)
        expected = sklearn_metrics.accuracy_score(truth, logits.argmax(-1))
        assert entry["accuracy"] == pytest.approx(expected, abs=EXACT)
    best = max(entry["accuracy"] for entry in record["validations"][::2])
    assert run.checkpoint("checkpoint_best.pt")["extra_state"]["val_loss"] == best


def test_mnli_without_its_mismatched_set_trains_by_the_same_recipe(
    corpus, fine_tune, tmp_path, caplog
):
    folder = write_mnli(tmp_path / "MNLI")
    (folder / "dev_mismatched.tsv").unlink()
    data = prepare("mnli", folder, tmp_path / "data", corpus.pieces)
    run = fine_tune(data, tmp_path / "run", "--valid-subset", "valid,valid1", "--max-update", "1")
    assert [entry["subset"] for entry in record_of(run)["validations"]] == ["valid"]
    assert f"{data}: was prepared without dev_mismatched.tsv: validating on valid" in caplog.text


def test_the_correlations_of_scores(glue_data, fine_tune, tmp_path):
    data = glue_data["sts-b"]
    options = ("--double-unordered", "--best-checkpoint-metric", "pearson", "--max-update", "20")
    run = fine_tune(data, tmp_path / "run", *options, "--maximize-best-checkpoint-metric")
    entry = record_of(run)["validations"][-1]
    # 40 pairs in both orders are ten batches of eight.
    assert entry["updates"] == 20
    logits, truth = judged(run, data, "valid")
    scores = logits.squeeze(-1).double().numpy()
    assert entry["pearson"] == pytest.approx(stats.pearsonr(scores, truth)[0], abs=OF_OTHER_BATCHES)
    assert entry["spearman"] == pytest.approx(stats.spearmanr(scores, truth)[0], abs=EXACT)


@pytest.mark.parametrize("size", ["1", "7", "32"])
def test_validate_alone_gives_the_same_with_any_batch_size(
    glue_data, fine_tune, run_fairseq, tmp_path, size
):
    data = glue_data["rte"]
    run = fine_tune(data, tmp_path / "run", "--max-update", "3")
    logits, truth = judged(run, data, "valid")
    expected = sklearn_metrics.accuracy_score(truth, logits.argmax(-1))
    path = ("--path", run.folder / "checkpoint_last.pt", "--valid-subset", "valid")
    usual = ("--batch-size", size, "--cpu", "--num-workers", "0", "--log-format", "json")
    logs = run_fairseq(fairseq_cli.validate, data, *GLUE_TASK, *path, *usual)
    assert float(logs["valid"][-1]["valid_accuracy"]) == pytest.approx(expected, abs=1e-6)


def test_what_is_scored_has_a_head_of_its_own(
    glue_data, other_order, fine_tune, run_fairseq, tmp_path
):
    run = fine_tune(glue_data["rte"], tmp_path / "run", "--max-update", "1")
    usual = ("--path", run.folder / "checkpoint_last.pt", "--batch-size", "8", "--cpu")
    line = last_line(
        lambda: run_fairseq(fairseq_cli.validate, glue_data["mnli"], *GLUE_TASK, *usual)
    )
    assert "holds mnli, the checkpoint is of a run on rte" in line
    other = prepare(
        "rte", glue_data["rte"].parents[1] / "RTE", tmp_path / "other", other_order.pieces
    )
    line = last_line(lambda: run_fairseq(fairseq_cli.validate, other, *GLUE_TASK, *usual))
    assert f"{other}: this data was made with another vocabulary than the checkpoint" in line


def test_a_folder_of_another_tasks_run_is_not_gone_on_with(glue_data, fine_tune, tmp_path):
    fine_tune(glue_data["rte"], tmp_path / "run", "--max-update", "1")
    before = record_of(Run(tmp_path / "run", {}))
    line = last_line(lambda: fine_tune(glue_data["mnli"], tmp_path / "run", "--max-update", "2"))
    assert "holds mnli, the checkpoint is of a run on rte: choose another --save-dir" in line
    assert record_of(Run(tmp_path / "run", {})) == before


def test_no_rounding_of_scores_under_autocast(glue_data, fine_tune, tmp_path):
    options = ("--autocast-dtype", "bfloat16", "--max-update", "2")
    run = fine_tune(glue_data["sts-b"], tmp_path / "run", *options)
    logits, _ = judged(run, glue_data["sts-b"], "valid")
    assert (logits != logits.bfloat16().float()).any()


@pytest.mark.survival
@pytest.mark.parametrize("task", ["mnli", "sts-b"])
def test_two_processes_score_the_whole_set(glue_data, train_on_two, tmp_path, task):
    data, folder = glue_data[task], tmp_path / "two"
    train_on_two(data, *GLUE_USUAL, "--save-dir", folder, "--max-update", "3")
    run = Run(folder, {})
    logits, truth = judged(run, data, "valid")
    entry = record_of(run)["validations"][-1]
    if task == "mnli":
        expected = sklearn_metrics.accuracy_score(truth, logits.argmax(-1))
        assert entry["accuracy"] == pytest.approx(expected, abs=EXACT)
    else:
        scores = logits.squeeze(-1).double().numpy()
        assert entry["spearman"] == pytest.approx(stats.spearmanr(scores, truth)[0], abs=EXACT)


@pytest.mark.survival
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_any_split_of_a_batch_gives_the_same_gradient(
    glue_data, fine_tune, train_on_two, tmp_path, reduction
):
    """Clipping and Adam hide a factor of it, so its norm before both is held too."""
    options = ("--dropout", "0", "--attention-dropout", "0", "--loss-reduction", reduction)
    # Every batch is full: forty rows.
    options += ("--max-update", "5", "--clip-norm", "0.05", *EVERY_EXAMPLE)
    data = glue_data["rte"]
    with unrounded_updates() as of_whole:
        whole = fine_tune(data, tmp_path / "whole", *options, "--batch-size", "40")
    freq = ("--batch-size", "10", "--update-freq", "4")
    with unrounded_updates() as of_freq:
        by_freq = fine_tune(data, tmp_path / "freq", *options, *freq)
    by_two = Run(tmp_path / "two", {})
    usual = (*GLUE_USUAL, "--save-dir", by_two.folder, *options)
    of_two = train_on_two(data, *usual, "--batch-size", "10", "--update-freq", "2")
    expected = [update["gnorm"] for update in of_whole]
    assert len(expected) == 5
    for run, updates in ((by_freq, of_freq), (by_two, of_two)):
        assert [update["gnorm"] for update in updates] == pytest.approx(expected, rel=SAME_NORM)
        theirs = run.checkpoint()["model"]
        for name, tensor in whole.checkpoint()["model"].items():
            assert (tensor - theirs[name]).abs().max() <= 1e-5, name


@pytest.mark.survival
def test_a_run_that_is_cut_off_goes_on_as_if_it_were_not(glue_data, fine_tune, tmp_path):
    data = glue_data["rte"]
    options = ("--total-num-update", "15", "--save-interval-updates", "4")
    whole = fine_tune(data, tmp_path / "whole", *options, "--max-update", "15")
    fine_tune(data, tmp_path / "parts", *options, "--max-update", "7")
    # What was scored beyond the checkpoint that is left is forgotten.
    kept = tmp_path / "parts" / "checkpoint_1_4.pt"
    kept.replace(tmp_path / "parts" / "checkpoint_last.pt")
    parts = fine_tune(data, tmp_path / "parts", *options, "--max-update", "15")
    theirs = parts.checkpoint()["model"]
    for name, tensor in whole.checkpoint()["model"].items():
        assert torch.equal(tensor, theirs[name]), name
    assert record_of(parts) == record_of(whole)
    assert [entry["updates"] for entry in record_of(whole)["validations"]] == [4, 5, 8, 10, 12, 15]


@pytest.mark.survival
def test_scores_of_a_full_disk_are_written_later(glue_data, fine_tune, tmp_path, monkeypatch):
    """Once there is room, even if that is after the last validation."""
    data, options = glue_data["rte"], ("--save-interval-updates", "2", "--max-update", "6")
    whole = fine_tune(data, tmp_path / "whole", *options)
    before, validate = resource.getrlimit(resource.RLIMIT_FSIZE), fairseq_cli.train.validate

    def filled(cfg, trainer, *arguments):
        if trainer.get_num_updates() >= 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        scores = validate(cfg, trainer, *arguments)
        if trainer.get_num_updates() == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return scores

    monkeypatch.setattr(fairseq_cli.train, "validate", filled)
    try:
        run = fine_tune(data, tmp_path / "run", *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert record_of(run) == record_of(whole)
    assert [entry["updates"] for entry in record_of(run)["validations"]] == [2, 4, 5, 6]


def test_the_record_says_where_a_run_began(pretrained, glue_data, fine_tune, tmp_path):
    nothing = record_of(fine_tune(glue_data["rte"], tmp_path / "nothing", "--max-update", "1"))
    assert nothing["start"] == {"kind": "random weights"}
    source = pretrained.folder / "checkpoint_last.pt"
    start = ("--finetune-from-model", source, "--max-update", "1")
    run = fine_tune(glue_data["rte"], tmp_path / "run", *start)
    assert record_of(run)["start"] == {
        "kind": "trained here",
        "checkpoint": str(source),
        "objective": "replaced_token_detection",
        "updates": 2,
        "weights": fingerprint_of([source]),
    }
    converted = tmp_path / "converted"
    for origin, target, before, after in (
        ("fairseq", "hf", pretrained.folder, tmp_path / "there"),
        ("hf", "fairseq", tmp_path / "there", converted),
    ):
        words = ("convert", "--from", origin, "--to", target, str(before), str(after))
        assert convbert([*words]) == 0
    start = ("--finetune-from-model", converted / "model.pt", "--max-update", "1")
    there = record_of(fine_tune(glue_data["rte"], tmp_path / "other", *start))
    assert there["start"]["kind"] == "converted"


def test_fine_tuning_starts_with_the_encoder_of_the_checkpoint(
    pretrained, glue_data, fine_tune, tmp_path
):
    source = pretrained.folder / "checkpoint_last.pt"
    # The first update has rate 0 under the released schedule.
    start = ("--finetune-from-model", source, "--max-update", "1", "--warmup-updates", "1")
    tensors = fine_tune(glue_data["rte"], tmp_path / "run", *start).checkpoint()["model"]
    before = pretrained.checkpoint()["model"]
    encoder = [name for name in tensors if not name.startswith("classification_heads.")]
    assert {name.split(".")[0] for name in encoder} == {"embeddings", "encoder"}
    for name in encoder:
        assert torch.equal(tensors[name], before[name]), name
    assert set(tensors) - set(encoder) == {
        f"classification_heads.rte.output.{part}" for part in ("weight", "bias")
    }


def test_a_task_whose_answer_is_a_word_is_learned(corpus, fine_tune, tmp_path):
    rows = [("sentence", "label")]
    rows += [(f"the {word} dog", label) for word, label in (("old", "0"), ("quick", "1"))] * 20
    folder = tmp_path / "SST-2"
    folder.mkdir()
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    data = prepare("sst-2", folder, tmp_path / "data", corpus.pieces)
    run = fine_tune(data, tmp_path / "run", "--max-update", "40")
    assert record_of(run)["validations"][-1]["accuracy"] == 1.0


def last_line(run_it):
    with pytest.raises(SystemExit) as ended:
        run_it()
    line = ended.value.code
    assert isinstance(line, str)
    assert "\n" not in line
    return line


def test_mistakes_end_in_a_line_that_says_what_to_do(
    corpus, other_order, glue_data, fine_tune, run_fairseq, pretrained, tmp_path
):
    size = GLUE_USUAL.index("--batch-size")
    without_batch_size = (*GLUE_USUAL[:size], *GLUE_USUAL[size + 2 :])
    rte, mnli = glue_data["rte"], glue_data["mnli"]
    source = ("--finetune-from-model", pretrained.folder / "checkpoint_last.pt")
    other = tmp_path / "other"
    prepare("rte", rte.parents[1] / "RTE", other, other_order.pieces)
    three = tmp_path / "three_classes"
    own = ("--text", "sentence1", "--text-pair", "sentence2", "--label", "gold_label")
    folder = write_mnli(tmp_path / "own")
    (folder / "train.tsv").rename(folder / "dev.tsv")
    (folder / "dev_matched.tsv").rename(folder / "train.tsv")
    prepare("topic", folder, three, corpus.pieces, *own, "--labels", ",".join(LABELS))
    two = tmp_path / "two_classes"
    for file in ("train", "dev"):
        rows = (folder / f"{file}.tsv").read_text().splitlines(keepends=True)
        (folder / f"{file}.tsv").write_text(
            "".join(row for row in rows if not row.endswith("neutral\n"))
        )
    prepare("topic", folder, two, corpus.pieces, *own, "--labels", ",".join(LABELS[:2]))
    topic = fine_tune(three, tmp_path / "topic", "--max-update", "1")
    cases = {
        "data of another vocabulary": (
            lambda: fine_tune(other, tmp_path / "a", *source),
            f"{pretrained.folder / 'dict.txt'}: the checkpoints there have another vocabulary",
        ),
        "another task's data": (
            lambda: fine_tune(mnli, tmp_path / "a", "--glue-task", "RTE"),
            f"--glue-task RTE: {mnli} holds mnli",
        ),
        "no such split": (
            lambda: fine_tune(rte, tmp_path / "a", "--valid-subset", "valid,valid1"),
            f"{rte}: holds no split valid1, only train, valid, test: prepare it from the files "
            "with convbert prepare-glue, or leave it out with --valid-subset valid (dataset.valid_",
        ),
        "a split without labels": (
            lambda: fine_tune(rte, tmp_path / "a", "--valid-subset", "test"),
            f"{rte}: test has no labels",
        ),
        "no prepared data": (
            lambda: fine_tune(corpus.data, tmp_path / "a"),
            f"{corpus.data / 'task.json'} is missing",
        ),
        "a head of another number of classes": (
            lambda: fine_tune(
                two, tmp_path / "a", "--finetune-from-model", topic.folder / "checkpoint_last.pt"
            ),
            f"was trained for the classes {', '.join(LABELS)}, and {two} holds the classes "
            "contradiction, entailment: prepare the data with the --labels",
        ),
        "a sum over batches of any size": (
            lambda: run_fairseq(
                *(fairseq_cli.train, rte, *without_batch_size, "--max-tokens", "99"),
                *("--save-dir", tmp_path / "a"),
            ),
            "--loss-reduction sum needs --batch-size",
        ),
        "a metric that the task does not have": (
            lambda: fine_tune(rte, tmp_path / "a", "--best-checkpoint-metric", "f1"),
            "--best-checkpoint-metric f1: rte has loss, accuracy",
        ),
        "the worst checkpoint as the best": (
            lambda: fine_tune(rte, tmp_path / "a", "--best-checkpoint-metric", "accuracy"),
            "accuracy goes with --maximize-best-checkpoint-metric",
        ),
        "too short for a pair": (
            lambda: fine_tune(rte, tmp_path / "a", "--tokens-per-sample", "4"),
            "--tokens-per-sample 4: choose at least 5",
        ),
        "longer than the positions": (
            lambda: fine_tune(rte, tmp_path / "a", "--tokens-per-sample", "128"),
            "--tokens-per-sample 128 is longer than the model's 40 positions",
        ),
    }
    for name, (run_it, words) in cases.items():
        assert words in last_line(run_it), name
