"""What transformers loads of an exported log-Mel Conformer (`trust_remote_code`); nothing else imports these files."""
