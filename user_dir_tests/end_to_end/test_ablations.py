"""The grids of examples/ablations: their models by formulas, their runs with small programs."""

import importlib.util
import json
import os
import re
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import convbert_plugin
from convbert_plugin.files.grids import read_grid
from user_dir_tests.models.building import empty_model

pytestmark = pytest.mark.experiments

FOLDER = Path(convbert_plugin.__file__).parents[1] / "examples" / "ablations"
VOCABULARY = 6000
# Of the released sizes, with BERT's vocabulary. Source: the released code's variables, counted.
PUBLISHED = {
    "small": {
        "ELECTRA style": 13_483_008,
        "+ bottleneck": 11_905_536,
        "+ span convolution": 13_143_768,
        "+ larger hidden size": 17_475_888,
    },
    "base": {"+ span convolution": 105_680_520},
}
BERT_VOCABULARY = 30522


def module(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent), *sys.path])
        spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def comparisons():
    return module("comparisons")


def encoder_parameters(model, vocabulary):
    """By the paper's formulas: embeddings, their projection, and the layers one part at a time."""
    hidden, inner = model["encoder_embed_dim"], model["encoder_ffn_embed_dim"]
    embedding, groups = model["embedding_dim"], model["ffn_groups"]
    taps, size = model["conv_kernel_size"], hidden // model["encoder_attention_heads"]
    heads = max(1, model["encoder_attention_heads"] // model["head_ratio"])
    width = heads * size
    tables = (vocabulary + model["max_positions"] + 2 + 2) * embedding
    projection = 0 if embedding == hidden else (embedding + 1) * hidden
    value = (hidden + 1) * width
    kernels = (width + 1) * heads * taps
    span_key = hidden * taps + (hidden + 1) * width
    branch = {
        "none": 0,
        "conv": value + taps * width * width + width,
        "light": value + heads * taps,
        "dynamic": value + kernels,
        "span_dynamic": value + kernels + span_key,
    }[model["conv_type"]]
    output = (width * (1 if model["conv_type"] == "none" else 2) + 1) * hidden
    feed_forward = 2 * hidden * inner // groups + inner + hidden
    layer = 3 * value + branch + output + feed_forward + 4 * hidden
    return tables + projection + model["encoder_layers"] * layer


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_every_row_has_the_parameters_of_the_formulas(comparisons, name):
    scale, vocabulary = comparisons.SCALES[name], VOCABULARY if name == "tiny" else BERT_VOCABULARY
    grids, rows = comparisons.settled(list(comparisons.COMPARISONS), scale, vocabulary)
    usual = comparisons.ARCHITECTURES[scale.arch]
    for settled in rows:
        expected = encoder_parameters({**usual, **settled.settings}, vocabulary)
        assert settled.row.parameters == expected, settled.row.name
    of_first = {row.name: row.parameters for row in grids[0].rows}
    assert of_first.items() >= PUBLISHED.get(name, {}).items()


def test_the_models_have_the_parameters_that_are_said(comparisons):
    scale = comparisons.SCALES["tiny"]
    _, rows = comparisons.settled(list(comparisons.COMPARISONS), scale, VOCABULARY)
    for row, settings in rows:
        model = empty_model(scale.arch, VOCABULARY, **model_options(settings))
        assert parameters(model) == row.parameters
        if settings.get("objective") == "masked_lm":
            model.add_part("masked_lm_head")
        else:
            model.add_generator(None)
        assert parameters(model) == row.trained


def model_options(settings):
    of_training = ("objective", "num_workers")
    return {name: value for name, value in settings.items() if name not in of_training}


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_convolutions_are_compared_at_parameters_as_equal_as_a_width_makes_them(comparisons, name):
    scale = comparisons.SCALES[name]
    [grid], rows = comparisons.settled(["b"], scale, VOCABULARY)
    model = comparisons.usual_model(scale)
    counts = [row.parameters for row in grid.rows]
    # Half of what one unit of the feed-forward has in all layers: two weights a channel, a bias.
    half = model["encoder_layers"] * (2 * model["encoder_embed_dim"] + 1) / 2
    assert all(abs(count - counts[-1]) <= half for count in counts)
    assert f"{max(abs(count - counts[-1]) for count in counts):,} (" in grid.note
    widths = [settled.settings.get("encoder_ffn_embed_dim") for settled in rows]
    assert len(set(widths)) == len(widths)
    assert rows[-1].row.folder == "convbert"


def test_rows_that_are_equal_share_a_folder(comparisons):
    scale = comparisons.SCALES["tiny"]
    grids, rows = comparisons.settled(list(comparisons.COMPARISONS), scale, VOCABULARY)
    folders = {grid.name: [row.folder for row in grid.rows] for grid in grids}
    assert [folders[name].index("convbert") for name in "abcde"] == [2, 3, 4, 1, 0]
    settings = {settled.row.folder: settled.settings for settled in rows}
    everything = [tuple(sorted(each.items())) for each in settings.values()]
    assert len(set(everything)) == len(everything) == len(rows)
    assert sum(map(len, folders.values())) == len(rows) + 4


# In place of a training: it leaves what it was told, or does what a line of the file says.
STANDS_IN = """
import pathlib, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
folder = pathlib.Path(words["checkpoint.save_dir"])
plan = pathlib.Path(PLAN)
spoiled = plan.read_text().split() if plan.exists() else []
checkpoint = folder / "checkpoint_last.pt"
if f"{folder.parent.name}:fails" in spoiled:
    sys.exit("ValueError: too much")
told = "".join(sorted(f"{word}\\n" for word in sys.argv[1:]))
checkpoint.write_text(told[: len(told) // 2])
if f"{folder.parent.name}:hangs" in spoiled:
    (plan.parent / "hanging").touch()
    time.sleep(60)
checkpoint.write_text(told)
"""


@pytest.fixture
def call(corpus, tmp_path, monkeypatch, capfd):
    """Run the command as a program of this process would; what it prints, and its last words."""
    run = module("run")
    program = STANDS_IN.replace("PLAN", repr(str(tmp_path / "plan")))
    monkeypatch.setattr(run.sweep, "HYDRA_TRAIN", (sys.executable, "-IS", "-c", program))
    monkeypatch.setattr(run, "prepared_text", lambda *_: corpus.data)
    monkeypatch.setattr(run, "prepared_glue", lambda task, *_: Path("data", task))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(*words, out="out"):
        texts = (f"--{name}" for name in ("train", "valid", "tokenizer"))
        usual = [word for name in texts for word in (name, str(corpus.text))]
        asked = ["run.py", *usual, "--out", str(tmp_path / out), *words]
        monkeypatch.setattr(sys, "argv", asked)
        ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = {number: signal.getsignal(number) for number in ending}
        status = 0
        try:
            run.main()
        except SystemExit as ended:
            status = ended.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        printed = capfd.readouterr()
        told = printed.err if isinstance(status, int) else str(status)
        return status, printed.out.splitlines(), told.splitlines()

    call.sweep = run.sweep
    return call


GLUE = ("--glue", "GLUE", "--tasks")
HEADS = ("--grids", "d", "--seeds", "1", "--max-update", "4", *GLUE, "sst-2,rte")
ROWS = ("head_ratio_1", "convbert", "head_ratio_4")


def settings(folder):
    return set((folder / "settings.txt").read_text().splitlines())


def done(printed):
    return [line.removesuffix(": done") for line in printed if line.endswith(": done")]


def contents(folder):
    """All that runs have left, but for logs and the folder's own name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "train.log"]
    return {
        str(path.relative_to(folder)): path.read_text().replace(str(folder), "OUT")
        for path in files
    }


def test_each_row_is_pretrained_and_fine_tuned_by_its_settings(call, tmp_path):
    status, printed, _ = call(*HEADS)
    assert status == 0
    assert done(printed) == [
        f"{row}{task}, seed 1" for row in ROWS for task in ("", ", sst-2", ", rte")
    ]
    folder = tmp_path / "out" / "head_ratio_4" / "seed1"
    pretraining, fine_tuning = settings(folder), settings(folder / "glue" / "rte")
    # Of the scale, of the call, of the row.
    usual = {"++model.encoder_embed_dim=128", "++model.head_ratio=4", "common.seed=1"}
    assert pretraining >= {*usual, "++optimization.max_update=4", "++dataset.batch_size=16"}
    assert not any("finetune_from_model" in word for word in pretraining)
    start = f"checkpoint.finetune_from_model={folder / 'checkpoint_last.pt'}"
    assert fine_tuning >= {*usual, "glue=rte", start, "++optimization.max_update=300"}
    [grid] = read_grid(tmp_path / "out")
    assert [row.folder for row in grid.rows] == list(ROWS)
    assert any("973," in line or f"{grid.rows[1].parameters:,}" in line for line in printed)


def test_more_grids_seeds_and_tasks_join_what_is_there(call, tmp_path):
    call(*HEADS)
    joined = ("--grids", "e,d", "--seeds", "1,2", "--max-update", "4", *GLUE, "sst-2,rte,cola")
    status, printed, _ = call(*joined, "--jobs", "2")
    assert status == 0
    before = [line for line in printed if line.endswith(": done before")]
    assert len(before) == len(ROWS) * 3
    # Four rows of two grids, which share one, with two seeds and three tasks.
    assert len(before) + len(done(printed)) == 4 * 2 * (1 + 3)
    assert [grid.name for grid in read_grid(tmp_path / "out")] == ["d", "e"]
    other = settings(tmp_path / "out" / "objective_masked_lm" / "seed2")
    assert "++task.objective=masked_lm" in other
    tuned = settings(tmp_path / "out" / "objective_masked_lm" / "seed2" / "glue" / "cola")
    assert not any("objective=" in word for word in tuned)
    _, printed, _ = call("--grids", "a", "--seeds", "1", "--max-update", "4")
    # What an earlier call compared is kept, and its ConvBERT is that of this one.
    assert [grid.name for grid in read_grid(tmp_path / "out")] == ["a", "d", "e"]
    assert "convbert, seed 1: done before" in printed
    assert len(done(printed)) == 4


def test_other_settings_are_refused_in_one_line(call):
    call(*HEADS)
    for words, told in (
        (("--max-update", "5"), "before: pretraining: ++optimization.max_update=4; now: pretr"),
        (("--scale", "small"), "before: scale: tiny"),
        (("--fine-tuning", "common.log_interval=1"), "now: fine-tuning: common.log_interval=1"),
    ):
        status, _, [line] = call(*HEADS, *words)
        assert told in line
        assert status == line


def test_a_run_that_fails_keeps_no_other_and_may_be_put_right(call, tmp_path):
    (tmp_path / "plan").write_text("convbert:fails")
    status, printed, told = call(*HEADS)
    assert status == 1
    log = tmp_path / "out" / "convbert" / "seed1" / "train.log"
    assert told == [f"{log}: ValueError: too much"]
    # What would begin from it is not begun.
    assert len(done(printed)) == 2 * 3
    (tmp_path / "plan").unlink()
    status, printed, _ = call(*HEADS)
    assert (status, len(done(printed))) == (0, 3)


def test_what_was_cut_off_goes_on_to_the_same_end(call, tmp_path):
    call(*HEADS, out="whole")
    (tmp_path / "plan").write_text("head_ratio_4:hangs")

    def stop():
        while not (tmp_path / "hanging").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop)
    stopping.start()
    status, printed, told = call(*HEADS)
    stopping.join()
    assert status == 128 + signal.SIGTERM
    assert told == ["stopped: run the same command again, and it goes on"]
    assert len(done(printed)) == 6
    assert contents(tmp_path / "out") != contents(tmp_path / "whole")
    (tmp_path / "plan").unlink()
    status, printed, _ = call(*HEADS)
    assert "head_ratio_4, seed 1: goes on" in printed
    assert status == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--grids", "a,z"), "--grids 'z': choose from a, b, c, d, e, options"),
        (("--jobs", "0"), "--jobs 0: choose a number above 0"),
        (("--max-update", "-3"), "--max-update -3: choose a number above 0"),
        (("--seeds", "3,-1"), "--seeds -1: choose whole numbers from 0 on"),
        (("--tasks", "cola"), "--tasks: says nothing without --glue"),
        (("--glue", "GLUE"), "--glue: says nothing without --tasks"),
        ((*GLUE, "ax"), "--tasks ax: has no training set"),
        ((*GLUE, "swag"), "choose one of"),
        (("--pretraining", "model.head_ratio=1"), "the models are those of the grids"),
        (("--fine-tuning", "++common.seed=1"), "say it by --seeds"),
        (("--pretraining", "optimization.max_update=1"), "say it by --max-update"),
        (("--pretraining", "fast"), "an override has the form section.option=value"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(call, tmp_path, words, told):
    status, _, [line] = call("--grids", "a", "--seeds", "1", *words)
    assert told in line
    assert status == line
    assert not (tmp_path / "out").exists()


def test_a_grid_whose_names_clash_is_refused_in_one_line(call, tmp_path):
    call(*HEADS)
    path = tmp_path / "out" / "grid.json"
    content = json.loads(path.read_text())
    content["grids"][0].update(name="mine", reference="x")
    for row in content["grids"][0]["rows"]:
        row["name"] = "x"
    path.write_text(json.dumps(content))
    status, _, [line] = call(*HEADS)
    assert line == (f"{path}: grid mine: two rows are called 'x': give each a name of its own")
    assert status == line


def test_a_budget_of_time_takes_the_place_of_updates(call, tmp_path):
    words = ("--grids", "e", "--seeds", "1", "--budget-minutes", "2.5")
    assert call(*words)[0] == 0
    told = settings(tmp_path / "out" / "convbert" / "seed1")
    assert {"++lr_scheduler.budget_minutes=2.5", "++optimization.max_update=0"} <= told


def test_the_lines_of_the_page(call, tmp_path, monkeypatch):
    """Each of them, as it stands; that of the shortest is run with real trainings as well."""
    page = (FOLDER / "README.md").read_text()
    [common] = re.findall(r"^grids=\((.*?)\)$", page, re.MULTILINE | re.DOTALL)
    _, script, *words = shlex.split(common)
    assert script == "examples/ablations/run.py"
    lines = re.findall(r'^"\$\{grids\[@\]\}" (--grids \w+)', page, re.MULTILINE)
    names = [line.split()[1] for line in lines]
    assert sorted(names) == ["a", "b", "c", "d", "e", "options"]
    begun = []
    monkeypatch.setattr(call.sweep.Sweep, "work", lambda _, run: begun.append(run.name) or True)
    monkeypatch.chdir(tmp_path)
    for line, name in zip(lines, names, strict=True):
        begun.clear()
        assert call(*words, *line.split())[0] == 0
        [grid] = [grid for grid in read_grid("runs/ablations") if grid.name == name]
        expected = [f"{row.folder}{task}, seed 1" for row in grid.rows for task in ("", ", cola")]
        assert begun == expected
