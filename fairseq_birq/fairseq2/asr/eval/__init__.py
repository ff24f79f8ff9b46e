"""Recipe: word and character error rate. `python -m fairseq_birq.fairseq2.asr.eval OUTPUT_DIR --config KEY=VALUE`."""
