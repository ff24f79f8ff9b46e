#!/usr/bin/env bash
# AMI: meetings, headsets (ihm) and one far microphone (sdm), with letters; lexicon and 4-gram of the training text.
#
#   manifests/ami/prepare.sh CORPUS OUT
#
# CORPUS  gets amicorpus (60 GB): the headsets and the first microphone of the first array of 171 meetings, and annotations 1.6.2
# OUT     gets the manifests: the folder for `task.data` of fine-tuning

set -euo pipefail
source "$(dirname "$0")/../common.sh"
[[ $# == 2 ]] || usage
need curl birq-manifest "$PYTHON"

URL=https://groups.inf.ed.ac.uk/ami
NOTES=ami_public_manual_1.6.2
CORPUS=$1 OUT=$2

room "$CORPUS" 60
if [[ ! -e $CORPUS/$NOTES/corpusResources/meetings.xml ]]; then
    download "$URL/AMICorpusAnnotations/$NOTES.zip" "$CORPUS/$NOTES.zip"
    "$PYTHON" -m zipfile --extract "$CORPUS/$NOTES.zip" "$CORPUS/$NOTES"
fi
for meeting in $(cat "$HERE"/ami/{train,dev,eval}.txt); do
    files="Headset-0 Headset-1 Headset-2 Headset-3"
    case $meeting in
    EN2001a | EN2001d | EN2001e) files+=" Headset-4" ;; # five speakers
    esac
    case $meeting in
    IS1003b | IS1007d) ;; # no array was recorded
    *) files+=" Array1-01" ;;
    esac
    for file in $files; do
        download "$URL/AMICorpusMirror/amicorpus/$meeting/audio/$meeting.$file.wav" "$CORPUS/$meeting/audio/$meeting.$file.wav"
    done
done
birq-manifest ami "$CORPUS" "$OUT" --mic both

# The text of the headsets alone: the far microphone's is the same once more.
tail -n +2 "$OUT/train.tsv" | paste - "$OUT/train.wrd" | grep -F .Headset- | cut -f 3 >"$OUT/lm.txt"
tr ' ' '\n' <"$OUT/lm.txt" | spell >"$OUT/lexicon.txt"
"$PYTHON" "$HERE/ngram.py" "$OUT/lm.txt" "$OUT/4-gram.arpa" --order 4
