#!/usr/bin/env bash
# One process of a run: started by torchrun (--no-python) or by srun, with the arguments of fairseq-hydra-train.
#
# It tells fairseq the number of processes, because with distributed_world_size: 1 in a recipe every process would train
# by itself; and with common.cpu=true also rank and rendezvous, because fairseq counts GPUs to find them.
set -euo pipefail

export RANK=${RANK:-${SLURM_PROCID:?start this with torchrun or srun}}
export WORLD_SIZE=${WORLD_SIZE:-$SLURM_NTASKS} LOCAL_RANK=${LOCAL_RANK:-${SLURM_LOCALID:-0}}

given=("distributed_training.distributed_world_size=$WORLD_SIZE")
if [[ " $* " == *" common.cpu=true "* ]]; then
    given+=("distributed_training.distributed_rank=$RANK" distributed_training.distributed_init_method=env://)
    given+=(distributed_training.distributed_no_spawn=true distributed_training.distributed_backend=gloo)
fi
exec fairseq-hydra-train "$@" "${given[@]}"
