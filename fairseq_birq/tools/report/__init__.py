"""One HTML page about a run: what it was, whether its curves and labels are healthy, what came out of it."""
