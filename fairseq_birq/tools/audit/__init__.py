"""What a quantizer's codes are worth, before training."""
