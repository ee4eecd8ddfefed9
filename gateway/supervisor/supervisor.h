/* The process that `weir run` starts: owns the listening sockets, starts the worker that serves, starts another when it
 * dies, and becomes the new binary on upgrades. One thread, no libh2o loop, no bytes from the network. */
#pragma once
#include <sys/types.h>
#include "gateway/supervisor/inventory.h"
#include "gateway/supervisor/supervised.h"

/* A worker has this much time beyond what it was given before it counts as stuck. */
enum { GW_KILL_GRACE_MS = 10 * 1000 };

enum gw_child_state {
    GW_CHILD_STARTING, /* loads */
    GW_CHILD_SERVING,  /* the active one, but for the moment of an upgrade when there are two */
    GW_CHILD_DRAINING, /* finishes what it has */
};

/* What a worker leaves to the one after it. */
struct gw_legacy {
    int kept;  /* memory file with what its configuration was made from; -1: none */
    uid_t uid; /* whose worker has written it */
    gid_t gid;
};

struct gw_child {
    pid_t pid;
    int orders, sockets; /* our ends; -1: it closed its own */
    enum gw_child_state state;
    bool is_upgrade;                 /* of the new binary */
    bool is_given_up;                /* its upgrade failed: how it ends is no news */
    bool has_ended;                  /* reaped: what is read are its last words */
    bool is_hung;                    /* killed for its silence */
    bool has_flows;                  /* it drains by itself, and nobody has taken its flows yet */
    uint64_t started_ms;             /* monotonic */
    uint64_t kill_at_ms;             /* monotonic; 0: never */
    uint64_t heard_ms, suspected_ms; /* monotonic: supervisor_watch.c */
    char *failed_for;                /* why its first load failed, in its words; NULL: it has not said; owned */
    struct gw_ready ready;
    struct gw_legacy legacy; /* until it is the active one */
};

struct gw_supervisor {
    char **argv;             /* to start ourselves with */
    const char *config_path; /* in argv */
    char *binary;            /* where an upgrade looks for the new one; owned */
    int self; /* descriptor of the binary that runs: workers are of the same version even if the file changes */
    struct gw_inventory inventory;
    struct gw_child **children;
    size_t num_children;
    struct gw_child *active; /* in children; NULL: none serves */
    struct gw_child *next;   /* in children; NULL: none is being started */
    uint64_t started_ms;     /* wall clock; kept over upgrades */
    uint64_t restarts;
    uint64_t generation;          /* the last that served */
    struct gw_legacy legacy;      /* of the active worker, or of the last one */
    char tickets[GW_PACKET_TEXT]; /* session ticket keys of the worker that spoke last */
    uint64_t restart_at_ms;       /* monotonic; 0: no restart is waiting */
    uint64_t restart_delay_ms;    /* of the next worker that dies young */
    uint64_t upgrade_timeout_ms;  /* of the last worker that served */
    uint64_t alive_every_ms;      /* systemd is told; 0: it does not ask */
    uint64_t alive_at_ms;         /* monotonic */
    bool has_served, is_stopping, is_in_haste, is_over;
    int status; /* to exit with */
    struct {
        bool is_running;
        bool is_wanted;       /* as soon as the worker that is being started serves or dies */
        int binary;           /* descriptor of the new one */
        pid_t asked_by;       /* worker that wants an answer; 0: a signal asked */
        uint64_t deadline_ms; /* monotonic */
        char version[32];     /* of the new one, as its worker says */
    } upgrade;
};

/* `weir run` without --no-supervise: argv as main() got it, config_path in it. Returns the exit status. */
int gw_supervisor_run(char **argv, const char *config_path);

/* How long to wait before the next start after a worker that lived for lived_ms; *delay_ms is the state, 0 at first. */
uint64_t gw_supervisor_back_off(uint64_t *delay_ms, uint64_t lived_ms);

/* supervisor.c: an order; one that cannot be given is logged. NULL child: nobody is told. */
void gw_supervisor_tell(struct gw_child *, enum gw_packet_type, uint64_t number0, uint64_t number1, const char *text);

/* supervisor.c: what is due by now; what a child has said before counts first. */
void gw_supervisor_run_timers(struct gw_supervisor *);

/* supervisor_reports.c: who has flows that the next worker is to take over; NULL: nobody. Both are told how. */
struct gw_child *gw_supervisor_find_giver(const struct gw_supervisor *);
void gw_supervisor_hand_flows(struct gw_child *giver, struct gw_child *taker);

/* supervisor_reports.c: a packet of a worker. Descriptors that are taken from it are no longer in it. */
void gw_supervisor_on_report(struct gw_supervisor *, struct gw_child *, struct gw_packet *);
void gw_supervisor_on_question(struct gw_supervisor *, struct gw_child *, struct gw_packet *);

/* supervisor_child.c: starting and ending of children */
struct gw_child *gw_child_start(struct gw_supervisor *, bool is_upgrade, bool is_replacement);
void gw_child_forget(struct gw_supervisor *, struct gw_child *);
/* Takes the memory file (-1: there is none). */
void gw_legacy_take(struct gw_legacy *, int kept, uid_t, gid_t);
/* "was killed by signal 9 (Killed)" */
void gw_child_describe_end(int wait_status, char *text, size_t size);
