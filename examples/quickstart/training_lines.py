"""Show fairseq-train's JSON log, read from stdin, as a few columns."""

import sys

from logs import stats

HEADER = "  update       loss  generator  discriminator      AUC   tokens/s"
LINE = (
    "{num_updates:8.0f}  {loss:9.3f}  {generator_loss:9.3f}  {discriminator_loss:13.4f}  "
    "{discriminator_auc:7.4f}  {wps:9,.0f}"
)
EVERY = 100


def main():
    print(HEADER)
    for entry in stats(sys.stdin, "train_inner"):
        if entry["num_updates"] % EVERY == 0:
            print(LINE.format(**entry), flush=True)


if __name__ == "__main__":
    main()
