"""From manifests and audio files to padded batches of waveforms."""
