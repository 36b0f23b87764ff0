"""The worker process: one room, one mailbox, one attempt at a time."""
