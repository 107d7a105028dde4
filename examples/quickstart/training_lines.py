"""Show fairseq-train's JSON log, read from stdin, as a few columns."""

import sys

from logs import stats

COLUMNS = {
    "num_updates": ("update", "{:8.0f}"),
    "loss": ("loss", "{:9.3f}"),
    "generator_loss": ("generator", "{:9.3f}"),
    "discriminator_loss": ("discriminator", "{:13.4f}"),
    "discriminator_auc": ("AUC", "{:7.4f}"),
    "wps": ("tokens/s", "{:9,.0f}"),
}
EVERY = 100


def main():
    widths = {key: len(form.format(0)) for key, (_, form) in COLUMNS.items()}
    print("  ".join(f"{title:>{widths[key]}}" for key, (title, _) in COLUMNS.items()))
    for entry in stats(sys.stdin, "train_inner"):
        if entry["num_updates"] % EVERY == 0:
            cells = (form.format(entry[key]) for key, (_, form) in COLUMNS.items())
            print("  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
