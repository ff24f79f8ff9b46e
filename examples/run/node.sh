#!/usr/bin/env bash
# One node of a run on several: start this on every node, with the arguments of fairseq-hydra-train.
#
#   HEAD=node0 NODES=2 NODE_RANK=0 PROCESSES=8 examples/run/node.sh --config-dir ... --config-name ... overrides
#
# HEAD: the first node's name or address; NODE_RANK: this node's number from 0; PROCESSES: on each node, one per GPU.
# NCCL_SOCKET_IFNAME, or with common.cpu=true GLOO_SOCKET_IFNAME, names the network interface where there are several.
set -euo pipefail

exec torchrun --nnodes "${NODES:?}" --node_rank "${NODE_RANK:?}" --nproc_per_node "${PROCESSES:?}" \
    --master_addr "${HEAD:?}" --master_port "${PORT:-29500}" --no-python "$(dirname "$0")/process.sh" "$@"
