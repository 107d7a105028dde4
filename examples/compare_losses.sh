#!/usr/bin/env bash
# Compares what two commits learn: trains each for 200 updates on the same data, beside each other,
# and compares all numbers that fairseq logs of an update, unrounded, bit for bit. A change that is
# not meant to change numbers changes none.
#
#   bash examples/compare_losses.sh REV REV [option of fairseq-train ...]
#
# Ends with 0 where all are equal, with 1 where not: then it names the first update that differs, and
# by how much. Options are those of both trainings: --objective masked_lm, --max-update 20, say.
# COMPARED_DATA names a folder of binarized data for them, in place of a little of the quickstart's.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: bash $0 REV REV [option of fairseq-train ...]" >&2
    exit 2
fi
revisions=("$1" "$2")
shift 2
data=${COMPARED_DATA:+$(realpath "$COMPARED_DATA")}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
commits=()
for revision in "${revisions[@]}"; do
    commits+=("$(git rev-parse --quiet --verify "$revision^{commit}")") || {
        echo "$revision: no commit of this checkout" >&2
        exit 2
    }
done
if [ -n "$(git status --porcelain)" ]; then
    echo "note: what is not committed is in neither of them, and not compared" >&2
fi
source examples/environment.sh >&2

place=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$place"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "$data" ]; then
    log=$place/data.log
    {
        python examples/quickstart/collect_text.py "$place/text"
        for split in train valid; do
            head -n 4000 "$place/text/$split.txt" >"$place/$split.txt"
        done
        convbert train-vocab --vocab-size 2000 "$place/train.txt" "$place/tokenizer"
        for split in train valid; do
            convbert encode --tokenizer "$place/tokenizer" "$place/$split.txt" "$place/pieces/$split"
        done
        fairseq-preprocess --user-dir convbert_plugin --task replaced_token_detection \
            --only-source --srcdict "$place/pieces/dict.txt" --destdir "$place/data" \
            --trainpref "$place/pieces/train" --validpref "$place/pieces/valid"
    } >"$log" 2>&1 || { tail -n 1 "$log" >&2; exit 1; }
    data=$place/data
fi

recipe=(
    --task replaced_token_detection --criterion replaced_token_detection --arch convbert_small
    --encoder-layers 2 --encoder-embed-dim 64 --encoder-ffn-embed-dim 128 --embedding-dim 32
    --tokens-per-sample 64 --batch-size 8 --optimizer convbert_adamw --weight-decay 0.01
    --clip-norm 1.0 --lr-scheduler convbert_linear --lr 1e-3 --total-num-update 200
    --warmup-updates 20 --max-update 200 --cpu --seed 1 --num-workers 0 --no-save
    --disable-validation --log-format json --log-interval 1
)
# train NUMBER [option ...]: the code of a commit alone, each on one thread.
train() {
    local checkout=$place/$1
    mkdir "$checkout"
    git archive "${commits[$1]}" | tar -x -C "$checkout"
    shift
    PYTHONPATH=$checkout OMP_NUM_THREADS=1 python user_dir_tests/end_to_end/unrounded.py \
        "$checkout.json" "$data" --user-dir "$checkout/convbert_plugin" "${recipe[@]}" \
        --save-dir "$checkout.run" "$@" >"$checkout.log" 2>&1
}
trainings=()
for number in 0 1; do
    train $number "$@" &
    trainings+=($!)
done
for number in 0 1; do
    wait "${trainings[$number]}" || {
        echo "${revisions[$number]}: its training failed: $(tail -n 1 "$place/$number.log")" >&2
        exit 1
    }
done
python examples/first_difference.py "${revisions[@]}" "$place/0.json" "$place/1.json"
