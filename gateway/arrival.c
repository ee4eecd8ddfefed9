/* From an accepted socket to whoever serves it: caps, the PROXY header of a balancer, the TLS handshake. A plain
 * connection without all that passes through in one call and allocates nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <openssl/err.h>
#include "gateway/base/log.h"
#include "gateway/http/socket.h"
#include "gateway/l4/l4.h"
#include "gateway/worker.h"

/* A connection that has to say more before it can be served. */
struct arrival {
    struct gw_acceptor *accept;
    struct gw_held_snapshot *held; /* its listener is in use */
    const struct gw_snapshot_listener *listener;
    h2o_socket_t *sock;
    struct gw_peer peer;
    struct gw_timer timer;
    h2o_linklist_t link;  /* in worker->handshakes */
    h2o_linklist_t hello; /* in worker->hellos or hellos_behind: its first bytes are there */
};

static void serve_http(struct gw_server *server, h2o_socket_t *sock, const struct gw_peer *peer, uint32_t protocols)
{
    if (__builtin_expect((protocols & 1 << GW_PROTOCOL_H2) == 0, 1))
        gw_http1_serve(server, sock, peer, false);
    else if ((protocols & 1 << GW_PROTOCOL_HTTP1) == 0 || (sock->ssl != NULL && tls_chose_h2(gw_socket_ssl(sock))))
        gw_http2_serve(server, sock, peer);
    else /* plain: the first bytes will tell */
        gw_http1_serve(server, sock, peer, sock->ssl == NULL);
}

/* listener: of the configuration that is held, which it was accepted under. */
static void serve(struct gw_acceptor *accept, h2o_socket_t *sock, const struct gw_peer *peer,
                  struct gw_held_snapshot *held, const struct gw_snapshot_listener *listener)
{
    if (listener->l4 != NULL)
        gw_l4_serve(accept->worker, sock, peer, held, listener);
    else
        serve_http(&accept->worker->server, sock, peer, listener->conf->protocols);
}

/* ---- the end of connections ---- */

void gw_arrival_left(struct gw_worker *worker, const struct gw_ip *ip, bool is_counted)
{
    gw_count(&worker->stats.connections, (uint64_t)-1);
    __atomic_fetch_sub((int64_t *)&worker->process->num_connections, 1, __ATOMIC_RELAXED);
    if (__builtin_expect(is_counted, 0))
        gw_gate_leave(worker->process->gate, ip, gw_now_us());
}

/* Not served: the peer's facts go with it. */
static void drop(struct gw_worker *worker, h2o_socket_t *sock, struct gw_peer *peer)
{
    gw_arrival_left(worker, &peer->ip, peer->is_counted);
    gw_peer_facts_destroy(peer->facts);
    h2o_socket_close(sock);
}

void gw_arrival_count_refusal(struct gw_worker *worker, enum gw_reason reason, const struct gw_ip *peer,
                              const char *detail)
{
    char ip[46] = "a client";

    gw_count(&worker->stats.refused_by[reason], 1);
    if (peer != NULL)
        gw_ip_format(peer, ip);
    gw_log(GW_LOG_WARNING, "accept", "connection from %s refused: %s%s%s", ip, gw_reason_info(reason)->code,
           detail != NULL ? ": " : "", detail != NULL ? detail : "");
}

/* A reset, so that a flood of those leaves nothing in the kernel. */
static void refuse(struct gw_worker *worker, h2o_socket_t *sock, struct gw_peer *peer, enum gw_reason reason,
                   const char *detail)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};

    gw_arrival_count_refusal(worker, reason, &peer->ip, detail);
    setsockopt(h2o_socket_get_fd(sock), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    drop(worker, sock, peer);
}

/* ---- arrivals ---- */

static struct arrival *create(struct gw_acceptor *accept, h2o_socket_t *sock, const struct gw_peer *peer,
                              void (*on_timeout)(struct gw_timer *), uint64_t within_ms)
{
    struct gw_worker *worker = accept->worker;
    struct arrival *arrival = h2o_mem_alloc(sizeof(*arrival));

    *arrival = (struct arrival){.accept = accept,
                                .held = worker->held,
                                .listener = &worker->held->snapshot->listeners[accept->listener],
                                .sock = sock,
                                .peer = *peer};
    ++arrival->held->uses;
    ++worker->num_handshakes;
    h2o_linklist_insert(&worker->handshakes, &arrival->link);
    gw_timer_init(&arrival->timer, on_timeout);
    gw_timer_arm(worker->thread.wheel, &arrival->timer, gw_thread_now(&worker->thread) + within_ms);
    sock->data = arrival;
    return arrival;
}

/* Gives its peer back. */
static struct gw_peer end(struct arrival *arrival)
{
    struct gw_worker *worker = arrival->accept->worker;
    struct gw_peer peer = arrival->peer;

    gw_timer_disarm(&arrival->timer);
    gw_held_snapshot_release(worker, arrival->held);
    h2o_linklist_unlink(&arrival->link);
    if (h2o_linklist_is_linked(&arrival->hello))
        h2o_linklist_unlink(&arrival->hello);
    --worker->num_handshakes;
    free(arrival);
    return peer;
}

/* ---- TLS handshakes ---- */

static void count_failure(struct gw_worker *worker, enum tls_failure failure)
{
    gw_count(&worker->stats.handshake_failures, 1);
    gw_count(&worker->stats.handshake_failures_by[failure], 1);
}

static bool is_about_client_certificate(enum tls_failure failure)
{
    return failure >= TLS_FAILURE_CLIENT_CERT_MISSING && failure <= TLS_FAILURE_CLIENT_CERT_INVALID;
}

/* Where OpenSSL gave up, its queue of errors holds this handshake's alone: it is emptied at every step of one. */
static enum tls_failure failure_of(const char *err, SSL *ssl)
{
    bool is_gone = err == h2o_socket_error_closed || err == h2o_socket_error_io;
    enum tls_failure failure = is_gone ? TLS_FAILURE_CLOSED : tls_failure_of(ERR_peek_error());
    if (!is_gone && ssl != NULL && SSL_get_verify_result(ssl) != X509_V_OK) /* errors of its parts come first */
        failure = tls_failure_of_verification(SSL_get_verify_result(ssl));
    ERR_clear_error();
    return failure;
}

/* Somebody who was meant to be let in may be asking why he is not. */
static void log_client_certificate(enum tls_failure failure, const struct gw_peer *peer, SSL *ssl)
{
    char ip[46], who[512] = "";
    long result = ssl != NULL ? SSL_get_verify_result(ssl) : X509_V_OK;

    gw_ip_format(&peer->ip, ip);
    if (ssl != NULL)
        tls_client_certificate_describe(ssl, who, sizeof(who));
    gw_log(GW_LOG_WARNING, "tls", "client certificate of %s refused: %s%s%s%s%s", ip, tls_failure_name(failure),
           result != X509_V_OK ? ": " : "", result != X509_V_OK ? X509_verify_cert_error_string(result) : "",
           who[0] != '\0' ? "; " : "", who);
}

static void note_certificate(struct gw_peer *peer, SSL *ssl)
{
    struct tls_client_certificate *certificate = tls_client_certificate_create(ssl);

    if (__builtin_expect(certificate == NULL, 1))
        return;
    struct gw_peer_facts *facts = gw_peer_facts(peer);
    facts->certificate = certificate;
    facts->destroy_certificate = tls_client_certificate_destroy;
    facts->notes[GW_PEER_NOTE_client_cert_subject] = certificate->subject;
    facts->notes[GW_PEER_NOTE_client_cert_issuer] = certificate->issuer;
    facts->notes[GW_PEER_NOTE_client_cert_serial] = certificate->serial;
    facts->notes[GW_PEER_NOTE_client_cert_validity] = certificate->validity;
    facts->notes[GW_PEER_NOTE_client_cert_fingerprint] = certificate->fingerprint;
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct arrival *arrival = sock->data;
    struct gw_acceptor *accept = arrival->accept;
    struct gw_worker *worker = accept->worker;
    const struct gw_snapshot_listener *listener = arrival->listener;
    struct gw_held_snapshot *held = arrival->held;

    ++held->uses; /* the listener is needed a moment longer than the arrival */
    struct gw_peer peer = end(arrival);
    if (err != NULL) {
        enum tls_failure failure = failure_of(err, gw_socket_ssl(sock));
        count_failure(worker, failure);
        if (is_about_client_certificate(failure))
            log_client_certificate(failure, &peer, gw_socket_ssl(sock));
        drop(worker, sock, &peer);
    } else {
        gw_count(&worker->stats.handshakes, 1);
        note_certificate(&peer, gw_socket_ssl(sock));
        serve(accept, sock, &peer, held, listener);
    }
    gw_held_snapshot_release(worker, held);
}

static void on_handshake_timeout(struct gw_timer *timer)
{
    struct arrival *arrival = H2O_STRUCT_FROM_MEMBER(struct arrival, timer, timer);
    struct gw_worker *worker = arrival->accept->worker;
    h2o_socket_t *sock = arrival->sock;
    struct gw_peer peer = end(arrival);

    count_failure(worker, TLS_FAILURE_TIMEOUT);
    drop(worker, sock, &peer);
}

/* A handshake's first step takes longer than a dozen requests. In a flood of them only so many are begun in each turn
 * of the loop, between which everybody else is served; what a turn costs besides is a hundredth of one. */
enum { HELLOS_A_TURN = 1, GONE_A_TURN = 16, TLS_HANDSHAKE = 22, RECORD_HEAD = 5, RECORD_MAX = RECORD_HEAD + 16384 };

/* Whoever has closed the connection while its hello waited reads no answer to it (only one who has been served may end
 * its half and go on reading). */
static bool drop_if_gone(struct arrival *arrival)
{
    struct gw_worker *worker = arrival->accept->worker;
    h2o_socket_t *sock = arrival->sock;
    char byte;
    ssize_t got = recv(h2o_socket_get_fd(sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (got > 0 || (got == -1 && (errno == EAGAIN || errno == EINTR)))
        return false;
    struct gw_peer peer = end(arrival);
    count_failure(worker, TLS_FAILURE_CLOSED);
    drop(worker, sock, &peer);
    return true;
}

/* NULL: of a Unix socket. */
static struct gw_usage *usage_of(struct arrival *arrival)
{
    struct gw_worker *worker = arrival->accept->worker;
    if (!arrival->peer.has_ip)
        return NULL;
    return gw_usage_of_address(worker->server.addresses, &arrival->peer.ip, gw_thread_now(&worker->thread));
}

static void greet_in_turn(struct gw_worker *worker)
{
    if (!h2o_linklist_is_empty(&worker->hellos))
        gw_thread_defer(&worker->thread, &worker->hello_turn);
    else if (!h2o_linklist_is_empty(&worker->hellos_behind))
        gw_thread_defer_behind(&worker->thread, &worker->hello_turn);
}

static struct arrival *next_hello(struct gw_worker *worker)
{
    h2o_linklist_t *list = h2o_linklist_is_empty(&worker->hellos) ? &worker->hellos_behind : &worker->hellos;
    struct arrival *arrival = H2O_STRUCT_FROM_MEMBER(struct arrival, hello, list->next);

    if (h2o_linklist_is_empty(list))
        return NULL;
    h2o_linklist_unlink(&arrival->hello);
    return arrival;
}

void gw_arrival_greet(struct gw_deferred *deferred)
{
    struct gw_worker *worker = H2O_STRUCT_FROM_MEMBER(struct gw_worker, hello_turn, deferred);

    if (worker->hellos_in_turn != worker->thread.turns) {
        worker->hellos_in_turn = worker->thread.turns;
        int hellos = 0, gone = 0;
        struct arrival *arrival;
        while (hellos != HELLOS_A_TURN && gone != GONE_A_TURN && (arrival = next_hello(worker)) != NULL) {
            gw_thread_charge(&worker->thread, usage_of(arrival));
            if (drop_if_gone(arrival)) {
                ++gone;
                continue;
            }
            ++hellos;
            /* it may be over when this returns */
            h2o_socket_ssl_handshake(arrival->sock, tls_context_ssl(arrival->listener->tls), NULL, on_handshake);
        }
    }
    greet_in_turn(worker);
}

static void greet_later(struct arrival *arrival)
{
    struct gw_worker *worker = arrival->accept->worker;

    h2o_socket_read_stop(arrival->sock);
    h2o_socket_dont_read(arrival->sock, 0);
    struct gw_usage *usage = usage_of(arrival);
    bool is_behind = usage != NULL && gw_usage_is_much(usage, gw_thread_now(&worker->thread));
    h2o_linklist_insert(is_behind ? &worker->hellos_behind : &worker->hellos, &arrival->hello);
    greet_in_turn(worker);
}

/* The state of a handshake takes OpenSSL 40 KiB: whoever sends half of a ClientHello gets none. What is not the
 * beginning of a TLS record is OpenSSL's to refuse. */
static bool is_record_whole(const h2o_buffer_t *input)
{
    const uint8_t *bytes = (const uint8_t *)input->bytes;

    if (input->size == 0)
        return false;
    if (bytes[0] != TLS_HANDSHAKE)
        return true;
    return input->size >= RECORD_HEAD && input->size - RECORD_HEAD >= ((size_t)bytes[3] << 8 | bytes[4]);
}

static void on_hello_bytes(h2o_socket_t *sock, const char *err)
{
    struct arrival *arrival = sock->data;
    struct gw_worker *worker = arrival->accept->worker;

    if (err == NULL && gw_thread_is_late(&worker->thread))
        return; /* thousands may end at once; it is told of again */
    err = gw_socket_read(sock, err, RECORD_MAX);
    if (is_record_whole(sock->input) || sock->input->size >= RECORD_MAX) {
        greet_later(arrival);
    } else if (err != NULL) {
        struct gw_peer peer = end(arrival);
        count_failure(worker, TLS_FAILURE_CLOSED);
        drop(worker, sock, &peer);
    }
}

static void start_handshake(struct gw_acceptor *accept, h2o_socket_t *sock, const struct gw_peer *peer,
                            const struct gw_snapshot_listener *listener)
{
    struct arrival *arrival =
        create(accept, sock, peer, on_handshake_timeout, listener->conf->tls->handshake_timeout_ms);

    if (is_record_whole(sock->input)) { /* behind a PROXY header */
        greet_later(arrival);
    } else {
        gw_socket_setup(sock);
        h2o_socket_read_start(sock, on_hello_bytes);
    }
}

/* ---- caps per client, once it is known who that is ---- */

static void admit(struct gw_acceptor *accept, h2o_socket_t *sock, struct gw_peer *peer, struct gw_held_snapshot *held,
                  const struct gw_snapshot_listener *listener)
{
    struct gw_worker *worker = accept->worker;
    const struct gw_limits_conf *limits = &worker->held->snapshot->config->limits;

    if (__builtin_expect((limits->connections_per_ip | limits->accept_rate_per_ip) != 0, 0) && peer->has_ip) {
        enum gw_gate_verdict verdict = gw_gate_enter(worker->process->gate, &peer->ip, limits->connections_per_ip,
                                                     limits->accept_rate_per_ip, gw_now_us());
        if (verdict != GW_GATE_OPEN) {
            refuse(worker, sock, peer,
                   verdict == GW_GATE_TOO_MANY ? GW_REASON_TOO_MANY_FROM_ADDRESS : GW_REASON_TOO_FAST_FROM_ADDRESS,
                   NULL);
            return;
        }
        peer->is_counted = true;
    }
    if (listener->tls != NULL)
        start_handshake(accept, sock, peer, listener);
    else
        serve(accept, sock, peer, held, listener);
}

/* ---- PROXY headers ---- */

static void refuse_arrival(struct arrival *arrival, enum gw_reason reason, const char *detail)
{
    struct gw_worker *worker = arrival->accept->worker;
    h2o_socket_t *sock = arrival->sock;
    struct gw_peer peer = end(arrival);
    refuse(worker, sock, &peer, reason, detail);
}

static void on_proxy_timeout(struct gw_timer *timer)
{
    refuse_arrival(H2O_STRUCT_FROM_MEMBER(struct arrival, timer, timer), GW_REASON_PROXY_TIMEOUT, NULL);
}

/* Whoever comes next finds the socket as it was accepted, with what followed the header in its input. */
static void admit_arrival(struct arrival *arrival)
{
    struct gw_acceptor *accept = arrival->accept;
    const struct gw_snapshot_listener *listener = arrival->listener;
    struct gw_held_snapshot *held = arrival->held;
    h2o_socket_t *sock = arrival->sock;

    ++held->uses; /* the listener is needed a moment longer than the arrival */
    struct gw_peer peer = end(arrival);
    h2o_socket_read_stop(sock);
    h2o_socket_dont_read(sock, 0);
    admit(accept, sock, &peer, held, listener);
    gw_held_snapshot_release(accept->worker, held);
}

static void on_proxy_bytes(h2o_socket_t *sock, const char *err)
{
    struct arrival *arrival = sock->data;
    const struct gw_proxy_conf *conf = arrival->listener->conf->proxy_protocol;
    struct gw_proxy_header header;
    const char *why = NULL;
    size_t consumed;

    err = gw_socket_read(sock, err, GW_PROXY_V2_MAX);
    switch (gw_proxy_protocol_parse(sock->input->bytes, sock->input->size, &header, &consumed, &why)) {
    case GW_PROXY_MORE:
        if (err != NULL) { /* gone: a port scan, or a check whether we listen */
            struct gw_worker *worker = arrival->accept->worker;
            struct gw_peer peer = end(arrival);
            drop(worker, sock, &peer);
        }
        break;
    case GW_PROXY_OK:
        gw_peer_take_proxy(&arrival->peer, sock->input->bytes, consumed);
        h2o_buffer_consume(&sock->input, consumed);
        admit_arrival(arrival);
        break;
    case GW_PROXY_ABSENT:
        if (conf->is_required)
            refuse_arrival(arrival, GW_REASON_PROXY_MISSING, NULL);
        else
            admit_arrival(arrival);
        break;
    case GW_PROXY_BAD:
        refuse_arrival(arrival, GW_REASON_PROXY_BAD, why);
        break;
    }
}

/* ---- the beginning ---- */

static void meet(struct gw_acceptor *accept, h2o_socket_t *sock, struct gw_peer *peer,
                 const struct gw_snapshot_listener *listener)
{
    const struct gw_proxy_conf *proxy = listener->conf->proxy_protocol;

    if (__builtin_expect(proxy == NULL, 1)) {
        admit(accept, sock, peer, accept->worker->held, listener);
    } else if (peer->has_ip && gw_cidrs_contain(&proxy->from, &peer->ip)) {
        create(accept, sock, peer, on_proxy_timeout, proxy->timeout_ms);
        gw_socket_setup(sock);
        h2o_socket_read_start(sock, on_proxy_bytes);
    } else if (proxy->others == GW_PROXY_OTHERS_REFUSE) {
        refuse(accept->worker, sock, peer, GW_REASON_PROXY_NOT_LISTED, NULL);
    } else {
        admit(accept, sock, peer, accept->worker->held, listener);
    }
}

void gw_arrival_begin(struct gw_acceptor *accept, h2o_socket_t *sock)
{
    struct gw_worker *worker = accept->worker;
    const struct gw_snapshot *snapshot = worker->held->snapshot;
    uint64_t cap = snapshot->config->limits.max_connections;
    int64_t now = __atomic_add_fetch((int64_t *)&worker->process->num_connections, 1, __ATOMIC_RELAXED);
    struct gw_peer peer;

    gw_count(&worker->stats.connections, 1);
    gw_peer_of_socket(&peer, sock, accept, accept->port);
    if (cap != 0 && (uint64_t)now > cap)
        refuse(worker, sock, &peer, GW_REASON_TOO_MANY_CONNECTIONS, NULL);
    else if (accept->listener == UINT32_MAX)
        drop(worker, sock, &peer);
    else
        meet(accept, sock, &peer, &snapshot->listeners[accept->listener]);
}
