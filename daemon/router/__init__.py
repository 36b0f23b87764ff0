"""The loop, and everything that talks through its sockets."""
