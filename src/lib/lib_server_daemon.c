/* The daemon: requests as libmicrohttpd tells of them, connections, and their source of the loop.
 */
#include "lib/lib_server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS = 64,            /* taken from the descriptor at once */
    DROPPED_MORE = 1 << 20, /* bytes of a body beyond twice its limit */
    SPARE_CONNECTIONS = 16  /* beyond the limit, so that there is room to close an older one */
};

static const int64_t SWEEP_EVERY = 500 * 1000000;

/* Requests: what the daemon calls */

static struct connection *connection_of(struct MHD_Connection *mhd) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* The first line of a request is there. What this returns is the context of the calls below. */
static void *on_target(void *ctx, const char *target, struct MHD_Connection *mhd) {
    struct server *s = ctx;
    struct connection *c = connection_of(mhd);
    struct exchange *x = c != NULL ? calloc(1, sizeof *x) : NULL;
    if (x == NULL) {
        return NULL;
    }
    *x = (struct exchange){.server = s,
                           .connection = c,
                           .in_daemon = true,
                           .id = ++s->last_id,
                           .started = s->api->now(),
                           .target = strdup(target)};
    buf_init(&x->body, s->limits.max_body);
    buf_init(&x->out, INT_MAX);
    c->exchange = x;
    c->since = x->started;
    return x;
}

/* Says no in a few words, and closes the connection: what follows on it is not read. */
static enum MHD_Result refuse(struct exchange *x, struct MHD_Connection *mhd) {
    char body[256];
    int n = snprintf(body, sizeof body, "{\"detail\":\"%s\"}", x->refusal->message);
    struct MHD_Response *response =
        MHD_create_response_from_buffer((size_t)n, body, MHD_RESPMEM_MUST_COPY);
    if (response == NULL) {
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Connection", "close");
    enum MHD_Result result = MHD_queue_response(mhd, (unsigned)x->refusal->status, response);
    MHD_destroy_response(response);
    x->state = EXCHANGE_ENDED;
    return result;
}

static enum MHD_Result begin(struct exchange *x, struct MHD_Connection *mhd, const char *url,
                             const char *method, const char *version) {
    x->refusal = server_check_head(x, mhd, url, method, version);
    if (x->refusal != NULL) {
        return refuse(x, mhd);
    }
    memcpy(x->method, method, strlen(method) + 1);
    return MHD_YES;
}

/* Takes a piece of the body. What passes the limit is read and dropped for as long again and a bit
 * more, so that a client which writes before it reads gets the answer; then the connection ends. */
static enum MHD_Result take_body(struct exchange *x, const char *bytes, size_t n) {
    static const struct guard_refusal too_large = {413, "the body is larger than the limit"};
    if (x->refusal == NULL && buf_append(&x->body, bytes, n)) {
        return MHD_YES;
    }
    x->refusal = &too_large;
    x->dropped += n;
    return x->dropped <= x->body.max + DROPPED_MORE ? MHD_YES : MHD_NO;
}

static enum MHD_Result send_answer(struct exchange *x, struct MHD_Connection *mhd) {
    if (x->response == NULL || x->gone) {
        return MHD_NO;
    }
    if (x->is_chunked) { /* the daemon is lax with chunks: nothing that follows them is a request */
        MHD_add_response_header(x->response, "Connection", "close");
    }
    enum MHD_Result result = MHD_queue_response(mhd, x->status, x->response);
    MHD_destroy_response(x->response);
    x->response = NULL;
    return result;
}

/* Called for the head, for pieces of the body, at its end, and again when Lua has answered. */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *len, void **of_request) {
    struct exchange *x = *of_request;
    (void)ctx;
    if (x == NULL || x->target == NULL) {
        return MHD_NO;
    }
    if (x->method[0] == '\0') {
        return begin(x, mhd, url, method, version);
    }
    if (*len > 0) {
        size_t n = *len;
        *len = 0;
        return take_body(x, bytes, n);
    }
    if (x->refusal != NULL) {
        return refuse(x, mhd);
    }
    if (x->state != EXCHANGE_READING) {
        return send_answer(x, mhd);
    }
    x->state = EXCHANGE_WAITING;
    x->started = x->server->api->now();
    exchange_suspend(x);
    exchange_enqueue(x);
    return MHD_YES;
}

static void on_completed(void *ctx, struct MHD_Connection *mhd, void **of_request,
                         enum MHD_RequestTerminationCode why) {
    struct exchange *x = *of_request;
    struct server *s = ctx;
    (void)mhd;
    if (x == NULL) {
        return;
    }
    *of_request = NULL;
    x->connection->exchange = NULL;
    x->connection->since = s->api->now();
    x->connection = NULL;
    x->in_daemon = false;
    if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK || x->state == EXCHANGE_STREAM) {
        exchange_lose(x);
    }
    exchange_free(x);
}

/* Connections */

/* Ends a connection: the daemon sees that and closes it. */
static void hang_up(struct connection *c) {
    shutdown(c->fd, SHUT_RDWR);
    c->left = true;
    if (c->exchange != NULL && c->exchange->suspended) {
        exchange_lose(c->exchange);
        exchange_resume(c->exchange);
    }
    c->server->must_run = true;
}

/* Room for one more: of the connections without a request, the one that has waited longest ends. */
static void close_idle(struct server *s) {
    struct connection *oldest = NULL;
    for (struct connection *c = s->first; c != NULL; c = c->next) {
        if (c->exchange == NULL && !c->left && (oldest == NULL || c->since <= oldest->since)) {
            oldest = c;
        }
    }
    if (oldest != NULL) {
        hang_up(oldest);
    }
}

static void add_connection(struct server *s, struct MHD_Connection *mhd, void **context) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct connection *c = info != NULL ? calloc(1, sizeof *c) : NULL;
    *context = c;
    if (c == NULL) {
        return;
    }
    *c = (struct connection){
        .server = s, .mhd = mhd, .fd = info->connect_fd, .since = s->api->now(), .next = s->first};
    if (s->first != NULL) {
        s->first->previous = c;
    }
    s->first = c;
    s->connections++;
    if (s->connections > s->limits.connections) {
        close_idle(s);
    }
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(s->poll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

static void remove_connection(struct connection *c) {
    struct server *s = c->server;
    epoll_ctl(s->poll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    if (c->next != NULL) {
        c->next->previous = c->previous;
    }
    if (c->previous != NULL) {
        c->previous->next = c->next;
    } else {
        s->first = c->next;
    }
    s->connections--;
    free(c);
}

static void on_connection(void *ctx, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        add_connection(ctx, mhd, context);
    } else if (*context != NULL) {
        remove_connection(*context);
        *context = NULL;
    }
}

/* The client has closed its side. Whoever only waits for an answer is gone then; where the request
 * came together with that end it is answered all the same, as tools like nc send it so. */
static void on_left(struct connection *c) {
    struct exchange *x = c->exchange;
    c->finished = true;
    if (x != NULL && (x->state == EXCHANGE_WAITING || x->state == EXCHANGE_STREAM)) {
        hang_up(c);
    }
}

/* Whether nothing more of a request can come. The daemon does not always see that its client left,
 * where the end came together with a part of a request. */
static bool is_dead(const struct connection *c, int64_t now) {
    char byte;
    return c->finished && now - c->since > SWEEP_EVERY &&
           recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

/* Ends what takes too long, looking twice a second. */
static void sweep(struct server *s, int64_t now) {
    struct connection *next;
    for (struct connection *c = s->first; c != NULL; c = next) {
        struct exchange *x = c->exchange;
        next = c->next;
        if ((x == NULL || x->state == EXCHANGE_READING) &&
            (now - c->since > s->limits.request_timeout || is_dead(c, now)) && !c->left) {
            hang_up(c);
        } else if (x != NULL && x->state == EXCHANGE_WAITING && !x->is_late && x->in_lua &&
                   now - x->started > s->limits.handler_timeout) {
            x->is_late = true;
            exchange_enqueue(x);
        }
    }
    s->sweep_at = now + SWEEP_EVERY;
}

/* The source of the loop */

static int source_fds(void *ctx, struct pollfd *fds, int max) {
    const struct server *s = ctx;
    if (max < 1) {
        return 0;
    }
    fds[0] = (struct pollfd){.fd = s->poll_fd, .events = POLLIN};
    return 1;
}

static int64_t source_deadline(void *ctx) {
    struct server *s = ctx;
    MHD_UNSIGNED_LONG_LONG ms;
    if (s->must_run) {
        return 0;
    }
    if (s->first == NULL) {
        return TASK_NEVER;
    }
    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES && ms == 0) {
        return 0;
    }
    return s->sweep_at;
}

static void source_dispatch(void *ctx) {
    struct server *s = ctx;
    struct epoll_event events[EVENTS];
    MHD_UNSIGNED_LONG_LONG ms;
    int64_t now = s->api->now();
    int n = epoll_wait(s->poll_fd, events, EVENTS, 0);
    bool must_run = s->must_run;
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr == s) {
            must_run = true;
        } else {
            on_left(events[i].data.ptr);
        }
    }
    must_run = must_run || s->must_run ||
               (s->first != NULL && MHD_get_timeout(s->daemon, &ms) == MHD_YES && ms == 0);
    if (s->first != NULL && now >= s->sweep_at) {
        sweep(s, now);
        must_run = true;
    }
    if (must_run) {
        s->must_run = false;
        MHD_run(s->daemon);
    }
}

/* Start and end */

/* What the library would print is about peers that do not behave. */
static void ignore_message(void *ctx, const char *format, va_list arguments) {
    (void)ctx;
    (void)format;
    (void)arguments;
}

/* Leaves the target as it came: the daemon's own decoding stops at NUL and hides "%2F". */
static size_t keep_encoded(void *ctx, struct MHD_Connection *mhd, char *text) {
    (void)ctx;
    (void)mhd;
    return strlen(text);
}

static bool watch_daemon(struct server *s) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    s->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    return info != NULL && s->poll_fd >= 0 &&
           epoll_ctl(s->poll_fd, EPOLL_CTL_ADD, info->epoll_fd, &event) == 0;
}

bool server_start(struct server *s, int listen_fd, struct error *err) {
    unsigned seconds = (unsigned)(s->limits.request_timeout / 1000000000);
    /* Strictness of before 1.0 answers twice where there is no Host: the guard does it better. */
    int strict = server_is_lax() ? 0 : 1;
    s->listen_fd = listen_fd;
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, s,
        MHD_OPTION_EXTERNAL_LOGGER, ignore_message, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, s->limits.connections + SPARE_CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)s->limits.max_header,
        MHD_OPTION_CONNECTION_TIMEOUT, seconds > 0 ? seconds : 1, MHD_OPTION_STRICT_FOR_CLIENT,
        strict, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded,
        NULL, MHD_OPTION_URI_LOG_CALLBACK, on_target, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    if (s->daemon == NULL || !watch_daemon(s)) {
        server_stop(s);
        return error_set(err, ERROR_CONFIG, "INTERNAL_ERROR", "can not start a server: %s",
                         strerror(errno));
    }
    s->source = (struct source){
        .ctx = s, .fds = source_fds, .deadline = source_deadline, .dispatch = source_dispatch};
    return true;
}

void server_stop_listening(struct server *s) {
    if (s->daemon != NULL && s->listen_fd >= 0) {
        MHD_quiesce_daemon(s->daemon);
        close(s->listen_fd);
        s->listen_fd = -1;
    }
}

/* The daemon must have no suspended connection when it stops. */
static void resume_all(struct server *s) {
    for (struct connection *c = s->first; c != NULL; c = c->next) {
        if (c->exchange != NULL) {
            exchange_lose(c->exchange);
            exchange_resume(c->exchange);
        }
    }
}

void server_stop(struct server *s) {
    if (s->daemon != NULL) {
        resume_all(s);
        MHD_stop_daemon(s->daemon); /* closes the socket as well, unless it listens no more */
        s->daemon = NULL;
        for (struct exchange *x = server_next(s); x != NULL; x = server_next(s)) {
            exchange_free(x);
        }
    } else if (s->listen_fd >= 0) {
        close(s->listen_fd);
    }
    s->listen_fd = -1;
    if (s->poll_fd >= 0) {
        close(s->poll_fd);
        s->poll_fd = -1;
    }
}
