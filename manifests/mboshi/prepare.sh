#!/usr/bin/env bash
# Mboshi: 235 minutes to pre-train on, of which 75 and 20 are the sets of our tables, dev and test; letters, lexica, 3-gram.
#
#   manifests/mboshi/prepare.sh CLONE OUT
#
# CLONE  gets the public repository, as far as it is needed (1 GB); one that is there is taken as it is
# OUT    gets audio (270 MB), manifests and texts: the folder for `task.data`

set -euo pipefail
source "$(dirname "$0")/../common.sh"
[[ $# == 2 ]] || usage
need git birq-manifest "$PYTHON"

REPOSITORY=${REPOSITORY:-https://github.com/besacier/mboshi-french-parallel-corpus}
COMMIT=${COMMIT:-83c5b428a8251881711fa45e4ea5bb5ea6bcdc9b}
ALIGNMENTS=/forced_alignments_supervised_spkr
if [[ ! -d $1/full_corpus_newsplit || -d $1/.git ]]; then
    room "$1" 2
    clone "$REPOSITORY" "$COMMIT" "$1" "/full_corpus_newsplit/train/*.wav" "/full_corpus_newsplit/train/*.mb.cleaned" \
        "/full_corpus_newsplit/dev/*.wav" "/full_corpus_newsplit/dev/*.mb.cleaned" "$ALIGNMENTS/align-kit-old/train/" \
        "$ALIGNMENTS/align-kit-old/dev/" "$ALIGNMENTS/limsi-align/dev0.seg" /README.md
fi
birq-manifest mboshi "$1" "$2"
"$PYTHON" "$HERE/ngram.py" "$2/lm.txt" "$2/lm.3gram.arpa" --order 3
"$PYTHON" "$HERE/check.py" mboshi "$2"
