"""Runs inside a sandbox of level L2, by itself: opens the door to the proxy, then becomes the
program.

    python -I -S shim.py DESCRIPTOR PORT PROGRAM [ARGUMENT...]

A socket belongs to the network that it was made in, whoever has its descriptor. So a listening one
is made in here, where the program will look for the proxy, and is handed to Lorimer, which
answers on it from outside: nothing else leads out, and nothing of ours stays in here.
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
