#!/usr/bin/env bash
# Libri-Light: long recordings without text, cut at their quiet moments into pieces of at most 20 s.
#
#   manifests/libri_light/prepare.sh CORPUS OUT [SUBSET...]
#
# CORPUS  gets the subsets, and each archive until it is unpacked, which doubles it
# OUT     gets the manifests: the folder for `task.data` of pre-training
# SUBSET  small (577 h, 35 GB), medium (5,193 h, 321 GB more) or large (51,934 h, 3,050 GB more); small if none is given

set -euo pipefail
source "$(dirname "$0")/../common.sh"
(($# >= 2)) || usage
need curl tar birq-manifest

CORPUS=$1 OUT=$2
shift 2
[[ $# == 0 ]] && set -- small
declare -A GIGABYTES=([small]=35 [medium]=321 [large]=3050)
for subset in "$@"; do
    [[ -n ${GIGABYTES[$subset]:-} ]] || usage
    room "$CORPUS" $((2 * GIGABYTES[$subset]))
    unpack "https://dl.fbaipublicfiles.com/librilight/data/$subset.tar" "$CORPUS" "$subset"
done
birq-manifest libri_light "$CORPUS" "$OUT" --cut silence --piece-seconds 20
