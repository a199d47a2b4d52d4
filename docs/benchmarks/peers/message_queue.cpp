// Boost.Interprocess: one process sends numbers of 8 bytes through a message_queue to another.
//
//   message_queue NUMBER_OF_MESSAGES     prints the seconds it took
//   message_queue --version              prints Boost's version
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace ipc = boost::interprocess;

int main(int argc, char **argv) {
    if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
        std::printf("%s\n", BOOST_LIB_VERSION);
        return 0;
    }
    const std::uint64_t n = std::strtoull(argc == 2 ? argv[1] : "0", nullptr, 10);
    const std::string name = "benchmarks-" + std::to_string(getpid());
    ipc::message_queue queue(ipc::create_only, name.c_str(), 1024, sizeof(std::uint64_t));
    ipc::message_queue::remove(name.c_str()); // both processes have it already

    void *page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        std::perror("mmap");
        return 1;
    }
    auto *gate = new (page) std::atomic<int>(0);
    const pid_t child = fork();
    if (child == 0) {
        gate->store(1);
        while (gate->load() != 2) {
        }
        for (std::uint64_t k = 0; k < n; k++)
            queue.send(&k, sizeof k, 0);
        _exit(0);
    }
    while (gate->load() != 1) {
        usleep(100);
    }
    gate->store(2);
    const auto start = std::chrono::steady_clock::now();
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < n; i++) {
        std::uint64_t k;
        ipc::message_queue::size_type length;
        unsigned priority;
        queue.receive(&k, sizeof k, length, priority);
        sum += k;
    }
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0 || sum != n * (n - 1) / 2) {
        std::fprintf(stderr, "wrong sum, or the child failed\n");
        return 1;
    }
    std::printf("%.9f\n", time.count());
}
