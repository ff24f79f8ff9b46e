"""What a step of training does, whichever trainer calls it: the doors to fairseq and to fairseq2 share these files."""
