"""Fine-tuning on SQuAD through fairseq's own commands: scores, windows, starts, resumes."""

import json
import math

import fairseq_cli.train
import fairseq_cli.validate
import numpy as np
import pytest
import torch

from convbert_plugin import ConvBertModel
from convbert_plugin.cli import main as convbert
from convbert_plugin.data.squad.squad_description import read_description
from convbert_plugin.data.squad.squad_files import open_questions
from convbert_plugin.errors import UserError
from convbert_plugin.formats.reading import Reading, to_keep
from convbert_plugin.metrics.squad_scores import squad_scores
from convbert_plugin.tasks.squad import SquadFineTuningTask, SquadTaskConfig
from user_dir_tests.end_to_end.conftest import Run, record_of
from user_dir_tests.end_to_end.squad_runs import SQUAD_TASK, SQUAD_USUAL, write_easy, write_squad

pytestmark = pytest.mark.squad

HEADS = ("released", "transformers")
HEAD = "--question-answering-head"
# fp32 logits of other batches.
AGREE = 1e-4
# Of SQUAD_USUAL.
LENGTH, STRIDE, LONGEST_ANSWER = 20, 6, 4
THRESHOLDS = {"released": -2.75, "transformers": 0.0}


def prepare(sources, out, tokenizer):
    words = ("prepare-squad", "--workers", "1", "--tokenizer", tokenizer, *sources, out)
    assert convbert([*map(str, words)]) == 0
    return out


@pytest.fixture(scope="session")
def squad_data(corpus, tmp_path_factory):
    """Prepared data of both versions."""
    folder = tmp_path_factory.mktemp("squad")
    made = {}
    for version, impossible in (("1.1", 0), ("2.0", 2)):
        sources = [
            write_squad(folder / version / f"{split}.json", paragraphs, impossible, seed)
            for split, paragraphs, seed in (("train", 16, 5), ("dev", 9, 6))
        ]
        made[version] = prepare(sources, folder / "data" / version, corpus.pieces)
    return made


@pytest.fixture
def fine_tune(run_fairseq):
    """Fine-tune a tiny model; the arguments given override the usual ones."""

    def run(data, folder, *arguments):
        usual = (*SQUAD_USUAL, "--save-dir", folder)
        return Run(folder, run_fairseq(fairseq_cli.train, data, *usual, *arguments))

    return run


def answers_of(run, subset="valid"):
    return json.loads((run.folder / f"answers_{subset}.json").read_text())


class Judged:
    """What a checkpoint says of a split, by loops over its windows and over pairs of tokens."""

    def __init__(self, run, data, kind, split="valid", checkpoint="checkpoint_last.pt"):
        self.hub = ConvBertModel.from_pretrained(run.folder, checkpoint)
        self.model, self.kind = self.hub.model, kind
        vocabulary = self.model.vocabulary
        held = open_questions(data, read_description(data), split, vocabulary)
        self.texts = held.texts()
        self.answers, self.odds = [], []
        for number, paragraph in enumerate(held.paragraphs):
            query = held.questions[number].tolist()[:-1]
            context = held.contexts[int(paragraph)].tolist()[:-1]
            offsets = held.offsets[held.first_tokens[paragraph] :]
            text = self.texts.contexts[paragraph]
            best, nulls = (-math.inf, ""), []
            for first, part, is_scored in windows_of(len(query), len(context)):
                tokens = [vocabulary.bos(), *query, vocabulary.eos()]
                tokens += [*context[first : first + part], vocabulary.eos()]
                spans, null = self.judge(tokens, len(query) + 2, part, is_scored)
                nulls.append(null)
                for score, begin, last in spans:
                    if score > best[0]:
                        begin, last = offsets[begin + first][0], offsets[last + first][1]
                        best = score, text[begin:last]
            self.answers.append(best[1])
            null = min(nulls)
            self.odds.append(null if kind == "released" else null - best[0])

    def judge(self, tokens, begin, length, is_scored):
        """Every span of one window as score, first and last token of its part of the context."""
        answerable = torch.zeros(1, len(tokens), dtype=torch.bool)
        answerable[0, begin:] = answerable[0, 0] = True
        segments = torch.zeros(1, len(tokens), dtype=torch.int64)
        segments[0, begin:] = 1
        with torch.no_grad():
            logits = self.model.head_logits(
                "question_answering_head", torch.tensor([tokens]), segments, answerable=answerable
            )
        if self.kind == "released":
            starts = logits.start[0].log_softmax(0)
            ends = {
                int(start): logits.end[0, place].log_softmax(0)
                for place, start in enumerate(logits.tops[0])
            }
            null = float(logits.impossible)
        else:
            starts = logits.start[0]
            ends = dict.fromkeys(range(len(tokens)), logits.end[0])
            null = float(starts[0] + logits.end[0, 0])
        spans = [
            (float(starts[begin + start] + ends[begin + start][begin + last]), start, last)
            for start in range(length)
            if is_scored[start] and begin + start in ends
            for last in range(start, min(start + LONGEST_ANSWER, length))
        ]
        return spans, null

    def scores(self, threshold):
        return squad_scores(self.answers, self.odds, self.texts.gold, threshold)


def windows_of(query, context):
    """BERT's windows: first token, tokens, and for each of these whether it is scored there."""
    room, windows, first = LENGTH - query - 3, [], 0
    while True:
        windows.append((first, min(room, context - first)))
        if first + room >= context:
            break
        first += min(room, STRIDE)

    def merit(token, window):
        first, length = window
        left, right = token - first, first + length - 1 - token
        return min(left, right) + 0.01 * length if min(left, right) >= 0 else -math.inf

    best = [max(windows, key=lambda one: merit(token, one)) for token in range(context)]
    return [
        (first, part, [best[first + token] == (first, part) for token in range(part)])
        for first, part in windows
    ]


@pytest.mark.parametrize("kind", HEADS)
def test_scores_are_those_of_loops_over_all_spans_with_any_batch_size(
    squad_data, fine_tune, run_fairseq, tmp_path, kind
):
    data = squad_data["2.0"]
    options = (HEAD, kind, "--max-update", "6", "--best-checkpoint-metric", "f1")
    run = fine_tune(data, tmp_path / "run", *options, "--maximize-best-checkpoint-metric")
    judged = Judged(run, data, kind)
    expected = judged.scores(THRESHOLDS[kind])
    record = record_of(run)
    entry = record["validations"][-1]
    assert {name: entry[name] for name in expected} == pytest.approx(expected, abs=AGREE)
    assert record["metrics"] == [name for name in expected if not name.endswith("_threshold")]
    assert run.checkpoint("checkpoint_best.pt")["extra_state"]["val_loss"] == entry["f1"]
    assert record["question_answering_head"] == kind
    told = answers_of(run)
    assert [one["answer"] for one in told["questions"]] == judged.answers
    assert [one["null_odds"] for one in told["questions"]] == pytest.approx(judged.odds, abs=AGREE)
    assert [one["id"] for one in told["questions"]] == judged.texts.ids
    assert max(one["windows"] for one in told["questions"]) > 3
    for score in ("exact_match", "f1"):
        mean = np.mean([one[score] for one in told["questions"]])
        assert mean == pytest.approx(expected[score], abs=AGREE)
    path = ("--path", run.folder / "checkpoint_last.pt", "--valid-subset", "valid")
    for size in ("1", "7", "32"):
        usual = ("--batch-size", size, "--cpu", "--num-workers", "0", "--log-format", "json")
        logs = run_fairseq(fairseq_cli.validate, data, *SQUAD_TASK, *path, *usual)
        shown = {name: float(logs["valid"][-1][f"valid_{name}"]) for name in expected}
        assert shown == pytest.approx(expected, abs=AGREE)
        assert float(logs["valid"][-1]["valid_loss"]) == pytest.approx(entry["loss"], rel=AGREE)


def test_the_best_threshold_is_scored_at_every_validation(squad_data, fine_tune, tmp_path):
    # After the first one fairseq has a best f1 of its own, that of the run so far.
    options = ("--max-update", "4", "--save-interval-updates", "2", "--null-threshold", "1e9")
    best = ("--best-checkpoint-metric", "f1", "--maximize-best-checkpoint-metric")
    run = fine_tune(squad_data["2.0"], tmp_path / "run", *options, *best)
    told = answers_of(run)["questions"]
    columns = ([one[name] for one in told] for name in ("answer", "null_odds", "gold"))
    expected = squad_scores(*columns, 1e9)
    entry = record_of(run)["validations"][-1]
    assert {name: entry[name] for name in expected} == pytest.approx(expected, abs=AGREE)
    assert entry["best_f1"] > entry["f1"]


@pytest.mark.survival
def test_two_processes_score_the_whole_set(squad_data, train_on_two, tmp_path):
    data, folder, kind = squad_data["2.0"], tmp_path / "two", "released"
    options = (HEAD, kind, "--max-update", "3", "--batch-size", "3")
    train_on_two(data, *SQUAD_USUAL, "--save-dir", folder, *options)
    run = Run(folder, {})
    expected = Judged(run, data, kind).scores(THRESHOLDS[kind])
    entry = record_of(run)["validations"][-1]
    assert {name: entry[name] for name in expected} == pytest.approx(expected, abs=AGREE)


@pytest.mark.parametrize("kind", HEADS)
def test_a_small_model_learns_its_questions_by_heart(corpus, fine_tune, tmp_path, kind):
    data = prepare([write_easy(tmp_path / "train.json")], tmp_path / "data", corpus.pieces)
    options = (HEAD, kind, "--valid-subset", "train", "--layer-lr-decay", "1", "--dropout", "0")
    options += ("--attention-dropout", "0", "--max-update", "60", "--validate-interval", "100")
    run = fine_tune(data, tmp_path / "run", *options, "--tokens-per-sample", "40")
    scores = record_of(run)["validations"][-1]
    assert (scores["exact_match"], scores["f1"]) == (100.0, 100.0)
    told = answers_of(run, "train")
    assert all(one["answer"] in one["gold"] for one in told["questions"])
    # Every question has an answer: whatever the odds, it is answered.
    assert (told["threshold"], told["wrong"]) == (None, [])


@pytest.mark.survival
def test_a_run_that_is_cut_off_goes_on_as_if_it_were_not(squad_data, fine_tune, tmp_path):
    data = squad_data["2.0"]
    options = ("--total-num-update", "9", "--save-interval-updates", "2", "--update-freq", "2")
    options += ("--max-tokens", "99", "--loss-reduction", "mean", "--autocast-dtype", "bfloat16")
    whole = fine_tune(data, tmp_path / "whole", *options, "--max-update", "9")
    parts = ("--max-update", "6", "--num-workers", "2")
    fine_tune(data, tmp_path / "parts", *options, *parts)
    run = fine_tune(data, tmp_path / "parts", *options, "--max-update", "9")
    theirs = run.checkpoint()["model"]
    for name, tensor in whole.checkpoint()["model"].items():
        assert torch.equal(tensor, theirs[name]), name
    assert record_of(run) == record_of(whole)
    assert answers_of(run) == answers_of(whole)
    kept = run.checkpoint()["task_state"]["reading"]
    assert kept == {
        "length": 20,
        "doc_stride": 6,
        "max_query_length": 64,
        "max_answer_length": 4,
        "n_best_size": 20,
        "has_impossible": True,
        "null_threshold": None,
    }


@pytest.mark.parametrize("kept", [True, False, None])
def test_a_checkpoint_says_whether_it_was_trained_on_unanswerable_questions(squad_data, kept):
    config = SquadTaskConfig(_name="squad", data=str(squad_data["2.0"]), tokens_per_sample=LENGTH)
    task = SquadFineTuningTask.setup_task(config, from_checkpoint=True)
    task.load_state_dict(to_keep(Reading(length=LENGTH, has_impossible=kept)))
    assert task.reading.has_impossible is kept
    if kept is False:
        with pytest.raises(UserError, match="questions without an answer"):
            task.load_dataset("valid")
    else:
        task.load_dataset("valid")
        assert task.threshold_on("valid") == THRESHOLDS["released"]


def test_epochs_say_how_many_updates_there_are(squad_data, fine_tune, tmp_path, caplog):
    data = squad_data["1.1"]
    run = fine_tune(data, tmp_path / "run", "--max-epoch", "2", "--update-freq", "2")
    [line] = [line for line in caplog.messages if line.startswith("2 epochs of ")]
    windows = int(line.split()[3])
    assert run.logs["valid"][-1]["valid_num_updates"] == str(2 * math.ceil(windows / 16))
    # The rate has come to its end with them.
    assert float(run.logs["train"][-1]["train_lr"]) == 0.0


def test_positions_that_were_never_trained_repeat_the_trained_ones(
    pretrained, squad_data, fine_tune, run_fairseq, tmp_path, caplog
):
    """24 of 40 were."""
    source = pretrained.folder / "checkpoint_last.pt"
    before = pretrained.checkpoint()["model"]["embeddings.positions.weight"]
    data = squad_data["1.1"]
    # The first update has rate 0 under the released schedule.
    options = ("--finetune-from-model", source, "--max-update", "1", "--warmup-updates", "1")
    for length, positions in (("24", "40"), ("30", "40"), ("30", "50")):
        folder = tmp_path / f"{length} {positions}"
        sizes = ("--tokens-per-sample", length, "--max-positions", positions)
        run = fine_tune(data, folder, *options, *sizes)
        table = run.checkpoint()["model"]["embeddings.positions.weight"]
        told = [line for line in caplog.messages if line.startswith(f"{source}: ")]
        if length == "24":
            assert told == []
            assert torch.equal(table, before)
        else:
            assert told == [
                f"{source}: was trained at 24 positions: those beyond them, up to {positions}, "
                "repeat them (tiled)"
            ]
            assert torch.equal(table, before[torch.arange(int(positions)) % 24])
    # The run goes on from its own checkpoint, whose positions are all there.
    run = fine_tune(data, folder, *options[:2], *sizes, "--max-update", "2")
    assert not [line for line in caplog.messages if "tiled" in line]


def last_line(run_it):
    with pytest.raises(SystemExit) as ended:
        run_it()
    line = ended.value.code
    assert isinstance(line, str)
    assert "\n" not in line
    return line


def test_mistakes_end_in_a_line_that_says_what_to_do(
    corpus, squad_data, fine_tune, run_fairseq, pretrained, tmp_path
):
    first, second = squad_data["1.1"], squad_data["2.0"]
    sources = [write_squad(tmp_path / "train.json", 4), write_squad(tmp_path / "dev.json", 4, 2)]
    mixed = prepare(sources, tmp_path / "mixed", corpus.pieces)
    test = write_squad(tmp_path / "test.json", 4)
    content = json.loads(test.read_text())
    for paragraph in content["data"][0]["paragraphs"]:
        for question in paragraph["qas"]:
            del question["answers"]
    test.write_text(json.dumps(content))
    unlabelled = prepare([sources[0], test], tmp_path / "unlabelled", corpus.pieces)
    plain = fine_tune(first, tmp_path / "plain", HEAD, "transformers", "--max-update", "1")
    checkpoint = plain.folder / "checkpoint_last.pt"

    def validate(data, path):
        usual = ("--path", path, "--batch-size", "8", "--cpu", "--num-workers", "0")
        return run_fairseq(fairseq_cli.validate, data, *SQUAD_TASK, *usual)

    cases = {
        "no prepared data": (
            lambda: fine_tune(corpus.data, tmp_path / "a"),
            f"{corpus.data / 'squad.json'} is missing",
        ),
        "unanswerable questions to score and none to train on": (
            lambda: fine_tune(mixed, tmp_path / "a"),
            f"{mixed}: valid has questions without an answer (as SQuAD 2.0)",
        ),
        "unanswerable questions for a model that was trained without": (
            lambda: validate(second, checkpoint),
            f"{second}: valid has questions without an answer (as SQuAD 2.0)",
        ),
        "a checkpoint without the head": (
            lambda: validate(first, pretrained.folder / "checkpoint_last.pt"),
            "was trained on --task replaced_token_detection, not on squad: give that task and its "
            "data, or train it on this one before it is scored",
        ),
        "the other head": (
            lambda: fine_tune(first, tmp_path / "a", "--finetune-from-model", checkpoint),
            "is of another kind: add --question-answering-head transformers",
        ),
        "a split without answers": (
            lambda: fine_tune(unlabelled, tmp_path / "a", "--valid-subset", "test"),
            f"{unlabelled}: test has no answers: give it to convbert predict-squad",
        ),
        "no validation set": (
            lambda: fine_tune(unlabelled, tmp_path / "a"),
            f"{unlabelled}: holds no split valid, only train, test",
        ),
        "a window of the question alone": (
            lambda: fine_tune(first, tmp_path / "a", "--tokens-per-sample", "5"),
            "--tokens-per-sample 5: a window is filled by a question of 2 tokens",
        ),
        "longer than the positions": (
            lambda: fine_tune(first, tmp_path / "a", "--tokens-per-sample", "64"),
            "--tokens-per-sample 64 is longer than the model's 40 positions",
        ),
        "no stride": (
            lambda: fine_tune(first, tmp_path / "a", "--doc-stride", "0"),
            "--doc-stride 0: choose at least 1",
        ),
        "no threshold": (
            lambda: fine_tune(first, tmp_path / "a", "--null-threshold", "nan"),
            "--null-threshold nan: give a number, or inf to answer every question",
        ),
        "another criterion": (
            lambda: fine_tune(first, tmp_path / "a", "--criterion", "glue"),
            "--criterion glue does not go with --task squad: give --criterion squad",
        ),
        "a metric that the data does not have": (
            lambda: fine_tune(first, tmp_path / "a", "--best-checkpoint-metric", "best_f1"),
            "--best-checkpoint-metric best_f1: squad has loss, exact_match, f1",
        ),
        "a sum over batches of any size": (
            lambda: run_fairseq(
                *(fairseq_cli.train, first, *without("--batch-size"), "--max-tokens", "99"),
                *("--save-dir", tmp_path / "a"),
            ),
            "--loss-reduction sum needs --batch-size",
        ),
    }
    for name, (run_it, words) in cases.items():
        assert words in last_line(run_it), name
    assert not (tmp_path / "a" / "scores.json").exists()


def without(option):
    place = SQUAD_USUAL.index(option)
    return (*SQUAD_USUAL[:place], *SQUAD_USUAL[place + 2 :])
