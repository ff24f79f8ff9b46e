#!/usr/bin/env bash
# Staged relabelling: pre-train BEST-RQ, which is round 0; then label the corpus with a layer of the last round's model and
# pre-train from scratch on these labels, as often as you say. The same command again goes on where it stopped.
#
#   [CONFIG=mboshi_small] examples/relabelling/run.sh DATA OUT ROUNDS [overrides of all trainings, as common.cpu=true]
#
# DATA    folder with the manifests
# OUT     gets round0, labels1, round1, labels2, round2, ...; the last model is OUT/round<ROUNDS>/checkpoint_last.pt
# CONFIG  mboshi_small, librispeech_base or debug: the recipe of examples/best_rq for round 0, of this folder afterwards
# SPLITS  the manifests to train and to validate on, as "train valid"
# FROM    a checkpoint of any method that stands for round 0, which is then not trained
# LAYER   of the labels, counted from 1
# SHARDS  pieces in which labels are made: what an interruption costs, and what is held in memory
# TRAIN   the training command, as "torchrun --nproc_per_node 8 $(which fairseq-hydra-train)"
set -euo pipefail

if [ $# -lt 3 ] || ! [[ $3 =~ ^[0-9]+$ ]]; then
  echo "usage: $0 DATA OUT ROUNDS [overrides ...]" >&2
  exit 2
fi
config=${CONFIG:-mboshi_small}
case $config in  # N and V are those of the recipes
  debug) splits="train valid" layer=1 codebooks=2 codes=64 ;;
  mboshi_small) splits="pretrain dev" layer=2 codebooks=4 codes=256 ;;
  librispeech_base) splits="train valid" layer=8 codebooks=1 codes=8192 ;;
  *) echo "CONFIG must be debug, mboshi_small or librispeech_base, but is $config" >&2; exit 2 ;;
esac
read -r train_split valid_split <<<"${SPLITS:-$splits}"
layer=${LAYER:-$layer}
shards=${SHARDS:-1}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
rounds=$3
overrides=("${@:4}")

train() {  # FOLDER METHOD [overrides ...]
  if [ -e "$1/done" ]; then
    return
  fi
  ${TRAIN:-fairseq-hydra-train} --config-dir "$repository/examples/$2" --config-name "$config" \
    common.user_dir="$repository/fairseq_birq" task.data="$data" checkpoint.save_dir="$1" \
    dataset.train_subset="$train_split" dataset.valid_subset="$valid_split" \
    "${@:3}" ${overrides[@]+"${overrides[@]}"}
  touch "$1/done"
}

label() {  # CHECKPOINT LABELS
  local shard
  for ((shard = 0; shard < shards; shard++)); do
    birq-labels "$1" "$data/$train_split.tsv" "$2/$train_split" --shard "$shard/$shards" \
      --layer "$layer" --num-codebooks "$codebooks" --codebook-size "$codes"
  done
  birq-labels "$1" "$data/$valid_split.tsv" "$2/$valid_split" --like "$2/$train_split"
}

teacher=${FROM:+$(realpath "$FROM")}
if [ -z "$teacher" ]; then
  train "$out/round0" best_rq
  teacher=$out/round0/checkpoint_last.pt
fi
for ((round = 1; round <= rounds; round++)); do
  label "$teacher" "$out/labels$round"
  train "$out/round$round" relabelling model.targets.label_file.path="$out/labels$round"
  teacher=$out/round$round/checkpoint_last.pt
done
