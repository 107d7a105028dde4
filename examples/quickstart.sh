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
log=$out/train.log
step() { printf '\n== %s\n' "$*"; }

if [ -n "$(ls -A "$out" 2>/dev/null)" ] && [ ! -f "$mark" ]; then
    echo "$out: not empty and not made by this script: move it away, or name another folder with QUICKSTART_OUT" >&2
    exit 1
fi
rm -rf "$out"
mkdir -p "$out"
touch "$mark"

step "1/7 text: the documentation that scipy, scikit-learn and numpy ship"
python examples/quickstart/collect_text.py "$out/text"

step "2/7 a vocabulary of 6,000 pieces"
convbert train-vocab --vocab-size 6000 "$out/text/train.txt" "$out/tokenizer"

step "3/7 text to pieces"
for split in train valid; do
    convbert encode --tokenizer "$out/tokenizer" "$out/text/$split.txt" "$out/encoded/$split"
done

step "4/7 pieces to binarized data (fairseq-preprocess)"
fairseq-preprocess --user-dir convbert_plugin --task replaced_token_detection --only-source \
    --srcdict "$out/encoded/dict.txt" --workers 2 \
    --trainpref "$out/encoded/train" --validpref "$out/encoded/valid" \
    --destdir "$out/data" >"$out/preprocess.log" 2>&1 || { tail -n 3 "$out/preprocess.log" >&2; exit 1; }

step "5/7 pretraining (fairseq-train; all of its log is in $log)"
fairseq-train "$out/data" --user-dir convbert_plugin \
    --task replaced_token_detection --criterion replaced_token_detection \
    --arch convbert_small --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 \
    --tokens-per-sample 64 --batch-size 16 --seed 1 --cpu \
    --optimizer convbert_adamw --lr-scheduler convbert_linear \
    --lr 5e-4 --warmup-updates 100 --max-update 2800 --clip-norm 1.0 \
    --disable-validation --no-epoch-checkpoints --save-dir "$out/run" \
    --tensorboard-logdir "$out/tensorboard" --log-format json --log-interval 20 "$@" \
    2>&1 | tee "$log" | python examples/quickstart/training_lines.py ||
    { tail -n 1 "$log" >&2; exit 1; }

step "6/7 held-out documents (fairseq-validate)"
fairseq-validate "$out/data" --user-dir convbert_plugin --task replaced_token_detection \
    --path "$out/run/checkpoint_last.pt" --valid-subset valid --batch-size 32 --cpu \
    --log-format json >"$out/validate.log" 2>&1 || { tail -n 3 "$out/validate.log" >&2; exit 1; }

step "7/7 replaced tokens found in held-out sentences"
python examples/quickstart/detect.py "$out"

python examples/quickstart/results.py "$out"
