/* Preloaded into a gateway (LD_PRELOAD, tests/bench/attack): how long each turn of its loops takes, from the return of
 * epoll_wait to the next call, in CPU time of the thread, so that other guests of the machine do not count. Into the
 * file that WEIR_TURNS names, which the one who measures reads, and fills with zeros to begin anew. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Bin i counts turns of i * STEP_US and more, the last one all that are longer. */
enum { NUM_SLOTS = 8, NUM_BINS = 2000, STEP_US = 20 };
struct slot {
    uint64_t thread; /* its number; 0: free */
    uint64_t longest_ns, total_ns;
    uint64_t bins[NUM_BINS];
};

static struct slot *slots;
static int (*real_wait)(int, struct epoll_event *, int, int);
static _Thread_local struct slot *mine;
static _Thread_local uint64_t began_ns;

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WEIR_TURNS");
    int fd = path != NULL ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;

    *(void **)&real_wait = dlsym(RTLD_NEXT, "epoll_wait");
    if (fd == -1 || ftruncate(fd, sizeof(struct slot) * NUM_SLOTS) != 0)
        return;
    slots = mmap(NULL, sizeof(struct slot) * NUM_SLOTS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (slots == MAP_FAILED)
        slots = NULL;
}

static struct slot *find_slot(void)
{
    uint64_t self = (uint64_t)syscall(SYS_gettid);
    for (int i = 0; i != NUM_SLOTS; ++i) {
        uint64_t none = 0;
        if (atomic_compare_exchange_strong((_Atomic uint64_t *)&slots[i].thread, &none, self) || none == self)
            return &slots[i];
    }
    return NULL;
}

static void count(struct slot *slot, uint64_t took_ns)
{
    uint64_t bin = took_ns / 1000 / STEP_US;
    slot->total_ns += took_ns;
    if (took_ns > slot->longest_ns)
        slot->longest_ns = took_ns;
    ++slot->bins[bin < NUM_BINS ? bin : NUM_BINS - 1];
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
    if (slots == NULL)
        return real_wait(fd, events, max, timeout_ms);
    if (began_ns != 0 && (mine != NULL || (mine = find_slot()) != NULL))
        count(mine, cpu_ns() - began_ns);
    int n = real_wait(fd, events, max, timeout_ms);
    began_ns = cpu_ns();
    return n;
}
