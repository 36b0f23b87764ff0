"""The daemon: a supervisor that decides and isolated workers that fetch."""
