#include "gateway/observe/tracing.h"
#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gateway/base/json.h"
#include "gateway/base/log.h"

enum {
    LAST_WORDS_MS = 2000,   /* how long destroy may send */
    MAX_TRIES = 5,          /* of one batch */
    FIRST_PAUSE_MS = 1000,  /* between tries; doubles */
    MAX_PAUSE_MS = 30000,   /* whatever Retry-After says */
    MAX_RESPONSE = 64 << 10 /* of a collector that is kept for its partialSuccess */
};

/* A configuration as the thread needs it. */
struct settings {
    char *url;
    struct curl_slist *headers;
    h2o_iovec_t opening; /* JSON before the spans */
    size_t batch;
    uint64_t interval_ms, timeout_ms;
};

struct gw_tracing {
    bool is_started; /* control thread */
    pthread_t tid;
    pthread_mutex_t lock;
    pthread_cond_t wake;                 /* by CLOCK_MONOTONIC */
    struct gw_span_record *head, **tail; /* under lock */
    size_t num_queued, max_queued;       /* under lock: spans */
    size_t batch;                        /* under lock: spans that are worth a wake-up */
    struct settings *next;               /* under lock: the thread's from its next batch on */
    bool is_stopping;                    /* under lock */
    _Atomic uint64_t give_up_ms;         /* atomic: CLOCK_MONOTONIC, 0: not stopping; read while a transfer runs */
    _Atomic uint64_t exported, dropped;  /* atomic: statistics only */
    /* exporter thread only */
    struct settings *settings;
    CURL *curl;
    bool is_failing; /* the last export failed: it has been said */
};

static uint64_t read_relaxed(const _Atomic uint64_t *value)
{
    return __atomic_load_n((const uint64_t *)value, __ATOMIC_RELAXED);
}

static void add_relaxed(_Atomic uint64_t *value, uint64_t n)
{
    __atomic_fetch_add((uint64_t *)value, n, __ATOMIC_RELAXED);
}

/* ---- settings ---- */

static void put_attribute(struct gw_json *json, const char *key, const char *value, size_t len)
{
    gw_json_object(json);
    gw_json_key(json, "key");
    gw_json_string(json, key);
    gw_json_key(json, "value");
    gw_json_object(json);
    gw_json_key(json, "stringValue");
    gw_json_text(json, h2o_iovec_init(value, len));
    gw_json_object_end(json);
    gw_json_object_end(json);
}

/* {"resourceSpans":[{"resource":{..},"scopeSpans":[{"scope":{..},"spans":[ */
static h2o_iovec_t write_opening(const struct gw_tracing_conf *conf)
{
    struct gw_json json;
    char host[256] = "";

    gethostname(host, sizeof(host) - 1);
    gw_json_init(&json);
    gw_json_object(&json);
    gw_json_key(&json, "resourceSpans");
    gw_json_array(&json);
    gw_json_object(&json);
    gw_json_key(&json, "resource");
    gw_json_object(&json);
    gw_json_key(&json, "attributes");
    gw_json_array(&json);
    put_attribute(&json, "service.name", conf->service_name.base, conf->service_name.len);
    put_attribute(&json, "service.version", WEIR_VERSION, strlen(WEIR_VERSION));
    put_attribute(&json, "host.name", host, strlen(host));
    gw_json_array_end(&json);
    gw_json_object_end(&json);
    gw_json_key(&json, "scopeSpans");
    gw_json_array(&json);
    gw_json_object(&json);
    gw_json_key(&json, "scope");
    gw_json_object(&json);
    gw_json_key(&json, "name");
    gw_json_string(&json, "weir");
    gw_json_key(&json, "version");
    gw_json_string(&json, WEIR_VERSION);
    gw_json_object_end(&json);
    gw_json_key(&json, "spans");
    gw_json_array(&json);
    return h2o_iovec_init(json.base, json.size); /* the memory is ours now */
}

static const char closing[] = "]}]}]}";

/* A collector is often named by host and port alone; its page for traces has that name by default (OTLP 1.3, OTLP/HTTP
 * Default Endpoint). */
static char *page_of(h2o_iovec_t url)
{
    const char *host = strstr(url.base, "://") + 3, *path = strpbrk(host, "/?#");
    bool has_page = path != NULL && strcmp(path, "/") != 0;

    if (has_page)
        return h2o_strdup(NULL, url.base, url.len).base;
    return h2o_concat(NULL, h2o_iovec_init(url.base, path != NULL ? (size_t)(path - url.base) : url.len),
                      h2o_iovec_init(H2O_STRLIT("/v1/traces")))
        .base;
}

static struct settings *create_settings(const struct gw_tracing_conf *conf)
{
    struct settings *settings = h2o_mem_alloc(sizeof(*settings));

    *settings = (struct settings){.url = page_of(conf->otlp),
                                  .opening = write_opening(conf),
                                  .batch = conf->batch,
                                  .interval_ms = conf->interval_ms,
                                  .timeout_ms = conf->timeout_ms};
    settings->headers = curl_slist_append(settings->headers, "Content-Type: application/json");
    settings->headers = curl_slist_append(settings->headers, "Expect:"); /* no 100 Continue */
    for (size_t i = 0; i != conf->headers.size; ++i) {
        const struct gw_pair *pair = &conf->headers.entries[i];
        h2o_iovec_t line = h2o_concat(NULL, pair->name, h2o_iovec_init(H2O_STRLIT(": ")), pair->value);
        settings->headers = curl_slist_append(settings->headers, line.base);
        free(line.base);
    }
    return settings;
}

static void destroy_settings(struct settings *settings)
{
    if (settings == NULL)
        return;
    curl_slist_free_all(settings->headers);
    free(settings->opening.base);
    free(settings->url);
    free(settings);
}

/* ---- one export (exporter thread, without the lock) ---- */

struct batch {
    struct gw_span_record *head, **tail;
    size_t num_spans, num_records, bytes;
};

struct response {
    char bytes[MAX_RESPONSE];
    size_t size;
};

static size_t on_response(char *bytes, size_t size, size_t count, void *data)
{
    struct response *response = data;
    size_t len = size * count, room = sizeof(response->bytes) - response->size;
    memcpy(response->bytes + response->size, bytes, len < room ? len : room);
    response->size += len < room ? len : room;
    return len;
}

/* A shutdown does not wait for a collector. */
static int on_progress(void *data, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
    const struct gw_tracing *tracing = data;
    uint64_t give_up_ms = read_relaxed(&tracing->give_up_ms);
    return give_up_ms != 0 && gw_now_ms() >= give_up_ms;
}

static h2o_iovec_t write_body(const struct settings *settings, const struct batch *batch)
{
    size_t len = settings->opening.len + batch->bytes + batch->num_records + sizeof(closing);
    char *base = h2o_mem_alloc(len), *p = base;

    p = (char *)memcpy(p, settings->opening.base, settings->opening.len) + settings->opening.len;
    for (const struct gw_span_record *record = batch->head; record != NULL; record = record->next) {
        if (record != batch->head)
            *p++ = ',';
        p = (char *)memcpy(p, record->json, record->len) + record->len;
    }
    p = (char *)memcpy(p, closing, sizeof(closing) - 1) + sizeof(closing) - 1;
    return h2o_iovec_init(base, p - base);
}

/* OTLP: {"partialSuccess":{"rejectedSpans":"3",...}}; a number is fine too. */
static uint64_t count_rejected(const struct response *response)
{
    json_t *root = json_loadb(response->bytes, response->size, 0, NULL);
    const json_t *value = json_object_get(json_object_get(root, "partialSuccess"), "rejectedSpans");
    uint64_t rejected = 0;

    if (json_is_integer(value) && json_integer_value(value) > 0)
        rejected = (uint64_t)json_integer_value(value);
    else if (json_is_string(value))
        rejected = strtoull(json_string_value(value), NULL, 10);
    json_decref(root);
    return rejected;
}

enum outcome { SENT, TRY_LATER, GIVE_UP };

static void set_options(struct gw_tracing *tracing, h2o_iovec_t body, struct response *response, char *error)
{
    CURL *curl = tracing->curl;
    const struct settings *settings = tracing->settings;

    curl_easy_reset(curl); /* connections stay */
    curl_easy_setopt(curl, CURLOPT_URL, settings->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, settings->headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "weir/" WEIR_VERSION);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.base);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_response);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, response);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, tracing);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)settings->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
}

/* Said once, until it works again: what follows is in the counter. */
static void note_failure(struct gw_tracing *tracing, CURLcode result, const char *error, long status)
{
    if (tracing->is_failing)
        return;
    tracing->is_failing = true;
    if (result != CURLE_OK)
        gw_log(GW_LOG_WARNING, "tracing", "cannot export spans: %s",
               error[0] != '\0' ? error : curl_easy_strerror(result));
    else
        gw_log(GW_LOG_WARNING, "tracing", "cannot export spans: the collector answers %ld", status);
}

static void note_success(struct gw_tracing *tracing, const struct batch *batch, const struct response *response)
{
    uint64_t rejected = count_rejected(response);

    if (rejected > batch->num_spans)
        rejected = batch->num_spans;
    if (rejected != 0)
        gw_log(GW_LOG_WARNING, "tracing", "the collector refused %llu of %zu spans", (unsigned long long)rejected,
               batch->num_spans);
    add_relaxed(&tracing->dropped, rejected);
    add_relaxed(&tracing->exported, batch->num_spans - rejected);
    if (tracing->is_failing)
        gw_log(GW_LOG_NOTICE, "tracing", "spans are exported again");
    tracing->is_failing = false;
}

/* retry_after_ms: what the collector asks for, 0 if nothing. */
static enum outcome send_once(struct gw_tracing *tracing, const struct batch *batch, uint64_t *retry_after_ms)
{
    struct response *response = h2o_mem_alloc(sizeof(*response));
    h2o_iovec_t body = write_body(tracing->settings, batch);
    char error[CURL_ERROR_SIZE] = "";
    enum outcome outcome = TRY_LATER;
    curl_off_t retry_after_s = 0;
    long status = 0;

    response->size = 0;
    set_options(tracing, body, response, error);
    CURLcode result = curl_easy_perform(tracing->curl);
    if (result == CURLE_OK) {
        curl_easy_getinfo(tracing->curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(tracing->curl, CURLINFO_RETRY_AFTER, &retry_after_s);
        outcome = status >= 200 && status < 300                                      ? SENT
                  : status == 429 || status == 502 || status == 503 || status == 504 ? TRY_LATER
                                                                                     : GIVE_UP;
    }
    *retry_after_ms = retry_after_s > 0 ? (uint64_t)retry_after_s * 1000 : 0;
    if (outcome == SENT)
        note_success(tracing, batch, response);
    else
        note_failure(tracing, result, error, status);
    free(body.base);
    free(response);
    return outcome;
}

/* ---- exporter thread ---- */

/* Under lock. Waits until the time is over or somebody calls; false: it is over. */
static bool wait_until(struct gw_tracing *tracing, uint64_t due_ms)
{
    struct timespec until = {(time_t)(due_ms / 1000), (long)(due_ms % 1000) * 1000000};
    return pthread_cond_timedwait(&tracing->wake, &tracing->lock, &until) != ETIMEDOUT;
}

/* Under lock. Spans for one export; the first record is taken whatever its size. */
static void detach_batch(struct gw_tracing *tracing, struct batch *batch)
{
    *batch = (struct batch){.head = NULL};
    batch->tail = &batch->head;
    while (tracing->head != NULL &&
           (batch->head == NULL || batch->num_spans + tracing->head->num_spans <= tracing->settings->batch)) {
        struct gw_span_record *record = tracing->head;
        tracing->head = record->next;
        record->next = NULL;
        *batch->tail = record;
        batch->tail = &record->next;
        batch->num_spans += record->num_spans;
        batch->bytes += record->len;
        ++batch->num_records;
    }
    if (tracing->head == NULL)
        tracing->tail = &tracing->head;
    tracing->num_queued -= batch->num_spans;
}

static void destroy_batch(struct batch *batch)
{
    for (struct gw_span_record *record = batch->head, *next; record != NULL; record = next) {
        next = record->next;
        free(record);
    }
}

/* Under lock, released while bytes move. */
static void export_with_patience(struct gw_tracing *tracing, const struct batch *batch)
{
    uint64_t pause_ms = FIRST_PAUSE_MS, retry_after_ms;

    for (unsigned tries = 1;; ++tries, pause_ms *= 2) {
        pthread_mutex_unlock(&tracing->lock);
        enum outcome outcome = send_once(tracing, batch, &retry_after_ms);
        pthread_mutex_lock(&tracing->lock);
        if (outcome == SENT)
            return;
        if (outcome == GIVE_UP || tries == MAX_TRIES || tracing->is_stopping)
            break;
        uint64_t wait_ms = pause_ms > retry_after_ms ? pause_ms : retry_after_ms;
        uint64_t due_ms = gw_now_ms() + (wait_ms < MAX_PAUSE_MS ? wait_ms : MAX_PAUSE_MS);
        while (!tracing->is_stopping && tracing->next == NULL && wait_until(tracing, due_ms))
            ;
        if (tracing->next != NULL) { /* the next configuration may know a better place */
            destroy_settings(tracing->settings);
            tracing->settings = tracing->next;
            tracing->next = NULL;
        }
    }
    add_relaxed(&tracing->dropped, batch->num_spans);
}

/* Under lock. True when there is something to send; false when the thread is to end. */
static bool wait_for_work(struct gw_tracing *tracing)
{
    while (tracing->head == NULL && !tracing->is_stopping)
        pthread_cond_wait(&tracing->wake, &tracing->lock);
    if (tracing->next != NULL) {
        destroy_settings(tracing->settings);
        tracing->settings = tracing->next;
        tracing->next = NULL;
    }
    uint64_t due_ms = gw_now_ms() + tracing->settings->interval_ms;
    while (!tracing->is_stopping && tracing->num_queued < tracing->settings->batch && wait_until(tracing, due_ms))
        ;
    return tracing->head != NULL;
}

static void drop_rest(struct gw_tracing *tracing)
{
    struct batch rest = {tracing->head, NULL, 0, 0, 0};
    destroy_batch(&rest);
    add_relaxed(&tracing->dropped, tracing->num_queued);
    tracing->head = NULL;
    tracing->num_queued = 0;
}

static void *run(void *data)
{
    struct gw_tracing *tracing = data;
    struct batch batch;

    tracing->curl = curl_easy_init();
    pthread_mutex_lock(&tracing->lock);
    while (wait_for_work(tracing)) {
        if (tracing->is_stopping && (tracing->is_failing || gw_now_ms() >= read_relaxed(&tracing->give_up_ms)))
            break;
        detach_batch(tracing, &batch);
        export_with_patience(tracing, &batch);
        destroy_batch(&batch);
    }
    drop_rest(tracing);
    pthread_mutex_unlock(&tracing->lock);
    curl_easy_cleanup(tracing->curl);
    return NULL;
}

/* ---- callers ---- */

struct gw_tracing *gw_tracing_create(void)
{
    struct gw_tracing *tracing = h2o_mem_alloc(sizeof(*tracing));
    pthread_condattr_t attr;

    *tracing = (struct gw_tracing){.is_started = false};
    tracing->tail = &tracing->head;
    pthread_mutex_init(&tracing->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&tracing->wake, &attr);
    pthread_condattr_destroy(&attr);
    return tracing;
}

static bool start(struct gw_tracing *tracing)
{
    sigset_t all, before;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    tracing->is_started = pthread_create(&tracing->tid, NULL, run, tracing) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return tracing->is_started;
}

bool gw_tracing_configure(struct gw_tracing *tracing, const struct gw_tracing_conf *conf, struct gw_errors *errors)
{
    if (conf == NULL)
        return true;
    struct settings *settings = create_settings(conf);
    pthread_mutex_lock(&tracing->lock);
    tracing->max_queued = conf->queue;
    tracing->batch = conf->batch;
    if (tracing->settings == NULL && !tracing->is_started) {
        tracing->settings = settings;
    } else {
        destroy_settings(tracing->next);
        tracing->next = settings;
        pthread_cond_signal(&tracing->wake);
    }
    pthread_mutex_unlock(&tracing->lock);
    return tracing->is_started || start(tracing) ||
           gw_error_at(errors, conf->at, "cannot start the thread that exports spans: %s", strerror(errno));
}

void gw_tracing_take(struct gw_tracing *tracing, struct gw_span_record *record)
{
    pthread_mutex_lock(&tracing->lock);
    size_t before = tracing->num_queued, after = before + record->num_spans;
    if (after > tracing->max_queued) {
        add_relaxed(&tracing->dropped, record->num_spans);
        free(record);
    } else {
        record->next = NULL;
        *tracing->tail = record;
        tracing->tail = &record->next;
        tracing->num_queued = after;
        if (before == 0 || (before < tracing->batch && after >= tracing->batch))
            pthread_cond_signal(&tracing->wake);
    }
    pthread_mutex_unlock(&tracing->lock);
}

void gw_tracing_destroy(struct gw_tracing *tracing)
{
    struct timespec until;

    if (tracing == NULL)
        return;
    if (tracing->is_started) {
        pthread_mutex_lock(&tracing->lock);
        tracing->is_stopping = true;
        __atomic_store_n((uint64_t *)&tracing->give_up_ms, gw_now_ms() + LAST_WORDS_MS, __ATOMIC_RELAXED);
        pthread_cond_signal(&tracing->wake);
        pthread_mutex_unlock(&tracing->lock);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += LAST_WORDS_MS / 1000 + 2; /* the transfer looks at the clock once a second */
        if (pthread_timedjoin_np(tracing->tid, NULL, &until) != 0)
            return; /* stuck in a system call: the process ends without it */
        curl_global_cleanup();
    }
    destroy_settings(tracing->settings);
    destroy_settings(tracing->next);
    pthread_cond_destroy(&tracing->wake);
    pthread_mutex_destroy(&tracing->lock);
    free(tracing);
}

uint64_t gw_tracing_exported(const struct gw_tracing *tracing) { return read_relaxed(&tracing->exported); }

uint64_t gw_tracing_dropped(const struct gw_tracing *tracing) { return read_relaxed(&tracing->dropped); }
