"""How bytes get from a URL into a workspace. Runs in the worker, knows nothing of the daemon."""
