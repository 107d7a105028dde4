#!/usr/bin/env bash
# Makes .venv at the top of the checkout with the tested set of packages, once. Later calls find it
# done; a change of setup.py or constraints.txt brings it up to date; what was broken off is redone.
#
#   bash examples/environment.sh                          takes python3, python3.12 or python3.11
#   PYTHON=/path/to/python3.12 bash examples/environment.sh
#   source examples/environment.sh                        the same, and .venv/bin comes first on PATH,
#                                                         and threads wait as waiting.sh says
#
# A .venv that already stands there is kept and added to: to run on a CPU build of torch, make it
# yourself and install that build of the pinned version first.

# A subshell, so that a script that sources this keeps its own options, folder and variables.
convbert_environment() (
    set -euo pipefail
    SECONDS=0
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
    cd "$root"
    python=.venv/bin/python
    stamp=.venv/convbert_plugin.stamp
    made=.venv/convbert_plugin.made

    say() { printf 'environment: %s\n' "$*"; }
    fail() {
        printf 'environment: error: %s\n' "$*" >&2
        exit 1
    }

    usable() {
        "$1" -c 'import sys; sys.exit(sys.implementation.name != "cpython" or sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1
    }
    version() { "$1" -c 'import platform; print(platform.python_version())'; }

    # The folder belongs to the sum because a virtual environment cannot be moved.
    checksum=$({ cat setup.py constraints.txt examples/environment.sh && echo "$root"; } | cksum)

    # Only a Python that was asked for by name replaces the one that .venv has.
    fits() {
        usable "$python" || return 1
        [ -z "${PYTHON:-}" ] || ! usable "$PYTHON" || [ "$(version "$PYTHON")" = "$(version "$python")" ]
    }

    # Two set-ups at once would write over each other; the lock goes when this process ends.
    if command -v flock >/dev/null && exec 9<"$root" && ! flock -n 9; then
        say "another set-up of this .venv is running: waiting for it"
        flock 9
    fi
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$checksum" ] && fits; then
        say "reusing .venv (Python $(version "$python")); setup.py and constraints.txt are unchanged"
        exit 0
    fi

    [ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
        fail "ve-fairseq is published for Linux on x86_64 only, this is $(uname -s) on $(uname -m): see README.md"

    base=
    for candidate in "${PYTHON:-python3}" python3.12 python3.11; do
        # ensurepip is what Debian and Ubuntu leave out of their python3 package.
        if usable "$candidate" && "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            # Not the candidate: it may be a shim, or lie in the .venv that is made anew.
            base=$("$candidate" -c 'import sys; print(sys._base_executable)')
            break
        fi
    done
    [ -n "$base" ] ||
        fail "${PYTHON:-python3} is not CPython 3.11 or 3.12 (with venv), and neither is on PATH: install one (Debian, Ubuntu: python3-venv too) or name it with PYTHON=/path/to/python3.12"

    # A .venv that this script made and did not finish, or that was moved, is not worth mending; one
    # that someone else made is never removed.
    if [ -e "$made" ] && ! { [ -e "$stamp" ] && [ "$(cat "$made")" = "$root" ] && fits; }; then
        say "the .venv here is unfinished, moved or of another Python: making it anew"
        rm -rf .venv
    fi
    if [ ! -e .venv ]; then
        say "making .venv with Python $(version "$base") and the tested set of packages, once"
        say "this takes one to two minutes beside the downloads: 180 MB, and torch (190 MB for its CPU build; the one on PyPI brings CUDA libraries, several GB)"
        say "1/4 an empty virtual environment"
        mkdir .venv
        echo "$root" >"$made"
        "$base" -m venv .venv || fail "$base -m venv .venv failed, see above"
    elif fits && "$python" -m pip --version >/dev/null 2>&1; then
        say "bringing .venv (Python $(version "$python")) up to date with setup.py and constraints.txt"
        say "1/4 the virtual environment is there"
    else
        fail ".venv was made by other means and does not hold the wanted CPython (3.11 or 3.12) with pip: move it away and run this again"
    fi
    rm -f "$stamp"

    export PIP_DISABLE_PIP_VERSION_CHECK=1

    # In a log pip says what went wrong and nothing else, on a terminal how far it is.
    quiet=-qq
    if [ -t 1 ]; then quiet=; fi
    install() { "$python" -m pip install --no-warn-conflicts $quiet "$@"; }
    advice="see pip's message above, then run this again (what was downloaded is kept)"

    # First of all, because it is small and exists for few platforms. Without its dependencies:
    # they name torchaudio, whose CUDA build breaks transformers' import beside a CPU torch.
    say "2/4 fairseq"
    install --no-deps --require-hashes --only-binary :all: -r /dev/stdin <<WHEELS || fail "fairseq was not installed: $advice"
$(grep '^ve-fairseq==' constraints.txt) \\
    --hash=sha256:5e84da7a92db08aae7f9cc3d155d4574d915fe1959dc1e041d514b6ef7bc000a \\
    --hash=sha256:9ba18767af12978b4700ac7d9914e6abfe365a50ce17faa6a79e8f07f4129be5
WHEELS

    say "3/4 convbert_plugin (editable) and what it needs"
    # Through the environment because only so do they reach the isolated builds too: the first
    # does up to pip 25.2, the second after it. Relative because pip splits the value at blanks.
    export PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
    install --editable '.[test]' || fail "the packages were not installed: $advice"

    say "4/4 trying the imports"
    error=$("$python" -c 'import fairseq; from transformers import ConvBertModel' 2>&1) ||
        fail "fairseq and transformers do not import (${error##*$'\n'}): remove .venv and run this again"
    echo "$checksum" >"$stamp"
    say "done in ${SECONDS} s: .venv has Python $(version "$python")"
)

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    convbert_environment
else
    convbert_environment || return
    PATH=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin" && pwd -P):$PATH
    export PATH
    source "$(dirname "${BASH_SOURCE[0]}")/waiting.sh"
fi
