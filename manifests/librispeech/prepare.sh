#!/usr/bin/env bash
# LibriSpeech: 960 h to pre-train on, 100 h with letters, the development and test sets, the published 4-gram and its words.
#
#   manifests/librispeech/prepare.sh CORPUS OUT
#
# CORPUS    gets LibriSpeech/ (60 GB), and each archive until it is unpacked (at most 30 GB more)
# OUT       gets the manifests of 960 h: the folder for `task.data` of pre-training
# OUT_100h  gets those of train-clean-100, lexicon.txt and 4-gram.arpa (5 GB): for fine-tuning and decoding

set -euo pipefail
source "$(dirname "$0")/../common.sh"
[[ $# == 2 ]] || usage
need curl tar md5sum gunzip birq-manifest

SPEECH=https://www.openslr.org/resources/12
TEXT=https://www.openslr.org/resources/11
OUT=${2%/} CORPUS=${1%/}

# verify ARCHIVE: against the list of the publisher
verify() {
    (cd "$(dirname "$1")" && grep -F " $(basename "$1")" md5sum.txt | md5sum --check --quiet -) || {
        echo "error: $1 is damaged; remove it and start again" >&2
        exit 1
    }
}

room "$CORPUS" 95
download "$SPEECH/md5sum.txt" "$CORPUS/md5sum.txt"
for subset in dev-clean dev-other test-clean test-other train-clean-100 train-clean-360 train-other-500; do
    unpack "$SPEECH/$subset.tar.gz" "$CORPUS" "$subset"
done
birq-manifest librispeech "$CORPUS" "$OUT" --train 960
birq-manifest librispeech "$CORPUS" "${OUT}_100h" --train 100

download "$TEXT/librispeech-vocab.txt" "${OUT}_100h/librispeech-vocab.txt"
spell <"${OUT}_100h/librispeech-vocab.txt" >"${OUT}_100h/lexicon.txt"
if [[ ! -e ${OUT}_100h/4-gram.arpa ]]; then
    download "$TEXT/4-gram.arpa.gz" "${OUT}_100h/4-gram.arpa.gz"
    gunzip --stdout "${OUT}_100h/4-gram.arpa.gz" >"${OUT}_100h/4-gram.arpa.part"
    mv "${OUT}_100h/4-gram.arpa.part" "${OUT}_100h/4-gram.arpa"
    rm "${OUT}_100h/4-gram.arpa.gz"
fi
if [[ ! -e ${OUT}_100h/4-gram.bin ]] && command -v build_binary >/dev/null; then
    build_binary "${OUT}_100h/4-gram.arpa" "${OUT}_100h/4-gram.bin"
fi
