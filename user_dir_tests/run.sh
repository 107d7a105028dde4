#!/usr/bin/env bash
# Sets up .venv where it is not there yet, then runs the tests; arguments go to pytest, paths among
# them counted from the top of the checkout:
#
#   bash user_dir_tests/run.sh                  everything for which there is no need of TensorFlow
#   bash user_dir_tests/run.sh fast             what takes little time, for between two edits
#   bash user_dir_tests/run.sh all              everything: fetches TensorFlow (1.6 GB) and, where torch
#                                               brings none, Triton (190 MB), once
#   bash user_dir_tests/run.sh -m glue          one capability (the markers stand in pyproject.toml)
#   bash user_dir_tests/run.sh -m tensorflow    the tests against TensorFlow's own checkpoints
#   bash user_dir_tests/run.sh -n 0 --pdb PATH  in one process, for the debugger
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash examples/environment.sh

# Not in .venv itself: where tensorboard finds TensorFlow it imports it, in every fairseq process.
tensorflow=.venv/tensorflow
pins=user_dir_tests/oracles/tensorflow.txt
# A copy of the pins, as the last thing to be written: what was broken off is redone.
stamp=$tensorflow/convbert_plugin.stamp
install_tensorflow() {
    rm -rf "$tensorflow" &&
        .venv/bin/python -m venv "$tensorflow" &&
        "$tensorflow/bin/python" -m pip install -qq --disable-pip-version-check \
            --only-binary :all: -r "$pins" &&
        cp "$pins" "$stamp"
}

# Not in .venv itself either: torch would use what it finds there.
triton=.venv/triton
triton_pins=user_dir_tests/ops/triton.txt
install_triton() {
    rm -rf "$triton" &&
        .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
            --only-binary :all: --target "$triton" -r "$triton_pins" &&
        cp "$triton_pins" "$triton/convbert_plugin.stamp"
}

wanted=whole
case ${1:-} in
    fast | all)
        wanted=$1
        shift
        ;;
esac
case " $* " in *" -m tensorflow "*) wanted=tensorflow ;; esac
selection=()
[ $wanted != fast ] || selection=(-m "not slow and not process")
if ! cmp -s "$pins" "$stamp"; then
    if [ $wanted = all ] || [ $wanted = tensorflow ]; then
        echo "tests: setting up TensorFlow in $tensorflow, for the tests alone, once (1.6 GB)"
        if ! install_tensorflow; then
            printf 'tests: warning: %s: %s\n' "TensorFlow was not installed, see above" \
                "the tests against its own checkpoints are skipped; run this again to have them" >&2
        fi
    elif [ $wanted = whole ]; then
        printf 'tests: %s; "bash user_dir_tests/run.sh -m tensorflow" %s\n' \
            "those against TensorFlow's own checkpoints are skipped" "fetches it (1.6 GB) for them"
    fi
fi
if [ $wanted = all ] && ! cmp -s "$triton_pins" "$triton/convbert_plugin.stamp" &&
    ! .venv/bin/python -c "import triton" >/dev/null 2>&1; then
    echo "tests: setting up Triton in $triton, for the tests of its kernels alone, once (190 MB)"
    if ! install_triton; then
        printf 'tests: warning: %s: %s\n' "Triton was not installed, see above" \
            "the tests of its kernels are skipped; run this again to have them" >&2
    fi
fi
# Hundreds of processes read the package: they compile it once, into folders that git ignores.
unset PYTHONDONTWRITEBYTECODE
# A worker for each core, four at most, with one thread each: many would wait for each other.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
exec .venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal "${selection[@]}" "$@"
