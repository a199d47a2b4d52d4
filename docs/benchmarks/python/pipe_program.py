"""The job of the article's "Pipe": a child counts to a million and sends the total."""

from multiprocessing import Pipe, Process, current_process, set_start_method
from os import getpid
from time import perf_counter

COUNT = 1_000_000


def count(connection):
    total = 0
    for _ in range(COUNT):
        total += 1
    connection.send(total)
    connection.close()
    print(f"Process ID: {getpid()}, Process Name: {current_process().name}\nResult: {total}")


if __name__ == "__main__":
    set_start_method("fork")
    print(f"Parent process id: {getpid()}")
    begin = perf_counter()
    ours, theirs = Pipe()
    counter = Process(target=count, args=[theirs], name="1")
    counter.start()
    counter.join()
    print(f"--- {perf_counter() - begin} seconds ---")
    print(f"Main-processing total count: {ours.recv()}")
