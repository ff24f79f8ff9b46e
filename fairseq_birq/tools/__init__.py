"""What looks at data, labels, encoders and runs; one folder each."""
