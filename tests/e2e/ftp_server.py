"""As much of an FTP server (RFC 959) as a passive transfer takes: `python3 ftp_server.py ADDRESS PORT BYTES`.

It runs on a host of the lab, serves one client the file of that many bytes, and prints the client's address.
"""

import socket
import sys


def serve(address: str, port: int, size: int) -> None:
    """Serve one client to the end of its session."""
    with socket.create_server((address, port)) as server:
        connection, peer = server.accept()
    with connection, connection.makefile("rw", newline="\r\n") as talk:

        def say(line: str) -> None:
            talk.write(line + "\n")
            talk.flush()

        passive: socket.socket | None = None
        say("220 ready")
        for line in talk:
            verb = line.split()[0].upper()
            if verb == "PASV":
                passive = socket.create_server((address, 0))
                high, low = divmod(passive.getsockname()[1], 256)
                say(f"227 Entering Passive Mode ({address.replace('.', ',')},{high},{low})")
            elif verb == "RETR" and passive is not None:
                say("150 coming")
                with passive, passive.accept()[0] as stream:
                    stream.sendall(bytes(size))
                say("226 done")
            elif verb == "QUIT":
                say("221 bye")
                break
            else:
                say({"USER": "230 welcome", "TYPE": "200 binary", "CWD": "250 there"}.get(verb, "502 not here"))
    print(peer[0], flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
