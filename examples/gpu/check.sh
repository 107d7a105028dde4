#!/usr/bin/env bash
# All that needs a GPU, in one command of at most 8 minutes; README.md beside this says how to bring
# wheels and data to a machine without a network.
#
#   bash examples/gpu/check.sh --data runs/gpu/data [--wheels runs/gpu/wheels] [--out runs/gpu-check]
#   bash examples/gpu/check.sh --data runs/gpu/data --device cpu --toy      that it runs, in a minute
#
# It sets up nothing: it takes the first python or python3 of the path that has torch, or the one that
# PYTHON names, and what the wheels add to it, in a folder of its own that goes when it ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
has_torch() {
    "$1" -c 'import importlib.util as i, sys; sys.exit(i.find_spec("torch") is None)' 2>/dev/null
}
for python in "${PYTHON:-python}" python3; do
    if has_torch "$python"; then break; fi
done
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
# Who looks for a GPU so does not touch it, and may fork.
export PYTORCH_NVML_BASED_CUDA_CHECK=1
# Several processes share the cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

words=() wheels=
while [ $# -gt 0 ]; do
    if [ "$1" = --wheels ] && [ $# -gt 1 ]; then
        wheels=$2
        shift
    else
        words+=("$1")
    fi
    shift
done
if [ -n "$wheels" ]; then
    added=$(mktemp -d)
    trap 'rm -rf "$added"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
        --disable-pip-version-check --target "$added" "$wheels"/*.whl
    export PYTHONPATH=$added:$PYTHONPATH
fi
"$python" examples/gpu/check.py "${words[@]}"
