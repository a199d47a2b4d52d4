"""The job of the article's "Queue": five children count to a million, the parent adds it up."""

from multiprocessing import Process, Queue, current_process, set_start_method
from os import getpid
from time import perf_counter

WORKERS = 5
COUNT = 1_000_000


def count(totals):
    total = 0
    for _ in range(COUNT):
        total += 1
    totals.put(total)
    print(f"Process ID: {getpid()}, Process Name: {current_process().name}\nResult: {total}")


if __name__ == "__main__":
    set_start_method("fork")
    print(f"Parent process id: {getpid()}")
    begin = perf_counter()
    totals = Queue()
    counters = [Process(target=count, args=[totals], name=str(i)) for i in range(WORKERS)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join()
    print(f"--- {perf_counter() - begin} seconds ---")
    totals.put(None)
    print(f"\nMain-processing total count: {sum(iter(totals.get, None))}")
