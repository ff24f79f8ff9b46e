# What the scripts of this folder share; they read it with `source`.
#
# KEEP_ARCHIVES=1  leaves an archive where it is after it was unpacked
# PYTHON=python    a Python that has fairseq_birq

PYTHON=${PYTHON:-python}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# usage: print the comment at the top of the script, and leave
usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# need TOOL...: leave with a sentence where one is missing
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null && continue
        case $tool in
        birq-manifest) echo "error: no birq-manifest: run \`make env\`, then \`source .venv/bin/activate\`" >&2 ;;
        *) echo "error: no $tool: install it with your system's package manager" >&2 ;;
        esac
        exit 2
    done
}

# room FOLDER GIGABYTES: warn where the disk has less; what an earlier run left there counts as missing room
room() {
    mkdir -p "$1"
    local free=$(($(df -Pk "$1" | awk 'END {print $4}') / 1000000))
    if ((free < $2)); then
        echo "warning: $1 has $free GB free; the whole of it needs about $2 GB" >&2
    fi
}

# download URL FILE: go on where an earlier try stopped; a file that is there is not downloaded again
download() {
    [[ -e $2 ]] && return
    mkdir -p "$(dirname "$2")"
    echo "download    $1"
    curl --fail --location --retry 5 --continue-at - --output "$2.part" "$1"
    mv "$2.part" "$2"
}

# unpack URL FOLDER NAME: download a tar archive and unpack it into FOLDER, once
unpack() {
    local archive stamp="$2/.$3.unpacked"
    archive="$2/$(basename "$1")"
    [[ -e $stamp ]] && return
    download "$1" "$archive"
    if declare -F verify >/dev/null; then verify "$archive"; fi
    echo "unpack      $archive"
    tar -xf "$archive" -C "$2"
    touch "$stamp"
    [[ -n ${KEEP_ARCHIVES:-} ]] || rm "$archive"
}

# clone URL COMMIT FOLDER PATTERN...: the files of a commit that match; no others are downloaded
clone() {
    local url=$1 commit=$2 folder=$3
    shift 3
    [[ -e $folder/.git/complete-$commit ]] && return
    echo "clone       $url"
    git init -q "$folder"
    git -C "$folder" config remote.origin.url "$url"
    git -C "$folder" sparse-checkout set --no-cone "$@"
    git -C "$folder" fetch -q --depth 1 --filter=blob:none origin "$commit"
    git -C "$folder" checkout -q "$commit"
    touch "$folder/.git/complete-$commit"
}

# spell: of words, one a line, the lines of a lexicon: `word<TAB>l e t t e r s |`; for letters of one byte
spell() {
    LC_ALL=C sort -u | awk 'NF {word = $1; gsub(/./, "& ", word); print $1 "\t" word "|"}'
}
