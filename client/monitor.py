"""What libzmq reports of a socket's one connection: that it has ended, or did not come about."""

import sys

import zmq

from fetchd.protocol.ids import new_request_id

ENDS = (
    zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)  # fmt: skip


class Monitor:
    """Watches a socket from before it is connected until `close`, which comes before the socket's own.

    `socket` is readable when there is something in `ends`.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", watched: "zmq.Socket[bytes]") -> None:
        self._watched = watched
        address = f"inproc://fetchd-monitor-{new_request_id()}"
        watched.monitor(address, ENDS)
        self.socket = context.socket(zmq.PAIR)
        self.socket.linger = 0
        self.socket.connect(address)

    def ends(self) -> list[int]:
        """The events that have been reported since, all of `ENDS`."""
        found: list[int] = []
        while True:
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return found
            found.append(int.from_bytes(frames[0][:2], sys.byteorder))

    def close(self) -> None:
        """Watch no more."""
        self._watched.disable_monitor()
        self.socket.close()
