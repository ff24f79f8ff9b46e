"""What several corpora need: scanning, transcripts, writing."""
