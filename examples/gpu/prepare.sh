#!/usr/bin/env bash
# Makes what check.sh trains on, a folder that goes to a machine with a GPU: binarized text with its
# tokenizer, about 2 bytes a token.
#
#   bash examples/gpu/prepare.sh TRAIN VALID TOKENIZER DATA
#
# TRAIN and VALID: text, one sentence or paragraph a line, an empty line between documents.
# TOKENIZER: a vocab.txt, or the folder of a tokenizer.
set -euo pipefail
if [ $# -ne 4 ]; then
    echo "usage: bash $0 TRAIN VALID TOKENIZER DATA" >&2
    exit 2
fi
train=$(realpath "$1") valid=$(realpath "$2") tokenizer=$(realpath "$3") data=$(realpath -m "$4")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source examples/environment.sh

pieces=$(mktemp -d)
trap 'rm -rf "$pieces"' EXIT
convbert encode --tokenizer "$tokenizer" "$train" "$pieces/train"
convbert encode --tokenizer "$tokenizer" "$valid" "$pieces/valid"
fairseq-preprocess --user-dir convbert_plugin --task replaced_token_detection --only-source \
    --srcdict "$pieces/dict.txt" --trainpref "$pieces/train" --validpref "$pieces/valid" \
    --destdir "$data" --workers 2 >"$pieces/log" 2>&1 || {
    tail -n 1 "$pieces/log" >&2
    exit 1
}
rm -f "$data/preprocess.log"
du -sh "$data"
