#!/usr/bin/env bash
# Sets up .venv where it is not there yet, then runs the tests; arguments go to pytest, paths among
# them counted from the top of the checkout:
#
#   bash user_dir_tests/run.sh                  everything
#   bash user_dir_tests/run.sh -m squad         one capability (the markers stand in pyproject.toml)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash examples/environment.sh
exec .venv/bin/python -m pytest "$@"
