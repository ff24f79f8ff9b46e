#!/usr/bin/env bash
# The embedded corpus: sentences of ours in ten voices of espeak-ng, with letters and phones. Nothing is downloaded.
#
#   manifests/demo/prepare.sh OUT [MINUTES]
#
# OUT      gets audio (2 MB a minute), manifests and texts: the folder for `task.data`
# MINUTES  to pre-train on (20); a tenth of it has letters in `train`

set -euo pipefail
source "$(dirname "$0")/../common.sh"
(($# == 1 || $# == 2)) || usage
need birq-manifest

birq-manifest demo "$1" --minutes "${2:-20}"
