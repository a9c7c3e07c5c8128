"""Runs inside a sandbox of level L2, standalone: opens the socket of the proxy, then becomes the
program.

    python -I -S shim.py DESCRIPTOR PORT PROGRAM [ARGUMENT...]

A socket belongs to the network in which it was created, whoever has its descriptor. So a listening
one is created in here, where the program expects the proxy, and is passed to Lorimer, which serves
it from outside: nothing else leads out, and nothing of ours stays in here.
"""

import os
import socket
import sys


def main() -> None:
    descriptor, port = int(sys.argv[1]), int(sys.argv[2])
    with (
        socket.socket(fileno=descriptor) as outside,
        socket.create_server(("127.0.0.1", port), backlog=128) as door,
    ):
        socket.send_fds(outside, [b"."], [door.fileno()])
    os.execvp(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
