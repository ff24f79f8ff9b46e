"""Whether a corpus that was made here is the one of our tables, file by file.

    python manifests/check.py mboshi OUT

manifests/<corpus>/sha256.txt has a line `digest  name` for each file that has text, and for the audio of each manifest, whose
digest is of every path, sample rate and 16-bit sample in the order of the rows: FLAC files may differ where their samples do not.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import soundfile

HERE = Path(__file__).resolve().parent
AUDIO = "audio of "


def digest(folder, name):
    """SHA-256 of a file, or of the audio of a manifest; None where something is missing."""
    path = folder / name.replace(AUDIO, "")
    if not path.is_file():
        return None
    return _digest_of_audio(path) if name.startswith(AUDIO) else hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_of_audio(manifest):
    total = hashlib.sha256()
    for row in manifest.read_text(encoding="utf-8").splitlines()[1:]:
        name = row.split("\t")[0]
        if not (manifest.parent / name).is_file():
            return None
        samples, rate = soundfile.read(str(manifest.parent / name), dtype="int16", always_2d=True)
        total.update(f"{name} {rate} {samples.shape}".encode())
        total.update(samples.astype("<i2").tobytes())
    return total.hexdigest()


def check(folder, expected):
    """(name, `the same`, `different` or `missing`) of every entry of expected: name -> digest."""
    for name, wanted in expected.items():
        found = digest(folder, name)
        yield name, "missing" if found is None else "the same" if found == wanted else "different"


def names_in(folder):
    """What sha256.txt lists of a folder: texts, and audio; of a language model the text alone, since its numbers are rounded."""
    texts = sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".arpa")
    return [*texts, *(f"{AUDIO}{name}" for name in texts if name.endswith(".tsv"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=["fsdd", "mboshi"])
    parser.add_argument("folder", type=Path, help="what prepare.sh made")
    parser.add_argument("--write", action="store_true", help="write sha256.txt from the folder instead")
    args = parser.parse_args()
    path = HERE / args.corpus / "sha256.txt"
    if args.write:
        path.write_text("".join(f"{digest(args.folder, name)}  {name}\n" for name in names_in(args.folder)), encoding="utf-8")
        return 0
    expected = {name: wanted for wanted, name in (line.split("  ", 1) for line in path.read_text().splitlines())}
    results = list(check(args.folder, expected))
    print("\n".join(f"{verdict:<12}{name}" for name, verdict in results))
    return int(any(verdict != "the same" for _, verdict in results))


if __name__ == "__main__":
    sys.exit(main())
