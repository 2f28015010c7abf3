"""A relay in front of an agent's API, which can come between it and its clients."""

import contextlib
import socket
import threading


class Relay:
    """Passes on what comes in at a port of its own. A context manager."""

    def __init__(self, agent):
        self.target = (agent.ip, 8500)
        self.lock, self.open, self.answer = threading.Lock(), set(), None
        self.listener = socket.create_server((agent.ip, 0))
        self.address = f"{agent.ip}:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Closes all connections, and from now on every one that comes, before anything is answered."""
        self._fall_between(b"")

    def fail(self, status, text):
        """Closes all connections, and answers every request from now on with this."""
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        self._fall_between((head + text).encode())

    def mend(self):
        """Passes on what comes from now on."""
        with self.lock:
            self.answer = None

    def _fall_between(self, answer):
        with self.lock:
            self.answer, closing = answer, list(self.open)
        for sock in closing:
            # Whoever reads from it sees its end.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            with self.lock:
                answer = self.answer
                if answer is None:
                    self.open.add(client)
            if answer is None:
                self._pass_on(client)
            elif answer:
                # None of the requests that come through here is long.
                client.recv(1 << 16)
                client.sendall(answer)

    def _pass_on(self, client):
        try:
            with socket.create_connection(self.target) as agent:
                back = threading.Thread(target=_pump, args=(agent, client), daemon=True)
                back.start()
                _pump(client, agent)
                back.join()
        finally:
            with self.lock:
                self.open.discard(client)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.cut()


def _pump(source, sink):
    """Passes on what one side says, until it ends; then so does the other."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
