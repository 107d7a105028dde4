"""The table that ends a pretraining, also written to OUT/results.json.

python results.py OUT reads OUT/train.log, OUT/validate.log and OUT/data.
"""

import logging
import statistics
import sys
from pathlib import Path

from training_lines import SHOWN, stats

from convbert_plugin.errors import mistakes_end_the_program
from convbert_plugin.files.json_files import write_json
from convbert_plugin.files.text_files import read_text

SCORES = ("masked_lm_loss", "generator_loss", "discriminator_loss", "discriminator_auc")
ROW = "{:<42}{:>10}{:>10}{:>10}"


def main(out: Path):
    # fairseq logs while it is imported.
    logging.disable(logging.INFO)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from unigram_cross_entropy import of_data

    def logged(file: str, tag: str) -> list[dict]:
        return list(stats(read_text(out / file).splitlines(), tag))

    inner = logged("train.log", "train_inner") or [{}]
    (valid,) = logged("validate.log", "valid")
    held_out = {name.removeprefix("valid_"): value for name, value in valid.items()}
    columns = {"_start": inner[0], "_end": inner[-1], "": held_out}
    frequencies = round(of_data(out / "data"), 4)
    results = {"unigram_cross_entropy": frequencies}
    print("\n" + ROW.format("losses in nats", "start", "end", "held-out"))
    for name in (score for score in SCORES if score in held_out):
        title, form = SHOWN[name]
        known = {place: entry[name] for place, entry in columns.items() if name in entry}
        results |= {f"{name}{place}": value for place, value in known.items()}
        cells = (form.format(known[place]).strip() if place in known else "" for place in columns)
        print(ROW.format(title, *cells))
    print(ROW.format("token frequencies alone, a masked token", "", "", f"{frequencies:.3f}"))
    if speeds := [entry["wps"] for entry in inner[1:]]:
        results["tokens_per_second"] = round(statistics.fmean(speeds), 1)
        print(ROW.format("tokens a second", "", f"{results['tokens_per_second']:,.0f}", ""))
    write_json(out / "results.json", results)
    print(f"\nthe same as JSON:  {out / 'results.json'}")
    print(f"curves:            tensorboard --logdir {out / 'tensorboard'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python results.py OUT")
    with mistakes_end_the_program():
        main(Path(sys.argv[1]))
