"""A child of the fork server that is ready at once, and waits for its end: what `spawn` compares with."""

from multiprocessing.connection import Connection


def main(connection: Connection) -> None:
    """Answer, and wait."""
    connection.send_bytes(b"ready")
    try:
        connection.recv_bytes()
    except EOFError:
        return
