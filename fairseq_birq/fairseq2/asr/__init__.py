"""Recipe: CTC fine-tuning. `python -m fairseq_birq.fairseq2.asr OUTPUT_DIR --config-file FILE --config KEY=VALUE`."""
