// The three programs of the article in C: the limit that ours are measured against.
//
//   programs value | pipe | queue
//
// The queue is a ring behind a mutex, and a semaphore counts what is in it: who must wait sleeps at
// once, by futex.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { COUNT = 1000000 };
#define END UINT64_MAX

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static pid_t spawn(void) {
    fflush(stdout); // or both processes print what is buffered
    pid_t pid = fork();
    must(pid >= 0, "fork");
    return pid;
}

static void join(pid_t pid) {
    int status;
    must(waitpid(pid, &status, 0) == pid && status == 0, "a child");
}

static void leave(void) {
    fflush(stdout);
    _exit(0);
}

static void *shared(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED, "mmap");
    return memory;
}

static void shared_mutex(pthread_mutex_t *mutex) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(mutex, &attributes);
}

static uint64_t count_to(uint64_t base) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < base; i++) {
        uint64_t one = 1;
        __asm__ volatile("" : "+r"(one)); // the compiler cannot know it, and keeps the loop
        total += one;
    }
    return total;
}

static void say(int name, uint64_t total) {
    printf("Process ID: %d, Process Name: %d\nResult: %lu\n", getpid(), name, total);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void value(void) {
    struct {
        pthread_mutex_t mutex;
        uint64_t count;
    } *value = shared(sizeof *value);
    shared_mutex(&value->mutex);
    pid_t children[9];
    for (int i = 0; i < 9; i++) {
        children[i] = spawn();
        if (children[i] == 0) {
            for (int turn = 0; turn < 50; turn++) {
                pthread_mutex_lock(&value->mutex);
                value->count++;
                pthread_mutex_unlock(&value->mutex);
            }
            printf("Process-%d data %lu\n", i + 1, value->count);
            leave();
        }
    }
    for (int i = 0; i < 9; i++)
        join(children[i]);
    printf("Final Data in parent process: %lu\n", value->count);
}

static void pipe_program(void) {
    int ends[2];
    double start = now();
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0, "socketpair");
    pid_t child = spawn();
    uint64_t total;
    if (child == 0) {
        total = count_to(COUNT);
        must(write(ends[1], &total, sizeof total) == sizeof total, "write");
        say(1, total);
        leave();
    }
    join(child);
    printf("--- %f seconds ---\n", now() - start);
    must(read(ends[0], &total, sizeof total) == sizeof total, "read");
    printf("Main-processing total count: %lu\n", total);
}

struct queue {
    pthread_mutex_t mutex;
    sem_t items;
    size_t head, tail;
    uint64_t slots[8]; // five totals and the end
};

static void put(struct queue *queue, uint64_t item) {
    pthread_mutex_lock(&queue->mutex);
    queue->slots[queue->tail++ % 8] = item;
    pthread_mutex_unlock(&queue->mutex);
    sem_post(&queue->items);
}

static uint64_t get(struct queue *queue) {
    while (sem_wait(&queue->items) == -1 && errno == EINTR) {
    }
    pthread_mutex_lock(&queue->mutex);
    uint64_t item = queue->slots[queue->head++ % 8];
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

static void queue_program(void) {
    double start = now();
    struct queue *queue = shared(sizeof *queue);
    shared_mutex(&queue->mutex);
    must(sem_init(&queue->items, 1, 0) == 0, "sem_init");
    pid_t children[5];
    for (int i = 0; i < 5; i++) {
        children[i] = spawn();
        if (children[i] == 0) {
            uint64_t total = count_to(COUNT);
            put(queue, total);
            say(i, total);
            leave();
        }
    }
    for (int i = 0; i < 5; i++)
        join(children[i]);
    printf("--- %f seconds ---\n", now() - start);
    put(queue, END);
    uint64_t total = 0;
    for (uint64_t item; (item = get(queue)) != END;)
        total += item;
    printf("\nMain-processing total count: %lu\n", total);
}

int main(int argc, char **argv) {
    const char *which = argc == 2 ? argv[1] : "";
    printf("Parent process id: %d\n", getpid());
    if (strcmp(which, "value") == 0)
        value();
    else if (strcmp(which, "pipe") == 0)
        pipe_program();
    else if (strcmp(which, "queue") == 0)
        queue_program();
    else
        return 2;
}
