"""What the operating system wants of a daemon: locks, signals, notification, logs, orderly children."""
