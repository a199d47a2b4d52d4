"""The job of the article's "Sharing State": nine processes add 1 fifty times each."""

from multiprocessing import Process, Value, current_process, set_start_method
from os import getpid

WORKERS = 9
INCREMENTS = 50


def add(shared):
    for _ in range(INCREMENTS):
        with shared.get_lock():  # over the read and the write, or additions get lost
            shared.value += 1
    print(f"{current_process().name} data {shared.value}")


if __name__ == "__main__":
    set_start_method("fork")
    print(f"Parent Process ID: {getpid()}")
    counter = Value("q", 0)
    adders = [Process(target=add, args=[counter]) for _ in range(WORKERS)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    print(f"Final Data in parent process: {counter.value}")
