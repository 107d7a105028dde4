"""Small tasks in the official formats over the words of the tiny corpus, and a run on them."""

import random

from user_dir_tests.end_to_end.conftest import TINY, USER_DIR, sentence

LABELS = ("contradiction", "entailment", "neutral")
ROWS = {"train": 40, "dev": 13, "test": 7}
GLUE_TASK = ("--user-dir", USER_DIR, "--task", "glue")
GLUE_RECIPE = (
    *("--criterion", "glue", "--optimizer", "convbert_adamw", "--lr-scheduler", "convbert_linear"),
    *("--lr", "2e-3", "--clip-norm", "1.0", "--layer-lr-decay", "0.8", "--batch-size", "8"),
    *("--tokens-per-sample", "20", "--cpu", "--num-workers", "0", "--seed", "3"),
    *("--log-format", "json", "--log-interval", "1", "--no-epoch-checkpoints"),
)
GLUE_USUAL = (*GLUE_TASK, *TINY, *GLUE_RECIPE)


def write_rows(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(cells) + "\n" for cells in [header, *rows]))


def write_pairs(folder, labels, seed=5):
    """RTE's and WNLI's format: index, sentence1, sentence2, label."""
    rng = random.Random(seed)
    for split, count in ROWS.items():
        named = ("index", "sentence1", "sentence2", "label")
        rows = [
            (str(row), sentence(rng), sentence(rng), rng.choice(labels)) for row in range(count)
        ]
        kept = 3 if split == "test" else 4
        write_rows(folder / f"{split}.tsv", named[:kept], [row[:kept] for row in rows])
    return folder


def write_mnli(folder, seed=5):
    """MNLI's format, as far as the columns that count."""
    rng = random.Random(seed)
    for file, count in (
        *(("train", 40), ("dev_matched", 13), ("dev_mismatched", 9)),
        *(("test_matched", 5), ("test_mismatched", 6)),
    ):
        header = ("index", "genre", "sentence1", "sentence2", "gold_label")
        kept = 4 if file.startswith("test") else 5
        rows = [
            (str(row), "x", sentence(rng), sentence(rng), rng.choice(LABELS))
            for row in range(count)
        ]
        write_rows(folder / f"{file}.tsv", header[:kept], [row[:kept] for row in rows])
    return folder


def write_similarities(folder, seed=5):
    """STS-B's format, as far as the columns that count."""
    rng = random.Random(seed)
    for split, count in ROWS.items():
        header = ("index", "sentence1", "sentence2", "score")
        kept = 3 if split == "test" else 4
        rows = [
            (str(row), sentence(rng), sentence(rng), f"{rng.uniform(0, 5):.3f}")
            for row in range(count)
        ]
        write_rows(folder / f"{split}.tsv", header[:kept], [row[:kept] for row in rows])
    return folder
