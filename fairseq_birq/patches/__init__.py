"""What mends fairseq's runs: whole checkpoint files, careful resuming, preemption, updates that are not finite."""
