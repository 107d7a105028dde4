#!/usr/bin/env bash
# Sets up .venv where it is not there yet, then runs the tests; arguments go to pytest, paths among
# them counted from the top of the checkout:
#
#   bash user_dir_tests/run.sh                  everything
#   bash user_dir_tests/run.sh -m squad         one capability (the markers stand in pyproject.toml)
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
if ! cmp -s "$pins" "$stamp"; then
    echo "tests: setting up TensorFlow in $tensorflow, for the tests alone, once (1.6 GB)"
    if ! install_tensorflow; then
        printf 'tests: warning: %s: %s\n' "TensorFlow was not installed, see above" \
            "the tests against its own checkpoints are skipped; run this again to have them" >&2
    fi
fi
exec .venv/bin/python -m pytest "$@"
