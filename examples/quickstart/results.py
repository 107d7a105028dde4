"""The table that ends the quickstart, also written to OUT/results.json.

python results.py OUT reads OUT/train.log, OUT/validate.log and OUT/data.
"""

import json
import logging
import sys
from pathlib import Path

from training_lines import stats

ROWS = (
    ("generator loss, training, start (nats a masked token)", "generator_loss_start", "{:.3f}"),
    ("generator loss, training, end", "generator_loss_end", "{:.3f}"),
    ("discriminator loss, training, start (nats a token)", "discriminator_loss_start", "{:.4f}"),
    ("discriminator loss, training, end", "discriminator_loss_end", "{:.4f}"),
    ("generator loss, held-out documents", "generator_loss", "{:.3f}"),
    ("cross-entropy of token frequencies there", "unigram_cross_entropy", "{:.3f}"),
    ("discriminator AUC, held-out documents", "discriminator_auc", "{:.4f}"),
    ("training speed (tokens a second)", "tokens_per_second", "{:,.0f}"),
)


def main(out: Path):
    # fairseq logs while it is imported.
    logging.disable(logging.INFO)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from unigram_cross_entropy import of_data

    log = (out / "train.log").read_text(encoding="utf-8").splitlines()
    inner = list(stats(log, "train_inner"))
    if len(inner) < 2:
        sys.exit(
            f"{out / 'train.log'}: too few lines of training: more updates, or --log-interval 1"
        )
    (valid,) = stats((out / "validate.log").read_text(encoding="utf-8").splitlines(), "valid")
    results = {
        "generator_loss": valid["valid_generator_loss"],
        "unigram_cross_entropy": round(of_data(out / "data"), 4),
        "discriminator_auc": valid["valid_discriminator_auc"],
        "tokens_per_second": round(sum(entry["wps"] for entry in inner[1:]) / len(inner[1:]), 1),
    }
    for name in ("generator_loss", "discriminator_loss"):
        results[f"{name}_start"], results[f"{name}_end"] = inner[0][name], inner[-1][name]
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")

    width = max(len(title) for title, _, _ in ROWS)
    print()
    for title, key, form in ROWS:
        print(f"{title:<{width}}  {form.format(results[key]):>8}")
    print(f"\nthe same as JSON:  {out / 'results.json'}")
    print(f"curves:            tensorboard --logdir {out / 'tensorboard'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
