"""Mboshi (github.com/besacier/mboshi-french-parallel-corpus): a Bantu language, 3 speakers, 16 kHz, with letters.

Layout: FOLDER is a clone, with

    full_corpus_newsplit/{train,dev}/<name>.wav and <name>.mb.cleaned
    forced_alignments_supervised_spkr/align-kit-old/{train,dev}/<name>.txt, for .phn
    forced_alignments_supervised_spkr/limsi-align/dev0.seg, for .limsi.phn

Written: `pool`, all of the corpus' train part that may be used for training; its part `pretrain`; of that the part `train`;
`dev` and `test`, of the corpus' dev part: the lists of manifests/mboshi. What these do not name is not read. The audio itself
as OUT/<speaker>/<number>.flac, the same samples; `.wrd`, `.ltr`, `.spk`, `.phn` (see mboshi_alignments) and of dev and test
.limsi.phn; of `pretrain` dict.ltr.txt, lexicon.txt and phones.txt; of `pool` the text for a language model, lm.txt, and
lexicon.lm.txt.

Sizes: of those lists.
"""

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Dict, List, Tuple

from fairseq_birq.corpora.helpers.collection import Collection, Utterance
from fairseq_birq.corpora.helpers.flac_copies import copy_all
from fairseq_birq.corpora.helpers.lists import read_rows
from fairseq_birq.corpora.helpers.mboshi_alignments import read_limsi, write_counts, write_letters, write_phones
from fairseq_birq.corpora.helpers.scanning import WORKERS, check_folder
from fairseq_birq.corpora.helpers.text_files import read_lines
from fairseq_birq.corpora.helpers.texts import write_lexicon, write_speakers
from fairseq_birq.corpora.helpers.writing import Expected, with_unions, write
from fairseq_birq.data.manifest import write_lines
from fairseq_birq.errors import UserError

CONTAINS = {"pool": ("pretrain", "train"), "pretrain": ("train",)}
UNIONS = {"pretrain": ("pretrain", "train"), "pool": ("pool", "pretrain")}  # in this order: pool takes the whole of pretrain
PART = {"pool": "train", "pretrain": "train", "train": "train", "dev": "dev", "test": "dev"}  # folder of the corpus
_SOURCE = "manifests/mboshi"
SIZES = {
    "pool": Expected(_SOURCE, 4490, 3.9),
    "pretrain": Expected(_SOURCE, 1431, 1.25),
    "train": Expected(_SOURCE, 386, 0.33),
    "dev": Expected(_SOURCE, 116, 0.1),
    "test": Expected(_SOURCE, 235, 0.2),
}


def add_arguments(parser) -> None:
    parser.add_argument("folder", help="a clone of the corpus' repository")


def make(
    folder: str,
    out: str,
    min_seconds: float = 0.0,
    max_seconds: float = float("inf"),
    workers: int = WORKERS,
) -> List[str]:
    """Write audio, manifests, transcripts and alignments of the five sets.

    Raises:
        UserError: the folder is not a clone of the corpus, a transcript is not UTF-8, or an alignment is malformed.
    """
    root = check_folder(folder)
    corpus = root / "full_corpus_newsplit"
    if not corpus.is_dir():
        raise UserError(f"{root}: no folder {corpus.name}/ in it; give a clone of the corpus' repository")
    collection = Collection(min_seconds, max_seconds)
    originals = _originals(corpus, collection)
    copies = copy_all({path: original for path, (_, original) in originals.items()}, out, collection, workers)
    for path, info in copies.infos.items():
        split, original = originals[path]
        collection.add(split, Utterance(path, info.num_samples, info.sample_rate, read_transcript(original)))
    lines = write(collection, out, ".", tuple(PART), UNIONS, SIZES, dictionary="pretrain")
    parts = with_unions(collection, UNIONS)
    write_speakers(out, parts)
    _write_words(out, parts)
    names = {path: originals[path][1].stem for path in copies.infos}
    _write_alignments(root / "forced_alignments_supervised_spkr", out, parts, names)
    return lines + [f"note        {len(copies.short)} files have fewer samples than their header says; what they have was taken"]


def _originals(corpus: Path, collection: Collection) -> Dict[str, Tuple[str, Path]]:
    """path of the copy -> (split, audio file) of every utterance of the list that the clone has."""
    originals = {}
    for row in read_rows("mboshi/utterances.tsv"):
        original = corpus / PART[row["split"]] / f"{row['original_name']}.wav"
        if original.is_file() and original.with_suffix(".mb.cleaned").is_file():
            originals[f"{row['utt_id']}.flac"] = (row["split"], original)
        else:
            collection.leave_out("utterance of the list without audio or transcript", str(original))
    return originals


def read_transcript(audio: Path) -> str:
    """The transcript beside an audio file, in Unicode's composed form, as the letters of the dictionary."""
    return unicodedata.normalize("NFC", " ".join(line for line, _ in read_lines(audio.with_suffix(".mb.cleaned"))))


def _write_words(out, parts):
    """Lexica, and the distinct sentences of `pool`, of which a language model may be made: none of dev and test is there."""
    texts = {split: [item.text for item in parts.get(split, [])] for split in ("pretrain", "pool")}
    write_lines(Path(out) / "lm.txt", dict.fromkeys(texts["pool"]))
    write_lexicon(Path(out) / "lexicon.txt", texts["pretrain"])
    write_lexicon(Path(out) / "lexicon.lm.txt", texts["pool"])


def _write_alignments(folder, out, parts, names):
    """names: path -> the corpus' name of the utterance"""
    for split, utterances in parts.items():
        paths = [item.path for item in utterances]
        files = [folder / "align-kit-old" / PART[split] / f"{names[path]}.txt" for path in paths]
        counts = write_letters(out, split, paths, files)
        if split == "pretrain":
            write_counts(Path(out) / "phones.txt", counts)
    phones, seg = Counter(), folder / "limsi-align" / "dev0.seg"
    table = read_limsi(seg, list(names.values())) if seg.is_file() else {}
    for split in ("dev", "test"):
        paths = [item.path for item in parts.get(split, [])]
        phones += write_phones(out, split, paths, [names[path] for path in paths], table)
    write_counts(Path(out) / "phones.limsi.txt", phones)
