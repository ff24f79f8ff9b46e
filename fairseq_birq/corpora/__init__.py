"""Corpora: one file each, with one line here.

A corpus has a docstring that says which layout it reads, where its published sizes are from and what it writes;
`add_arguments(parser)`; and `make(out=..., ...)`, which writes manifests for fairseq into a folder and returns lines for a
terminal. Its splits share no audio, except that `CONTAINS`, if it has one, says which are parts of others.
"""

from pathlib import Path
from typing import List, Optional

from fairseq_birq.corpora import ami, audio_folder, fsdd, kaldi, lhotse, libri_light, librispeech, mboshi, yodas
from fairseq_birq.corpora.helpers.zip_shards import pack

CORPORA = {
    "ami": ami,
    "audio_folder": audio_folder,
    "fsdd": fsdd,
    "kaldi": kaldi,
    "lhotse": lhotse,
    "libri_light": libri_light,
    "librispeech": librispeech,
    "mboshi": mboshi,
    "yodas": yodas,
}


def make(corpus: str, out: str, pack_zip: Optional[float] = None, **options) -> List[str]:
    """Write the manifests of a corpus into `out`; with `pack_zip` also its audio in zips, into `out`/zips.

    pack_zip: at most so many gigabytes in a zip

    Returns:
        Lines that say what was found, left out and written.

    Raises:
        UserError: what the corpus and `zip_shards.pack` say.
    """
    lines = CORPORA[corpus].make(out=out, **options)
    if pack_zip is not None:
        for manifest in sorted(Path(out).glob("*.tsv")):
            lines += pack(manifest, Path(out) / "zips", pack_zip)
    return lines
