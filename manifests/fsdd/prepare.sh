#!/usr/bin/env bash
# Spoken digits (FSDD): train, dev and test of one word a file, 8 kHz; letters and the lexicon of ten words.
#
#   manifests/fsdd/prepare.sh CLONE OUT
#
# CLONE  gets the public repository (40 MB); one that is there is taken as it is
# OUT    gets audio (5 MB), manifests and texts: the folder for `task.data`

set -euo pipefail
source "$(dirname "$0")/../common.sh"
[[ $# == 2 ]] || usage
need git birq-manifest "$PYTHON"

REPOSITORY=${REPOSITORY:-https://github.com/Jakobovski/free-spoken-digit-dataset}
COMMIT=${COMMIT:-26eb9aaf76e81b692f806f9140c2d2777410d7a1}
if [[ ! -d $1/recordings || -d $1/.git ]]; then
    clone "$REPOSITORY" "$COMMIT" "$1" /recordings/ /README.md
fi
birq-manifest fsdd "$1" "$2"
"$PYTHON" "$HERE/check.py" fsdd "$2"
