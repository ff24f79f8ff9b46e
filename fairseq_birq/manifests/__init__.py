"""Corpora: one file each, with one line here. `make(out, options)` writes manifests for fairseq into a folder."""

from fairseq_birq.manifests import demo

CORPORA = {
    "demo": demo.make,
}
