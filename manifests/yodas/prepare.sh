#!/usr/bin/env bash
# YODAS 2: captioned stretches of recordings from YouTube, some shards of a language, for pre-training (no letters).
#
#   manifests/yodas/prepare.sh CORPUS OUT [LANGUAGE [SHARDS]]
#
# CORPUS    gets data/LANGUAGE; a shard's archive is there until it is unpacked. How large a shard is was not measured.
# OUT       gets the manifests: the folder for `task.data` of pre-training
# LANGUAGE  a folder of the data set, en000 if none is given; SHARDS  how many of its shards, from the first one on (10)

set -euo pipefail
source "$(dirname "$0")/../common.sh"
(($# >= 2 && $# <= 4)) || usage
need curl tar birq-manifest

CORPUS=$1 OUT=$2 LANGUAGE=${3:-en000} SHARDS=${4:-10}
URL=https://huggingface.co/datasets/espnet/yodas2/resolve/main/data/$LANGUAGE
FOLDER=$CORPUS/data/$LANGUAGE

for ((number = 0; number < SHARDS; number++)); do
    shard=$(printf %08d "$number")
    download "$URL/text/$shard.json" "$FOLDER/text/$shard.json"
    mkdir -p "$FOLDER/audio/$shard"
    unpack "$URL/audio/$shard.tar.gz" "$FOLDER/audio/$shard" "$shard"
done
birq-manifest yodas "$CORPUS" "$OUT" --languages "$LANGUAGE" --no-text
