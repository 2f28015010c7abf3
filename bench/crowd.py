"""Clients that cost little: thousands of connections a process, each with one request at a time, by epoll.

What is measured is the server, so a client looks at no more of an answer than it must to know where that ends. Times are those of the
system's monotonic clock, which all processes share.
"""

import collections
import multiprocessing
import select
import socket
import time

HEAD_END = b"\r\n\r\n"
# JSON has no bare line ends within strings, so this is in a chunked answer only where it ends.
LAST_CHUNK = b"\r\n0\r\n\r\n"
# What one call takes from a socket at most; no answer is kept, so all sockets of a process share the room.
ROOM = bytearray(256 << 10)


class Broken(Exception):
    """The server did not answer as HTTP has it."""


class Answer:
    """An answer as far as it has come in."""

    __slots__ = ("head", "left", "tail", "status")

    def __init__(self):
        self.head, self.left, self.tail, self.status = b"", None, b"", 0

    def take(self, data):
        """Takes more of it in; whether that was the last. `data` is only valid during the call."""
        if self.head is not None:
            self.head += data
            end = self.head.find(HEAD_END)
            if end < 0:
                return False
            data = self._begin(self.head[:end].lower(), self.head[end + len(HEAD_END) :])
        if self.left is not None:
            self.left -= len(data)
            return self.left <= 0
        self.tail = (self.tail + bytes(data[-len(LAST_CHUNK) :]))[-len(LAST_CHUNK) :]
        return self.tail.endswith(LAST_CHUNK)

    def _begin(self, head, rest):
        self.head, self.status = None, int(head[9:12])
        if b"transfer-encoding: chunked" in head:
            # The head's own line end is the first that a chunk can follow.
            self.tail = b"\r\n"
            return rest
        at = head.find(b"content-length:")
        if at < 0 and self.status == 200:
            raise Broken(head)
        self.left = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        return rest


def connect(address):
    sock = socket.create_connection(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def get(address, path):
    return f"GET {path} HTTP/1.1\r\nHost: {address[0]}\r\n\r\n".encode()


def put(address, path, body):
    return f"PUT {path} HTTP/1.1\r\nHost: {address[0]}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Exchange:
    """Connections of this process to one server, each with at most one request under way."""

    def __init__(self, address, connections):
        self.poll, self.socks, self.answers = select.epoll(), {}, {}
        for _ in range(connections):
            sock = connect(address)
            self.socks[sock.fileno()] = sock
            self.poll.register(sock.fileno(), select.EPOLLIN)

    def send(self, fd, request):
        # The answer before this one is complete, so what is written always fits into the socket's buffer, unless it is very large.
        self.answers[fd] = Answer()
        sent = self.socks[fd].send(request)
        if sent != len(request):
            raise Broken(f"{sent} of {len(request)} bytes of a request were taken")

    def completed(self, timeout):
        """Waits for a while, then yields those whose answer is complete, with its status and the time."""
        for fd, _ in self.poll.poll(timeout):
            read = self.socks[fd].recv_into(ROOM)
            answer = self.answers.get(fd)
            if read == 0 or answer is None:
                raise Broken(f"the server {'closed a connection' if read == 0 else 'said something unasked'}")
            if answer.take(memoryview(ROOM)[:read]):
                del self.answers[fd]
                yield fd, answer.status, time.monotonic()

    def close(self):
        for sock in self.socks.values():
            sock.close()
        self.poll.close()


class Watchers:
    """Many connections that wait for the same, shared out among a few processes. A context manager."""

    def __init__(self, address, connections, processes=2):
        self.workers = []
        for number in range(processes):
            share = connections // processes + (number < connections % processes)
            near, far = multiprocessing.Pipe()
            worker = multiprocessing.Process(target=_work, args=(far, address, share), daemon=True)
            worker.start()
            far.close()
            self.workers.append((worker, near))
        self._gather()

    def _gather(self):
        replies = []
        for _, pipe in self.workers:
            reply = pipe.recv()
            if isinstance(reply, Exception):
                raise reply
            replies.append(reply)
        return replies

    def _tell(self, *message):
        for _, pipe in self.workers:
            pipe.send(message)

    def ask_once(self, path):
        """Every connection asks for this and gets its answer."""
        self._tell("ask", path)
        self._gather()

    def watch(self, path):
        """Every connection asks for this, which is to take a while. Returns when all have asked."""
        self._tell("watch", path)
        self._gather()

    def collect(self, seconds):
        """When the answers were complete, sorted, and how many of them were no success. Waits until all are there, or so long."""
        self.begin_collecting(seconds)
        return self.end_collecting()

    def begin_collecting(self, seconds):
        """As `collect`, which `end_collecting` ends."""
        self._tell("collect", seconds)

    def end_collecting(self):
        times, failed = [], 0
        for some, bad in self._gather():
            times += some
            failed += bad
        return sorted(times), failed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A process inherits the pipes of those before it, so the end of a pipe is nothing that can be waited for.
        for _, pipe in self.workers:
            try:
                pipe.send(("leave", None))
            except OSError:
                pass
        for worker, _ in self.workers:
            worker.join()


def _work(pipe, address, connections):
    try:
        exchange = Exchange(address, connections)
        pipe.send(None)
        while True:
            what, argument = pipe.recv()
            if what == "leave":
                exchange.close()
                return
            pipe.send(_do(exchange, address, what, argument))
    except Exception as error:  # whatever it is, the main process tells it
        pipe.send(Broken(repr(error)))


def _do(exchange, address, what, argument):
    if what != "collect":
        request = get(address, argument)
        waiting = list(exchange.socks)
        # Some at a time: what is measured is not how a server takes a burst of thousands.
        while waiting:
            some, waiting = waiting[:200], waiting[200:]
            for fd in some:
                exchange.send(fd, request)
            if what == "ask":
                _drain(exchange, time.monotonic() + 60)
                if exchange.answers:
                    raise Broken(f"no answer to {argument} within a minute")
            else:
                time.sleep(0.005)
        return None
    times, failed = [], 0
    for status, at in _drain(exchange, time.monotonic() + argument):
        times.append(at)
        failed += status != 200
    return times, failed


def _drain(exchange, deadline):
    taken = []
    while exchange.answers and (left := deadline - time.monotonic()) > 0:
        taken += [(status, at) for _, status, at in exchange.completed(left)]
    return taken


def closed_loop(address, requests, connections):
    """Sends all requests, the next on each connection as soon as the last is answered. Returns how long that took, in seconds."""
    exchange, started = Exchange(address, connections), time.monotonic()
    requests, busy = iter(requests), 0
    for fd in exchange.socks:
        if (request := next(requests, None)) is not None:
            exchange.send(fd, request)
            busy += 1
    while busy:
        for fd, status, _ in exchange.completed(60):
            if status != 200:
                raise Broken(f"status {status}")
            if (request := next(requests, None)) is None:
                busy -= 1
            else:
                exchange.send(fd, request)
    took = time.monotonic() - started
    exchange.close()
    return took


def paced(address, requests, rate, seconds, connections=32):
    """Sends `rate` requests a second, whether or not those before are answered. Returns how long each took from the moment it was due, in
    seconds, sorted: a server that stalls is charged for all who would have come meanwhile.
    """
    exchange, latencies, due_of = Exchange(address, connections), [], {}
    free, waiting = collections.deque(exchange.socks), collections.deque()
    started, sent, total = time.monotonic(), 0, int(rate * seconds)
    while sent < total or waiting or due_of:
        now = time.monotonic()
        while sent < total and started + sent / rate <= now:
            waiting.append(started + sent / rate)
            sent += 1
        while free and waiting:
            fd = free.popleft()
            due_of[fd] = waiting.popleft()
            exchange.send(fd, next(requests))
        pause = max(0.0, started + sent / rate - time.monotonic()) if sent < total else 60
        for fd, status, at in exchange.completed(pause):
            if status != 200:
                raise Broken(f"status {status}")
            latencies.append(at - due_of.pop(fd))
            free.append(fd)
        if now > started + seconds + 120:
            raise Broken(f"{len(due_of)} requests were not answered within two minutes")
    exchange.close()
    return sorted(latencies)


def quantile(values, share):
    """The value that this share of the sorted values does not exceed."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")
