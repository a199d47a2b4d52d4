"""One primitive of multiprocessing at work: prints the seconds that N operations took.

    python3 primitives.py spawn | counter1 | counter2 | counter9 | exchange | pipe | queue N

The clock runs from when all processes are ready; what they did is checked.
"""

import multiprocessing as mp
import sys
from time import perf_counter


def nothing():
    pass


def spawn(n):
    begin = perf_counter()
    for _ in range(n):
        child = mp.Process(target=nothing)
        child.start()
        child.join()
        assert child.exitcode == 0
    return perf_counter() - begin


def timed(n, receive, children):
    """The time that n calls of `receive` take, beginning with the children; checks their sum."""
    gate = mp.Barrier(len(children) + 1)
    processes = [mp.Process(target=child, args=[gate, *more]) for child, *more in children]
    for process in processes:
        process.start()
    gate.wait()
    begin = perf_counter()
    total = receive()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    took = perf_counter() - begin
    assert total == n, f"{total} instead of {n}"
    return took


def add(gate, value, times):
    gate.wait()
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def counter(processes, n):
    value = mp.Value("q", 0)
    took = timed(0, int, [(add, value, n // processes)] * processes)
    assert value.value == n, f"{value.value} instead of {n}"
    return took


def echo(gate, connection, times):
    gate.wait()
    for _ in range(times):
        connection.send(connection.recv())


def exchange(n):
    here, there = mp.Pipe()

    def call(k):
        here.send(k)
        return here.recv() == k

    return timed(n, lambda: sum(map(call, range(n))), [(echo, there, n)])


def feed(gate, put, times):
    gate.wait()
    for k in range(times):
        put(k)


def pipe(n):
    receiver, sender = mp.Pipe(duplex=False)
    in_order = lambda: sum(receiver.recv() == k for k in range(n))
    return timed(n, in_order, [(feed, sender.send, n)])


def queue(n):
    q = mp.Queue()
    in_order = lambda: sum(q.get() == k for k in range(n))
    return timed(n, in_order, [(feed, q.put, n)])


if __name__ == "__main__":
    mp.set_start_method("fork")
    work = {
        "spawn": spawn,
        "counter1": lambda n: counter(1, n),
        "counter2": lambda n: counter(2, n),
        "counter9": lambda n: counter(9, n),
        "exchange": exchange,
        "pipe": pipe,
        "queue": queue,
    }
    print(work[sys.argv[1]](int(sys.argv[2])))
