/* Preloaded into a gateway that runs under callgrind (tests/bench/instructions), which makes it some fifty times
 * slower: its monotonic clock goes as much slower, so that turns of the loop seem as long to it as they are without
 * callgrind. Else it would find each request to take long, and measure and divide its work as it does under an attack.
 */
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SLOWER = 50 };

static int64_t read_ns(clockid_t id)
{
    struct timespec t = {0};
    syscall(SYS_clock_gettime, id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    static int64_t began_ns;
    int64_t ns = read_ns(id);

    if (id == CLOCK_MONOTONIC) {
        if (began_ns == 0)
            began_ns = ns;
        ns = began_ns + (ns - began_ns) / SLOWER;
    }
    *t = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    return 0;
}
