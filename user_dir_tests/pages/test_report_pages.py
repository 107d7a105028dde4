"""Reports in a browser: on wide screens, phones and paper, light and dark."""

import pytest

from convbert_plugin.cli import main
from user_dir_tests.analysis.recorded_runs import write_rows
from user_dir_tests.analysis.test_answer_report import answers, write_squad
from user_dir_tests.analysis.test_report import TRAINED, write_run
from user_dir_tests.pages.look import look

pytestmark = pytest.mark.experiments

PLACE = "/home/somebody/experiments/2026/pretraining/of_small_models/{}/checkpoint_last.pt"


def write_fine_tuned(folder):
    """Runs of two tasks from three starts and of SQuAD from two, of which some have curves."""
    starts = [None, *({**TRAINED, "checkpoint": PLACE.format(name)} for name in ("one", "other"))]
    for number, start in enumerate(starts):
        begun = {"start": start} if start else {}
        for seed in (1, 2):
            score = 0.5 + 0.1 * number + 0.03 * seed
            curve = [("valid", 5 * place, {"accuracy": score - 0.1 / place}) for place in (1, 2, 3)]
            write_run(folder / f"rte_{number}_{seed}", *curve, seed=seed, **begun)
            last = ("valid", 9, {"accuracy": score})
            write_run(folder / f"mrpc_{number}_{seed}", last, task="mrpc", seed=seed, **begun)
        if number < 2:
            write_squad(folder / f"squad_{number}", answers(), **begun)
    write_run(folder / "begun", seed=9)
    return folder


@pytest.mark.parametrize("write", [write_fine_tuned, write_rows])
def test_reports_read_well_everywhere(tab, tmp_path, write):
    page = tmp_path / "report.html"
    assert main(["report", str(write(tmp_path / "runs")), str(page)]) == 0
    assert look(page, tab) == []
