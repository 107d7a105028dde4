"""The table that ends a pretraining, also written to OUT/results.json.

python results.py OUT reads OUT/train.log, OUT/validate.log and OUT/data.
"""

import json
import logging
import statistics
import sys
from pathlib import Path

from training_lines import stats

ROWS = {
    "masked_lm_loss_start": ("masked-LM loss, training, start (nats a masked token)", "{:.3f}"),
    "masked_lm_loss_end": ("masked-LM loss, training, end", "{:.3f}"),
    "generator_loss_start": ("generator loss, training, start (nats a masked token)", "{:.3f}"),
    "generator_loss_end": ("generator loss, training, end", "{:.3f}"),
    "discriminator_loss_start": ("discriminator loss, training, start (nats a token)", "{:.4f}"),
    "discriminator_loss_end": ("discriminator loss, training, end", "{:.4f}"),
    "masked_lm_loss": ("masked-LM loss, held-out documents", "{:.3f}"),
    "generator_loss": ("generator loss, held-out documents", "{:.3f}"),
    "unigram_cross_entropy": ("cross-entropy of token frequencies there", "{:.3f}"),
    "discriminator_auc": ("discriminator AUC, held-out documents", "{:.4f}"),
    "tokens_per_second": ("training speed (tokens a second)", "{:,.0f}"),
}


def main(out: Path):
    # fairseq logs while it is imported.
    logging.disable(logging.INFO)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from unigram_cross_entropy import of_data

    def logged(file: str, tag: str) -> list[dict]:
        return list(stats((out / file).read_text(encoding="utf-8").splitlines(), tag))

    (valid,) = logged("validate.log", "valid")
    results = {name.removeprefix("valid_"): value for name, value in valid.items()}
    results["unigram_cross_entropy"] = round(of_data(out / "data"), 4)
    if inner := logged("train.log", "train_inner"):
        results |= {f"{name}_start": value for name, value in inner[0].items()}
        results |= {f"{name}_end": value for name, value in inner[-1].items()}
        # The first one counts what is done once.
        speeds = [entry["wps"] for entry in inner[1:] or inner]
        results["tokens_per_second"] = round(statistics.fmean(speeds), 1)
    results = {name: results[name] for name in ROWS if name in results}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")

    width = max(len(title) for title, _ in ROWS.values())
    print()
    for name, value in results.items():
        title, form = ROWS[name]
        print(f"{title:<{width}}  {form.format(value):>8}")
    print(f"\nthe same as JSON:  {out / 'results.json'}")
    print(f"curves:            tensorboard --logdir {out / 'tensorboard'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
