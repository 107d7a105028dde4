#!/usr/bin/env bash
# How the threads of torch wait for each other, unless the user has said it.
#
#   source examples/waiting.sh                    for what follows in this shell (environment.sh does)
#   bash examples/waiting.sh COMMAND [WORD ...]   for one command
#
# By default GNU OpenMP, which torch's wheels bring, spins for milliseconds at the end of each
# parallel piece of work. Where another process wants the core of the thread that is waited for,
# that spinning keeps it away: examples/results/README.md has the figures.
if [ -z "${OMP_WAIT_POLICY:-}${GOMP_SPINCOUNT:-}${OMP_NUM_THREADS:-}${KMP_BLOCKTIME:-}" ]; then
    export GOMP_SPINCOUNT=1000
fi
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    exec "$@"
fi
