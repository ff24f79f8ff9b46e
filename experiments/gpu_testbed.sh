#!/usr/bin/env bash
# The methods at ten times the exposure of testbed.yaml, within MINUTES (9) on one accelerator; prints the tables.
#
#   experiments/gpu_testbed.sh /data/mboshi runs/testbed_gpu
#   TINY=1 experiments/gpu_testbed.sh /data/mboshi runs/testbed_tiny     # three updates on the CPU: does it work?
#
# Runs go JOBS (4) at once, for an encoder of 0.7 M parameters leaves an accelerator idle. What did not fit into the time
# goes on with the same command. Written for an accelerator, but not yet run on one.
set -euo pipefail
data=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
options=()
if [ -n "${TINY:-}" ]; then
    options=(--rows best_rq true_letters --seeds 1 --override common.cpu=true optimization.max_update=3
             lr_scheduler.total_num_update=3 dataset.max_tokens=320000 dataset.num_workers=1)
fi
status=0
timeout "${MINUTES:-9}m" "$python" "$here/testbed.py" "$here/testbed_gpu.yaml" --data "$data" --out "$out" \
    --results "$out/results" --jobs "${JOBS:-4}" "${options[@]}" || status=$?
if [ "$status" -eq 124 ]; then
    echo "the time is up: the same command goes on"
elif [ "$status" -ne 0 ]; then
    exit "$status"
fi
"$python" "$here/summary.py" "$out/results"
