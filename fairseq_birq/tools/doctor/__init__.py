"""birq-doctor: would this run start here, and with how much memory? One file per kind of check."""
