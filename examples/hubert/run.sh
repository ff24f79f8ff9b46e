#!/usr/bin/env bash
# HuBERT's rounds: cluster MFCC and pre-train on these labels; cluster a layer of that model and pre-train from scratch on
# these; and so on, as often as you say. The same command again goes on where it stopped.
#
#   [CONFIG=mboshi_small] examples/hubert/run.sh DATA OUT ROUNDS [overrides of all trainings, as common.cpu=true]
#
# DATA      folder with the manifests
# OUT       gets labels1, round1, labels2, round2, ...; the last model is OUT/round<ROUNDS>/checkpoint_last.pt
# CONFIG    mboshi_small, librispeech_base or debug: the recipe of this folder
# SPLITS    the manifests to train and to validate on, as "train valid"
# CLUSTERS  of MFCC and of the layer, as "100 500"
# LAYER     that is clustered from round 2 on, counted from 1
# SEED      of k-means
# SHARDS    pieces in which labels are made: what an interruption costs, and what is held in memory
# TRAIN     the training command, as "torchrun --nproc_per_node 8 $(which fairseq-hydra-train)"
set -euo pipefail

if [ $# -lt 3 ] || ! [[ $3 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 DATA OUT ROUNDS [overrides ...]" >&2
  exit 2
fi
config=${CONFIG:-mboshi_small}
case $config in
  debug) splits="train valid" layer=1 clusters="16 32" ;;
  mboshi_small) splits="pretrain dev" layer=2 clusters="100 500" ;;
  librispeech_base) splits="train valid" layer=6 clusters="100 500" ;;
  *) echo "CONFIG must be debug, mboshi_small or librispeech_base, but is $config" >&2; exit 2 ;;
esac
read -r train_split valid_split <<<"${SPLITS:-$splits}"
read -r of_mfcc of_layer <<<"${CLUSTERS:-$clusters}"
layer=${LAYER:-$layer}
shards=${SHARDS:-1}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
data=$(cd "$1" && pwd)
mkdir -p "$2"
out=$(cd "$2" && pwd)
rounds=$3
overrides=("${@:4}")

train() {  # FOLDER LABELS CLUSTERS
  if [ -e "$1/done" ]; then
    return
  fi
  ${TRAIN:-fairseq-hydra-train} --config-dir "$repository/examples/hubert" --config-name "$config" \
    common.user_dir="$repository/fairseq_birq" task.data="$data" checkpoint.save_dir="$1" \
    dataset.train_subset="$train_split" dataset.valid_subset="$valid_split" \
    model.targets.label_file.path="$2" model.quantizer.codebook_size="$3" ${overrides[@]+"${overrides[@]}"}
  touch "$1/done"
}

label() {  # LABELS CLUSTERS [CHECKPOINT]
  local shard of=(--features mfcc)
  if [ $# -gt 2 ]; then
    of=(--layer "$layer" --codebook kmeans)
  fi
  for ((shard = 0; shard < shards; shard++)); do
    birq-labels "${@:3}" "$data/$train_split.tsv" "$1/$train_split" --shard "$shard/$shards" \
      "${of[@]}" --codebook-size "$2" --seed "${SEED:-5}"
  done
  birq-labels "${@:3}" "$data/$valid_split.tsv" "$1/$valid_split" --like "$1/$train_split"
}

label "$out/labels1" "$of_mfcc"
train "$out/round1" "$out/labels1" "$of_mfcc"
for ((round = 2; round <= rounds; round++)); do
  label "$out/labels$round" "$of_layer" "$out/round$((round - 1))/checkpoint_last.pt"
  train "$out/round$round" "$out/labels$round" "$of_layer"
done
