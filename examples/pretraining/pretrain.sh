#!/usr/bin/env bash
# Pretrains a ConvBERT on your own text, from text files to held-out scores, by the released recipe
# of convbert_small (convbert_medium: --arch convbert_medium --lr 5e-4; convbert_base: --arch
# convbert_base --lr 2e-4 --batch-size 256):
#
#   bash examples/pretraining/pretrain.sh TRAIN VALID TOKENIZER OUT [option of fairseq-train ...]
#
# TRAIN and VALID: text, plain, .gz, .xz or .bz2; one sentence or paragraph a line, an empty line between
# documents. TOKENIZER: an uncased WordPiece vocab.txt, or a folder: made by convbert train-vocab, or
# with a vocab.txt and a tokenizer_config.json ({"do_lower_case": false} where it is cased). Options
# are added to those of the recipe and win over them: --max-update 1200 --batch-size 32, say. What
# is done is not done again: called once more, training goes on from its last checkpoint. All that
# fairseq says is in OUT/*.log.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: bash $0 TRAIN VALID TOKENIZER OUT [option of fairseq-train ...]" >&2
    exit 2
fi
train=$(realpath "$1") valid=$(realpath "$2") tokenizer=$(realpath "$3") out=$(realpath -m "$4")
shift 4
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source examples/environment.sh

step() { printf '\n== %s\n' "$*"; }
# Ends like the command before, with the last words in the log that is named. A training that lives
# may write its own log there meanwhile.
fail() {
    local status=$? logged='\| (INFO|WARNING) \|'
    # What could still say why it ends did so last.
    if [ $status -gt 128 ] && tail -n 1 "$1" | grep -Eq "^$|$logged"; then
        echo "$1: ended by SIG$(kill -l $status)" >&2
    else
        { grep -Ev "$logged" "$1" || tail -n 1 "$1"; } | tail -n 1 >&2
    fi
    exit $status
}
# Ctrl-C reaches all of a pipeline: who reads does so to the end.
to_the_end() { (trap '' INT TERM HUP && "$@"); }

step "text to pieces, pieces to binarized data (convbert encode, fairseq-preprocess)"
python examples/preparing.py "TRAIN=$train" "VALID=$valid" "TOKENIZER=$tokenizer" "$out"

log=$out/train.log
step "pretraining (fairseq-train; all of its log is in $log)"
recipe=(
    --task replaced_token_detection --criterion replaced_token_detection
    --arch convbert_small --tokens-per-sample 128 --batch-size 128
    --optimizer convbert_adamw --weight-decay 0.01 --clip-norm 1.0
    --lr-scheduler convbert_linear --lr 3e-4 --warmup-updates 10000 --max-update 1000000
    --save-interval-updates 10000 --keep-interval-updates 1 --no-epoch-checkpoints
    --log-format json --log-interval 100
)
fairseq-train "$out/data" --user-dir convbert_plugin "${recipe[@]}" \
    --save-dir "$out/run" --tensorboard-logdir "$out/tensorboard" "$@" 2>&1 |
    to_the_end tee -a "$log" | to_the_end python examples/pretraining/training_lines.py || fail "$log"

log=$out/validate.log
step "held-out documents (fairseq-validate)"
fairseq-validate "$out/data" --user-dir convbert_plugin --task replaced_token_detection \
    --path "$out/run/checkpoint_last.pt" --valid-subset valid --batch-size 32 \
    --log-format json >"$log" 2>&1 || fail "$log"
python examples/pretraining/results.py "$out"
