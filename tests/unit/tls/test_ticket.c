#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "fixture.h"

#define ROTATE_S 1000
static struct tls_certificate *certificate;

static int load_certificate(void **state)
{
    make_folder(state);
    certificate = test_certificate("site", (struct recipe){.names = "DNS:a.example.com, DNS:b.example.com"});
    return 0;
}

static int destroy_certificate(void **state)
{
    tls_certificate_destroy(certificate);
    return remove_folder(state);
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

struct visit {
    bool is_resumed;
    SSL_SESSION *session; /* what the client holds afterwards; the caller's reference */
};

static struct visit visit(struct tls_context *context, int version, const char *name, SSL_SESSION *session)
{
    struct pair pair;
    SSL_CTX *client = client_context(version, version);
    pair_init(&pair, client, tls_context_ssl(context), name, session);
    assert_true(pair_handshake(&pair));
    pair_talk(&pair);
    assert_int_equal(SSL_session_reused(pair.client), SSL_session_reused(pair.server));
    struct visit result = {SSL_session_reused(pair.client), SSL_get1_session(pair.client)};
    pair_dispose(&pair);
    SSL_CTX_free(client);
    return result;
}

/* Whether a session that `from` gave is taken by `to`. Leaves nothing behind. */
static bool resumes(struct tls_context *from, struct tls_context *to, int version, const char *name,
                    const char *second_name)
{
    struct visit first = visit(from, version, name, NULL);
    assert_false(first.is_resumed);
    struct visit second = visit(to, version, second_name, first.session);
    SSL_SESSION_free(first.session);
    SSL_SESSION_free(second.session);
    return second.is_resumed;
}

static struct tls_context *context_of(const char *policy, const char *id, struct tls_tickets *tickets)
{
    return test_context(policy, id, tickets, &certificate, 1);
}

static void a_second_visit_resumes(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    struct tls_context *context = context_of("intermediate", "https", tickets);
    for (size_t v = 0; v < 2; v++) {
        assert_true(resumes(context, context, versions[v], "a.example.com", "a.example.com"));
        assert_true(resumes(context, context, versions[v], "a.example.com", "A.EXAMPLE.com."));
        assert_true(resumes(context, context, versions[v], NULL, NULL));
    }
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

static void sessions_live_through_a_reload(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    struct tls_certificate *renewed =
        test_certificate("site", (struct recipe){.names = "DNS:a.example.com", .key = "RSA2048"});
    struct tls_context *before = context_of("intermediate", "https", tickets);
    struct tls_context *after = test_context("intermediate", "https", tickets, &renewed, 1);
    for (size_t v = 0; v < 2; v++)
        assert_true(resumes(before, after, versions[v], "a.example.com", "a.example.com"));
    tls_context_destroy(before);
    tls_context_destroy(after);
    tls_certificate_destroy(renewed);
    tls_tickets_destroy(tickets);
}

static void sessions_stay_with_their_listener_name_and_policy(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    struct tls_context *here = context_of("intermediate", "https", tickets);
    struct tls_context *there = context_of("intermediate", "internal", tickets);
    struct tls_context *stricter = context_of("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", "https", tickets);
    for (size_t v = 0; v < 2; v++) {
        assert_false(resumes(here, there, versions[v], "a.example.com", "a.example.com"));
        assert_false(resumes(here, stricter, versions[v], "a.example.com", "a.example.com"));
        /* RFC 6066 3: not under another name, though one certificate has both */
        assert_false(resumes(here, here, versions[v], "a.example.com", "b.example.com"));
        assert_false(resumes(here, here, versions[v], "a.example.com", NULL));
        assert_false(resumes(here, here, versions[v], NULL, "a.example.com"));
    }
    tls_context_destroy(here);
    tls_context_destroy(there);
    tls_context_destroy(stricter);
    tls_tickets_destroy(tickets);
}

static void tickets_of_another_process_are_not_taken(void **state)
{
    struct tls_tickets *ours = tls_tickets_create(ROTATE_S), *theirs = tls_tickets_create(ROTATE_S);
    struct tls_context *here = context_of("intermediate", "https", ours);
    struct tls_context *there = context_of("intermediate", "https", theirs);
    for (size_t v = 0; v < 2; v++)
        assert_false(resumes(there, here, versions[v], "a.example.com", "a.example.com"));
    tls_context_destroy(here);
    tls_context_destroy(there);
    tls_tickets_destroy(ours);
    tls_tickets_destroy(theirs);
}

static void keys_rotate_when_due_and_not_before(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    assert_false(tls_tickets_tick(tickets, 50000)); /* starts the clock */
    assert_false(tls_tickets_tick(tickets, 50000 + ROTATE_S - 1));
    assert_true(tls_tickets_tick(tickets, 50000 + ROTATE_S));
    assert_false(tls_tickets_tick(tickets, 50000 + 2 * ROTATE_S - 1));
    assert_true(tls_tickets_tick(tickets, 50000 + 5 * ROTATE_S));
    assert_false(tls_tickets_tick(tickets, 50000 + 5 * ROTATE_S + 1)); /* once, however late */
    assert_false(tls_tickets_tick(tickets, 40000));                    /* the clock was set back: counts from there */
    assert_false(tls_tickets_tick(tickets, 40000 + ROTATE_S - 1));
    assert_true(tls_tickets_tick(tickets, 40000 + ROTATE_S));
    tls_tickets_destroy(tickets);

    tickets = tls_tickets_create(0); /* the default: 12 h */
    assert_false(tls_tickets_tick(tickets, 50000));
    assert_false(tls_tickets_tick(tickets, 50000 + 12 * 3600 - 1));
    assert_true(tls_tickets_tick(tickets, 50000 + 12 * 3600));
    tls_tickets_destroy(tickets);
}

static void a_ticket_lives_through_two_rotations_and_not_three(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        for (unsigned rotations = 0; rotations <= 3; rotations++) {
            struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
            struct tls_context *context = context_of("intermediate", "https", tickets);
            uint64_t now_s = 50000;
            tls_tickets_tick(tickets, now_s);
            struct visit first = visit(context, versions[v], "a.example.com", NULL);
            for (unsigned i = 0; i < rotations; i++)
                assert_true(tls_tickets_tick(tickets, now_s += ROTATE_S));
            struct visit second = visit(context, versions[v], "a.example.com", first.session);
            assert_int_equal(second.is_resumed, rotations <= 2);
            SSL_SESSION_free(first.session);
            SSL_SESSION_free(second.session);
            tls_context_destroy(context);
            tls_tickets_destroy(tickets);
        }
    }
}

static bool has_same_ticket(const SSL_SESSION *a, const SSL_SESSION *b)
{
    const unsigned char *ta, *tb;
    size_t la, lb;
    SSL_SESSION_get0_ticket(a, &ta, &la);
    SSL_SESSION_get0_ticket(b, &tb, &lb);
    assert_true(la != 0 && lb != 0);
    return la == lb && memcmp(ta, tb, la) == 0;
}

static void a_ticket_of_an_old_key_is_replaced(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    struct tls_context *context = context_of("intermediate", "https", tickets);
    tls_tickets_tick(tickets, 50000);
    struct visit first = visit(context, TLS1_2_VERSION, "a.example.com", NULL);
    struct visit second = visit(context, TLS1_2_VERSION, "a.example.com", first.session);
    assert_true(second.is_resumed && has_same_ticket(first.session, second.session));
    tls_tickets_tick(tickets, 50000 + ROTATE_S);
    struct visit third = visit(context, TLS1_2_VERSION, "a.example.com", second.session);
    assert_true(third.is_resumed && !has_same_ticket(second.session, third.session));
    tls_tickets_tick(tickets, 50000 + 2 * ROTATE_S);
    tls_tickets_tick(tickets, 50000 + 3 * ROTATE_S);
    struct visit fourth = visit(context, TLS1_2_VERSION, "a.example.com", third.session);
    assert_true(fourth.is_resumed); /* the first ticket would not be readable any more */
    SSL_SESSION_free(first.session);
    SSL_SESSION_free(second.session);
    SSL_SESSION_free(third.session);
    SSL_SESSION_free(fourth.session);
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

static void tickets_say_how_long_their_key_lives(void **state)
{
    for (size_t v = 0; v < 2; v++) {
        struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
        struct tls_context *context = context_of("intermediate", "https", tickets);
        struct visit first = visit(context, versions[v], NULL, NULL);
        assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(first.session), 2 * ROTATE_S);
        SSL_SESSION_free(first.session);
        tls_context_destroy(context);
        tls_tickets_destroy(tickets);
    }
    /* RFC 8446 4.6.1: seven days at most */
    struct tls_tickets *tickets = tls_tickets_create(30 * 86400);
    struct tls_context *context = context_of("intermediate", "https", tickets);
    assert_int_equal(SSL_CTX_get_timeout(tls_context_ssl(context)), 7 * 86400);
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

/* The client's session with one byte of its ticket changed. */
static SSL_SESSION *damage(SSL_SESSION *session, size_t at)
{
    const unsigned char *ticket;
    size_t ticket_len;
    SSL_SESSION_get0_ticket(session, &ticket, &ticket_len);
    unsigned char *der = NULL;
    int len = i2d_SSL_SESSION(session, &der);
    unsigned char *found = memmem(der, len, ticket, ticket_len);
    assert_non_null(found);
    found[at == SIZE_MAX ? ticket_len - 1 : at] ^= 1;
    const unsigned char *p = der;
    SSL_SESSION *damaged = d2i_SSL_SESSION(NULL, &p, len);
    OPENSSL_free(der);
    return damaged;
}

static void a_forged_ticket_means_a_full_handshake(void **state)
{
    static const size_t places[] = {0, 15, 16, 31, 32, 80, SIZE_MAX}; /* key name, IV, content, MAC */
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    struct tls_context *context = context_of("intermediate", "https", tickets);
    for (size_t v = 0; v < 2; v++) {
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            struct visit first = visit(context, versions[v], NULL, NULL);
            SSL_SESSION *damaged = damage(first.session, places[i]);
            struct visit second = visit(context, versions[v], NULL, damaged);
            assert_false(second.is_resumed);
            SSL_SESSION_free(first.session);
            SSL_SESSION_free(damaged);
            SSL_SESSION_free(second.session);
        }
    }
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

static void without_tickets_nothing_is_handed_out_or_kept(void **state)
{
    struct tls_context *context = context_of("intermediate", "https", NULL);
    for (size_t v = 0; v < 2; v++) {
        struct visit first = visit(context, versions[v], NULL, NULL);
        assert_false(SSL_SESSION_has_ticket(first.session));
        struct visit second = visit(context, versions[v], NULL, first.session);
        assert_false(second.is_resumed);
        SSL_SESSION_free(first.session);
        SSL_SESSION_free(second.session);
    }
    assert_int_equal(SSL_CTX_sess_number(tls_context_ssl(context)), 0);
    tls_context_destroy(context);
}

static void the_server_keeps_no_sessions_in_memory(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    struct tls_context *context = context_of("intermediate", "https", tickets);
    for (size_t v = 0; v < 2; v++)
        assert_true(resumes(context, context, versions[v], NULL, NULL));
    assert_int_equal(SSL_CTX_sess_number(tls_context_ssl(context)), 0);
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

enum { NUM_VISITORS = 2, NUM_VISITS = 100 };
struct visitor {
    struct tls_context *context;
    atomic_uint num_done;
};

static void *keep_visiting(void *_it)
{
    struct visitor *it = _it;
    for (unsigned i = 0; i < NUM_VISITS; i++) {
        struct visit first = visit(it->context, versions[i % 2], NULL, NULL);
        struct visit second = visit(it->context, versions[i % 2], NULL, first.session);
        SSL_SESSION_free(first.session);
        SSL_SESSION_free(second.session);
        atomic_fetch_add(&it->num_done, 1);
    }
    return NULL;
}

/* Says the most under ThreadSanitizer. Keys rotate whenever each visitor has ended a visit since the last time: far
 * faster than any clock, yet no handshake sees two rotations. */
static void threads_visit_while_keys_rotate(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    struct visitor visitors[NUM_VISITORS];
    pthread_t threads[NUM_VISITORS];
    struct tls_context *context = context_of("intermediate", "https", tickets);
    for (size_t i = 0; i < NUM_VISITORS; i++) {
        visitors[i] = (struct visitor){.context = context};
        pthread_create(&threads[i], NULL, keep_visiting, &visitors[i]);
    }
    tls_tickets_tick(tickets, 1);
    for (unsigned round = 1; round <= NUM_VISITS / 2; round++) {
        for (size_t i = 0; i < NUM_VISITORS; i++)
            while (atomic_load(&visitors[i].num_done) < 2 * round)
                sched_yield();
        assert_true(tls_tickets_tick(tickets, 1 + round * ROTATE_S));
    }
    for (size_t i = 0; i < NUM_VISITORS; i++)
        pthread_join(threads[i], NULL);
    tls_context_destroy(context);
    tls_tickets_destroy(tickets);
}

static void another_process_of_ours_may_go_on_with_the_keys(void **state)
{
    struct tls_tickets *old = tls_tickets_create(ROTATE_S), *new = tls_tickets_create(ROTATE_S);
    struct tls_context *from = context_of("intermediate", "site", old), *to = context_of("intermediate", "site", new);
    char text[TLS_TICKETS_TEXT];

    tls_tickets_tick(old, 1);
    tls_tickets_tick(old, 1 + ROTATE_S); /* two keys */
    tls_tickets_export(old, text);
    assert_true(strlen(text) < TLS_TICKETS_TEXT);
    assert_true(tls_tickets_import(new, text));
    for (int i = 0; i < 2; i++) {
        assert_true(resumes(from, to, versions[i], "a.example.com", "a.example.com"));
        assert_true(resumes(to, from, versions[i], "a.example.com", "a.example.com"));
    }
    assert_false(tls_tickets_tick(new, ROTATE_S * 2)); /* the clock went over, too */
    assert_true(tls_tickets_tick(new, 1 + ROTATE_S * 2));
    tls_context_destroy(from);
    tls_context_destroy(to);
    tls_tickets_destroy(old);
    tls_tickets_destroy(new);
}

static void keys_that_make_no_sense_change_nothing(void **state)
{
    struct tls_tickets *tickets = tls_tickets_create(ROTATE_S);
    char before[TLS_TICKETS_TEXT], after[TLS_TICKETS_TEXT], bad[TLS_TICKETS_TEXT];

    tls_tickets_export(tickets, before);
    assert_false(tls_tickets_import(tickets, ""));
    strcpy(bad, before);
    bad[100] = 'x';
    assert_false(tls_tickets_import(tickets, bad));
    strcpy(bad, before);
    bad[strlen(bad) - 2] = '\0';
    assert_false(tls_tickets_import(tickets, bad));
    strcpy(bad, before);
    memcpy(bad + 16, "ff", 2); /* number of keys */
    assert_false(tls_tickets_import(tickets, bad));
    tls_tickets_export(tickets, after);
    assert_string_equal(before, after);
    tls_tickets_destroy(tickets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_visit_resumes),
        cmocka_unit_test(sessions_live_through_a_reload),
        cmocka_unit_test(sessions_stay_with_their_listener_name_and_policy),
        cmocka_unit_test(tickets_of_another_process_are_not_taken),
        cmocka_unit_test(keys_rotate_when_due_and_not_before),
        cmocka_unit_test(a_ticket_lives_through_two_rotations_and_not_three),
        cmocka_unit_test(a_ticket_of_an_old_key_is_replaced),
        cmocka_unit_test(tickets_say_how_long_their_key_lives),
        cmocka_unit_test(a_forged_ticket_means_a_full_handshake),
        cmocka_unit_test(without_tickets_nothing_is_handed_out_or_kept),
        cmocka_unit_test(the_server_keeps_no_sessions_in_memory),
        cmocka_unit_test(another_process_of_ours_may_go_on_with_the_keys),
        cmocka_unit_test(keys_that_make_no_sense_change_nothing),
        cmocka_unit_test(threads_visit_while_keys_rotate),
    };
    return cmocka_run_group_tests(tests, load_certificate, destroy_certificate);
}
