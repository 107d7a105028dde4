"""The published numbers: means, order and FLOPs checked against what was printed beside them."""

import ast
import json
from pathlib import Path

import pytest

import convbert_plugin
from convbert_plugin.analysis.profiling.profiles import profile_of
from convbert_plugin.analysis.profiling.subjects import subject_of
from convbert_plugin.analysis.published.published_results import (
    DEV,
    FROM_PAPER,
    RESULTS_FILE,
    TEST,
    read_published,
)
from convbert_plugin.data.glue.glue_tasks import TASKS
from convbert_plugin.errors import UserError

pytestmark = pytest.mark.experiments

PACKAGE = Path(convbert_plugin.__file__).parent


def test_averages_are_the_printed_ones():
    rows = [row for row in read_published().scores if row.average is not None]
    assert len(rows) == 16
    for row in rows:
        # By hand, and not by the reader: eight tasks, each as much as another.
        mean = sum(row.scores.values()) / 8
        digits = len(str(row.average).split(".")[1])
        assert abs(mean - row.average) <= 0.5 * 10**-digits + 1e-9, row
        assert list(row.scores) == ["mnli", "qnli", "qqp", "rte", "sst-2", "mrpc", "cola", "sts-b"]


def test_a_few_numbers_as_they_were_printed():
    published = read_published()
    (base,) = (
        row
        for row in published.scores
        if row.model == "ConvBERT-base, 4M updates" and row.source == FROM_PAPER
    )
    assert (base.set, base.average, base.scores["cola"], base.scores["mnli"]) == (
        *(TEST, 86.4, 67.8, 88.3),
    )
    answers = {
        (row.model, row.version): row for row in published.answers if row.source == FROM_PAPER
    }
    # Ten models on two versions, and DistilBERT and the two of the distilled.
    assert len(answers) == 24
    assert all(row.set == DEV for row in answers.values())
    squad = answers["ConvBERT-base", "1.1"]
    assert (squad.exact_match, squad.f1, squad.rerun) == (84.7, 90.9, ())
    assert answers["ELECTRA-small, trained longer", "2.0"].rerun == ("f1",)
    assert [model.name for model in published.models if model.distilled] == [
        *("TinyBERT", "MobileBERT", "DistilBERT"),
    ]


def test_scores_are_in_the_metrics_of_the_tasks_here():
    """So that own scores stand beside them."""
    for task, metric in read_published().metrics.items():
        assert metric in TASKS[task].metrics


def test_the_leaderboard_has_the_scores_of_the_table():
    published = read_published()
    tables = {row.model: row.scores for row in published.scores if row.source == FROM_PAPER}
    for entry in published.leaderboard:
        for task, metric in published.metrics.items():
            assert entry.scores[f"{task} {metric}"] == tables[entry.model][task]


def test_flops_are_what_the_formulas_count():
    archs = {
        "ConvBERT-small": "convbert_small",
        "ConvBERT-medium-small": "convbert_medium",
        "ConvBERT-base": "convbert_base",
        "ELECTRA-small": "electra_small",
        "ELECTRA-base": "electra_base",
    }
    published = read_published()
    for name, arch in archs.items():
        model = published.model(name)
        counted = profile_of(subject_of(arch, {}))["flops"]["authors"]["training"]
        assert model.counted_flops == pytest.approx(counted, rel=0.01)
        # Printed with two digits, and ELECTRA-small's as the note says.
        if not model.note:
            assert model.flops == pytest.approx(counted, rel=0.06)


def test_the_file_goes_with_the_package():
    """By the patterns of what is installed beside modules."""
    (call,) = (
        node
        for node in ast.walk(ast.parse((PACKAGE.parent / "setup.py").read_text()))
        if isinstance(node, ast.keyword) and node.arg == "package_data"
    )
    patterns = ast.literal_eval(call.value)["convbert_plugin"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    assert RESULTS_FILE in shipped
    assert set(PACKAGE.rglob("*.json")) <= shipped


def _without_format(content):
    del content["format"]


def _of_another_format(content):
    content["format"] = 2


def _wrong_average(content):
    content["scores"][0]["average"] += 0.2


def _unknown_model(content):
    content["answers"][0]["model"] = "BERT-huge"


def _unknown_source(content):
    content["leaderboard"][0]["source"] = "hearsay"


def _beyond_the_scale(content):
    content["answers"][0]["f1"] = 812.0


def _named_twice(content):
    content["models"][1]["name"] = content["models"][0]["name"]


def _task_left_out(content):
    del content["scores"][-1]["scores"]["rte"]


def _words_for_a_number(content):
    content["models"][0]["flops"] = "6.4e19+"


@pytest.mark.parametrize(
    "damage",
    [
        *(_without_format, _of_another_format, _wrong_average, _unknown_model, _unknown_source),
        *(_beyond_the_scale, _named_twice, _task_left_out, _words_for_a_number),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, damage):
    content = json.loads(RESULTS_FILE.read_text())
    damage(content)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"^{path}: damaged: install the plugin again$"):
        read_published(path)
