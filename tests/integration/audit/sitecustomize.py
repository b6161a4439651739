"""Put on the path of a child process, writes down every address it looks up or connects to, of any of its libraries."""

import os
import sys

_LOG = os.environ.get("AUDIT_LOG")


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        address = arguments[0] if event.startswith("socket.get") else arguments[1]
        with open(str(_LOG), "a") as log:
            log.write(f"{event} {address!r}\n")


if _LOG:
    sys.addaudithook(_note)
