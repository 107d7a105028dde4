#!/usr/bin/env bash
# Runs fairseq-train as one of several processes on CPUs, of which RANK, WORLD_SIZE, MASTER_ADDR and
# MASTER_PORT tell:
#
#   torchrun --nproc-per-node 2 --no-python bash examples/distributed/worker.sh fairseq-train WORD ...
#
# From these alone fairseq would share out GPUs. launch.py sets them too.
exec "$@" --cpu --distributed-world-size "$WORLD_SIZE" --distributed-rank "$RANK" \
    --distributed-init-method env:// --distributed-no-spawn \
    --distributed-backend gloo --ddp-backend legacy_ddp
