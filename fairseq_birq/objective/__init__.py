"""The papers: quantizer, soft codes, losses, heads, masking, and the health of codes."""
