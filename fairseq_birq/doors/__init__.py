"""What registers with fairseq, and only translates."""
