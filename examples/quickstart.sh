#!/usr/bin/env bash
# The main job from nothing, in minutes on two cores: sets up .venv, collects real text, trains a
# vocabulary, pretrains a small ConvBERT, validates it and shows what it has learned. Everything
# that it makes lies in quickstart/ (or the folder that QUICKSTART_OUT names), which each run
# makes anew.
# Arguments go to fairseq-train: bash examples/quickstart.sh --max-update 4000
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/environment.sh

out=${QUICKSTART_OUT:-quickstart}
mark=$out/.made-by-quickstart
step() { printf '\n== %s\n' "$*"; }

if [ -n "$(ls -A "$out" 2>/dev/null)" ] && [ ! -f "$mark" ]; then
    echo "$out: not empty and not made by this script: move it away, or name another folder with QUICKSTART_OUT" >&2
    exit 1
fi
rm -rf "$out"
mkdir -p "$out"
touch "$mark"

step "text: the documentation that scipy, scikit-learn and numpy ship"
python examples/quickstart/collect_text.py "$out/text"

step "a vocabulary of 6,000 pieces"
convbert train-vocab --vocab-size 6000 "$out/text/train.txt" "$out/tokenizer"

bash examples/pretraining/pretrain.sh "$out/text/train.txt" "$out/text/valid.txt" \
    "$out/tokenizer" "$out" \
    --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --cpu \
    --tokens-per-sample 64 --batch-size 16 --lr 5e-4 --warmup-updates 100 --max-update 2800 \
    --disable-validation --log-interval 20 "$@"

step "replaced tokens found in held-out sentences"
python examples/quickstart/detect.py "$out"
