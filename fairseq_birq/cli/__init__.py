"""Console scripts: arguments in, one library call, readable errors out."""
