#!/usr/bin/env bash
# Downloads what a machine with torch, but without a network, lacks to run this project: the pinned
# fairseq and what it imports. torch itself is that machine's.
#
#   bash examples/gpu/wheels.sh FOLDER [PYTHON_VERSION]      3.12 where none is named
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: bash $0 FOLDER [PYTHON_VERSION]" >&2
    exit 2
fi
folder=$(realpath -m "$1") version=${2:-3.12}
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source examples/environment.sh

packages=(ve-fairseq hydra-core omegaconf bitarray google-crc32c)
pins=()
for package in "${packages[@]}"; do
    pins+=("$(grep "^$package==" constraints.txt)")
done
platforms=()
for name in manylinux_2_28 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${name}_x86_64")
done
python -m pip download --quiet --no-deps --only-binary :all: --python-version "$version" \
    --implementation cp "${platforms[@]}" --dest "$folder" "${pins[@]}"
# It is published as source alone.
python -m pip wheel --quiet --no-deps --wheel-dir "$folder" \
    "$(grep '^antlr4-python3-runtime==' constraints.txt)"
ls "$folder"
