#!/usr/bin/env bash
#SBATCH --job-name=birq --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8 --time=24:00:00
#SBATCH --signal=B:USR1@180 --requeue --open-mode=append --output=%x-%j.log
#
# A run on SLURM that survives preemption and its time limit. Submit it in the repository's root, with the arguments of
# fairseq-hydra-train; options of sbatch override those above:
#
#   sbatch --nodes 2 --ntasks-per-node 8 --gpus-per-node 8 examples/run/slurm.sh --config-dir ... overrides
#
# 180 s before the time limit SLURM sends USR1 to this script: training is asked to save and to leave (exit status 75),
# and the job queues again. TERM, of scancel or of a preemption, asks the same, but the script does not queue again:
# after a preemption SLURM does that itself (--requeue), and after scancel nobody should.
set -uo pipefail
SAVED=75 # training's exit status after it was asked to leave and saved a checkpoint

asked=""
# shellcheck disable=SC2329  # the traps call it
ask() {
    asked=$1
    kill -USR1 "$run" # srun forwards it to all processes
}
trap 'ask requeue' USR1
trap 'ask leave' TERM

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR=${hosts%%$'\n'*} MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
srun --kill-on-bad-exit=0 examples/run/process.sh "$@" &
run=$!
while kill -0 "$run" 2>/dev/null; do
    wait "$run" # a signal ends this, not the run
done
wait "$run"
status=$?

echo "training ended with status $status${asked:+, asked to $asked}"
if [[ $asked == requeue && $status == "$SAVED" ]]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
