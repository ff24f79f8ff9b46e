#!/usr/bin/env bash
# Two nodes on one machine: two network namespaces that see each other through a virtual cable alone. Trains the debug
# recipe on both with torchrun and gloo, then in one process on the joined batches, and compares the losses.
#
#   examples/run/two_nodes.sh /data/manifests OUT [overrides of both runs]
#
# Needs Linux, `ip`, and root or unprivileged user namespaces. Exit status 0: the losses agree.
set -euo pipefail

# ---- inside: this shell's namespace is node 0
if [[ ${1:-} == --node-0 ]]; then
    shift
    unshare --net sleep infinity &
    other=$!
    trap 'kill "$other"' EXIT
    until [[ $(readlink "/proc/$other/ns/net") != $(readlink /proc/self/ns/net) ]]; do sleep 0.1; done
    node_1=(nsenter --target "$other" --net)
    ip link add cable0 type veth peer name cable1 netns "$other"
    ip link set lo up && ip address add 10.77.0.1/24 dev cable0 && ip link set cable0 up
    "${node_1[@]}" ip link set lo up
    "${node_1[@]}" ip address add 10.77.0.2/24 dev cable1 && "${node_1[@]}" ip link set cable1 up
    export HEAD=10.77.0.1 NODES=2 PROCESSES=1
    GLOO_SOCKET_IFNAME=cable1 NODE_RANK=1 "${node_1[@]}" examples/run/node.sh "$@" &
    GLOO_SOCKET_IFNAME=cable0 NODE_RANK=0 examples/run/node.sh "$@"
    wait $!
    awk '$1 == "cable0:" { print "bytes that node 0 received from node 1:", $2 }' /proc/self/net/dev
    exit
fi

# ---- outside
data=$(realpath "${1:?folder of manifests}") out=$(realpath -m "${2:?folder for both runs}")
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
mkdir -p "$out"
run=(--config-dir examples/best_rq --config-name debug "common.user_dir=$root/fairseq_birq" "task.data=$data" common.cpu=true)
run+=(model.encoder.dropout=0.0 model.encoder.attention_dropout=0.0 common.log_interval=1 optimization.max_update=5)
run+=(dataset.disable_validation=true checkpoint.no_save=true "$@")

losses() { grep -o '"loss": "[0-9.]*", .*"num_updates": "[0-9]*"' "$1" | sed -E 's/.*"loss": "([0-9.]*)".*"num_updates": "([0-9]*)".*/\2 \1/' | sort -un; }

echo "two nodes ..."
unshare --map-root-user --net examples/run/two_nodes.sh --node-0 "${run[@]}" "checkpoint.save_dir=$out/two" \
    >"$out/two.log" 2>&1 || { tail -n 20 "$out/two.log"; exit 1; }
echo "one process, two batches per update ..."
fairseq-hydra-train "${run[@]}" "checkpoint.save_dir=$out/one" "optimization.update_freq=[2]" >"$out/one.log" 2>&1 ||
    { tail -n 20 "$out/one.log"; exit 1; }

grep '^bytes that' "$out/two.log"
echo "update, loss of two nodes, loss of one process:"
join <(losses "$out/two.log") <(losses "$out/one.log") | awk '
    { print; difference = $2 > $3 ? $2 - $3 : $3 - $2; if (difference > 0.002) differ = 1 }
    END { agree = NR > 0 && !differ; print agree ? "the losses agree" : "THE LOSSES DIFFER"; exit !agree }'
