#include "net/transport.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "net/internal.h"

enum {
    POOL_SIZE = 64, /* easy handles kept for reuse, about 20 KiB each */
    IDLE_CONNECTIONS = 1024,
    FILES_WANTED = 65536, /* soft limit of open files to ask for */
    FILES_SPARED = 64,    /* of them not for transfers */
    FILES_EACH = 2,       /* for a transfer: its socket, and the resolver's or a second address */
    FAILED_WAIT_MS = 10
};

struct transport {
    CURLM *multi;
    CURLSH *share; /* TLS sessions; they would be an easy handle's own otherwise */
    struct transfer *active;
    size_t active_count;
    size_t active_max;
    int64_t check_at;   /* no timer is due before this */
    bool keeps_handles; /* see can_keep_handles */
    struct transport_handle *pool[POOL_SIZE];
    size_t pool_count;
    struct curl_waitfd *waits; /* transport_wait's */
    size_t waits_cap;
};

int64_t transport_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static size_t raise_file_limit(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return FILES_EACH;
    }
    rlim_t wanted = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
    if (files.rlim_cur < wanted) {
        struct rlimit raised = {.rlim_cur = wanted, .rlim_max = files.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            files = raised;
        }
    }
    return files.rlim_cur < FILES_WANTED ? (size_t)files.rlim_cur : FILES_WANTED;
}

/* Life */

static bool create_handles(struct transport *t) {
    /* Counted by libcurl, and never undone: a resolver's thread may outlive every transport. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return false;
    }
    t->multi = curl_multi_init();
    t->share = curl_share_init();
    if (t->multi == NULL || t->share == NULL) {
        return false;
    }
#if LIBCURL_VERSION_NUM >= 0x081400
    curl_multi_setopt(t->multi, CURLMOPT_QUICK_EXIT, 1L);
#endif
    return curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS) == CURLM_OK &&
           curl_share_setopt(t->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK;
}

/* Whether a handle may serve a second request. Until 8.1.1 libcurl forgot to forget the last header
 * line of an answer: one whose first header line is folded had it write to freed memory
 * (curl/curl issue 11101). */
static bool can_keep_handles(void) {
    enum { FIXED_IN = 0x080101 };
    return curl_version_info(CURLVERSION_NOW)->version_num >= FIXED_IN;
}

static void free_handle(struct transport_handle *h) {
    curl_easy_cleanup(h->easy);
    free(h);
}

static struct transport_handle *new_handle(void) {
    struct transport_handle *h = calloc(1, sizeof *h);
    if (h != NULL && (h->easy = curl_easy_init()) == NULL) {
        free(h);
        return NULL;
    }
    return h;
}

struct transport *transport_new(struct error *err) {
    struct transport *t = calloc(1, sizeof *t);
    if (t == NULL || !create_handles(t)) {
        transport_free(t);
        error_set(err, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "libcurl can not be initialised");
        return NULL;
    }
    t->check_at = TRANSPORT_NEVER;
    t->keeps_handles = can_keep_handles();
    size_t files = raise_file_limit();
    t->active_max = files > 2 * FILES_SPARED ? (files - FILES_SPARED) / FILES_EACH : files / 4 + 1;
    return t;
}

void transport_free(struct transport *t) {
    if (t == NULL) {
        return;
    }
    while (t->active != NULL) {
        transfer_close(t->active);
    }
    for (size_t i = 0; i < t->pool_count; i++) {
        free_handle(t->pool[i]);
    }
    if (t->multi != NULL) {
        curl_multi_cleanup(t->multi);
    }
    if (t->share != NULL) {
        curl_share_cleanup(t->share);
    }
    free(t->waits);
    free(t);
}

/* Transfers come and go */

bool transport_lend(struct transport *t, struct transfer *x, struct error *err) {
    if (t->active_count >= t->active_max) {
        return error_set(err, ERROR_NETWORK, "RESOURCE_EXHAUSTED",
                         "%zu requests are under way, as many as the limit of open files allows",
                         t->active_count);
    }
    x->handle = t->pool_count > 0 ? t->pool[--t->pool_count] : new_handle();
    if (x->handle == NULL) {
        return error_set(err, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "out of memory");
    }
    x->easy = x->handle->easy;
    x->transport = t;
    x->next = t->active;
    x->link = &t->active;
    if (x->next != NULL) {
        x->next->link = &x->next;
    }
    t->active = x;
    t->active_count++;
    return true;
}

void transport_clean(struct transfer *x) {
    if (x->handle->used) {
        curl_easy_reset(x->easy);
    }
    curl_easy_setopt(x->easy, CURLOPT_SHARE, x->transport->share);
    x->handle->used = true;
    x->handle->profile = 0;
}

bool transport_run(struct transport *t, struct transfer *x, struct error *err) {
    CURLMcode code = curl_multi_add_handle(t->multi, x->easy);
    if (code != CURLM_OK) {
        return error_set(err, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "the request can not start: %s",
                         curl_multi_strerror(code));
    }
    transport_hurry(t, x);
    return true;
}

void transport_return(struct transfer *x) {
    struct transport *t = x->transport;
    if (t == NULL) {
        return;
    }
    *x->link = x->next;
    if (x->next != NULL) {
        x->next->link = x->link;
    }
    t->active_count--;
    if (t->active == NULL) {
        t->check_at = TRANSPORT_NEVER;
    }
    curl_multi_remove_handle(t->multi, x->easy);
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, NULL);
    if (t->keeps_handles && t->pool_count < POOL_SIZE) {
        t->pool[t->pool_count++] = x->handle;
    } else {
        free_handle(x->handle);
    }
    x->transport = NULL;
    x->handle = NULL;
    x->easy = NULL;
}

void transport_hurry(struct transport *t, const struct transfer *x) {
    int64_t deadline = transfer_deadline(x);
    if (deadline < t->check_at) {
        t->check_at = deadline;
    }
}

/* The loop's side */

int64_t transport_deadline(const struct transport *t) {
    return t->check_at;
}

static bool reserve_waits(struct transport *t, size_t n) {
    if (n > t->waits_cap) {
        struct curl_waitfd *grown = realloc(t->waits, n * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        t->waits = grown;
        t->waits_cap = n;
    }
    return true;
}

static short wait_events(short events) {
    int wanted = 0;
    wanted |= (events & POLLIN) ? CURL_WAIT_POLLIN : 0;
    wanted |= (events & POLLPRI) ? CURL_WAIT_POLLPRI : 0;
    wanted |= (events & POLLOUT) ? CURL_WAIT_POLLOUT : 0;
    return (short)wanted;
}

static short poll_events(short events) {
    int happened = 0;
    happened |= (events & CURL_WAIT_POLLIN) ? POLLIN : 0;
    happened |= (events & CURL_WAIT_POLLPRI) ? POLLPRI : 0;
    happened |= (events & CURL_WAIT_POLLOUT) ? POLLOUT : 0;
    return (short)happened;
}

void transport_wait(struct transport *t, struct pollfd *extra, int n, int timeout_ms) {
    bool waited = false;
    if (reserve_waits(t, (size_t)n)) {
        for (int i = 0; i < n; i++) {
            t->waits[i].fd = extra[i].fd;
            t->waits[i].events = wait_events(extra[i].events);
            t->waits[i].revents = 0;
        }
        int most = timeout_ms < 0 ? INT32_MAX : timeout_ms;
        waited = curl_multi_poll(t->multi, t->waits, (unsigned)n, most, NULL) == CURLM_OK;
        for (int i = 0; i < n; i++) {
            extra[i].revents = poll_events(t->waits[i].revents);
        }
    }
    /* Where libcurl could not wait, this is what keeps the loop from spinning. */
    if (!waited) {
        poll(extra, (nfds_t)n, FAILED_WAIT_MS);
    }
}

static void reap(struct transport *t) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(t->multi, &left)) != NULL) {
        struct transfer *x = NULL;
        if (message->msg == CURLMSG_DONE &&
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&x) == CURLE_OK) {
            transfer_finish(x, message->data.result);
        }
    }
}

/* Deadlines mostly move away as bytes arrive, so check_at is a lower bound that is only made exact
 * here, once it has passed. */
static void fire_timers(struct transport *t) {
    int64_t now = transport_now();
    if (now < t->check_at) {
        return;
    }
    t->check_at = TRANSPORT_NEVER;
    struct transfer *next;
    for (struct transfer *x = t->active; x != NULL; x = next) {
        next = x->next;
        if (transfer_deadline(x) <= now) {
            transfer_expire(x, now);
        } else {
            transport_hurry(t, x);
        }
    }
}

void transport_dispatch(struct transport *t) {
    if (t->active == NULL) {
        return;
    }
    int running;
    curl_multi_perform(t->multi, &running);
    reap(t);
    fire_timers(t);
}

const char *transport_version(void) {
    return curl_version();
}
