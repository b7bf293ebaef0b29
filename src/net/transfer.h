/* One HTTP request and its answer. A transfer is a struct of the caller's, usually inside a
 * userdata; it holds nothing until it is started, and transfer_close may come at any time.
 * Redirects are answers like any other: whoever wants one followed asks again. */
#ifndef MOONFLOW_NET_TRANSFER_H
#define MOONFLOW_NET_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/error.h"

struct curl_slist;
struct transport;

/* Limits of an answer's headers, interim answers included. */
enum { TRANSFER_HEADERS = 256, TRANSFER_HEADER_BYTES = 128 * 1024 };

enum { TRANSFER_ORIGIN_SIZE = 192, TRANSFER_DETAIL_SIZE = 256 };

/* The headers of requests, made once for many of them. */
struct transfer_fields {
    struct curl_slist *list; /* wiped when freed */
    bool complete;           /* with what keeps libcurl from adding its own */
    bool has_type;           /* there is a Content-Type */
};

/* What to ask. Texts are copied by transfer_start; headers and body must stay where they are until
 * the transfer is done or closed. Times are nanoseconds, TRANSPORT_NEVER for no limit. */
struct transfer_request {
    /* Requests of one transport with the same number, not 0, differ in method, url, body and times
     * only: a handle that has served one keeps its other options for the next. */
    uint64_t profile;
    const struct transfer_fields *fields; /* complete; NULL: none */
    const char *method;                   /* upper-case letters */
    const char *url;
    const void *body; /* NULL: none */
    size_t body_len;
    size_t max_body;            /* decoded bytes of the answer */
    int64_t connect_timeout;    /* resolving, connecting, TLS */
    int64_t first_byte_timeout; /* from the request's last byte to the answer's first */
    int64_t idle_timeout;       /* between two pieces of a body, sent or received */
    int64_t total_timeout;
    const char *proxy;       /* URL; NULL or "": none */
    const char *no_proxy;    /* hosts that need no proxy; loopback never does */
    const char *ca_file;     /* one of these two, */
    const char *ca_path;     /* or the system's CAs */
    const char *client_cert; /* PEM; holds the key too where client_key is NULL */
    const char *client_key;
    bool insecure_tls;
    bool http2;
    /* Not 0: the answer is taken piece by piece while it comes. Where this many bytes of it wait in
     * `body`, no more are read from the connection until transfer_taken. max_body does not matter.
     */
    size_t window;
    void (*arrived)(void *ctx); /* called when `head_complete` or `body` has changed; NULL: not */
};

enum transfer_state { TRANSFER_NEW, TRANSFER_ACTIVE, TRANSFER_DONE };

/* What a running transfer waits for; each phase has its own timer. */
enum transfer_phase { PHASE_CONNECT, PHASE_SEND, PHASE_FIRST_BYTE, PHASE_BODY };

struct transfer {
    enum transfer_state state;

    /* The outcome: once the state is TRANSFER_DONE. */
    bool failed;
    struct error error; /* where it failed */
    int status;
    struct buf body;      /* may be moved out; with a window it is read and cleared meanwhile */
    int64_t connect_time; /* nanoseconds since the start, 0 where it did not come to that */
    int64_t first_byte_time;
    int64_t total_time;
    bool reused; /* went over a connection that was open already */

    /* While it runs already. */
    bool head_complete; /* status and headers are there */

    /* Private to net. */
    struct transport *transport;
    struct transfer *next, **link;
    struct transport_handle *handle;
    void *easy; /* the handle's */
    const struct transfer_fields *fields;
    void (*done)(void *ctx);
    void *ctx;
    enum transfer_phase phase;
    int64_t started;
    int64_t mark; /* when the phase began, or last made progress */
    int64_t connect_timeout, first_byte_timeout, idle_timeout, total_timeout;
    int64_t body_size; /* of the request */
    int64_t body_sent;
    bool may_resend; /* the method is idempotent */
    bool connected;  /* the request was, or is being, written */
    size_t window;
    void (*arrived)(void *ctx);
    bool paused; /* the window is full */
    bool draining;
    size_t received;    /* bytes of the body so far; of a draining one, since then */
    size_t encoding;    /* where in `headers` the line is that says the body is compressed, or 0 */
    struct buf headers; /* of the answer: status line and lines, names in lower case */
    size_t header_count;
    size_t header_bytes;
    char origin[TRANSFER_ORIGIN_SIZE]; /* for messages: failure_origin's */
    char proxy[TRANSFER_ORIGIN_SIZE];  /* for messages: its URL without path and userinfo, or "" */
    char detail[TRANSFER_DETAIL_SIZE]; /* what libcurl says */
};

/* A name or value inside the transfer's memory; no NUL at its end. */
struct transfer_text {
    const char *data;
    size_t len;
};

/* Adds a header; the text is copied. Spaces around the value are dropped. False with a usage error
 * where the name is no token, is one that the transport sets itself, or the value has a control
 * byte. The error never shows the value. */
bool transfer_fields_add(struct transfer_fields *f, const char *name, size_t name_len,
                         const char *value, size_t len, struct error *err);

/* Ends the adding. False with `err` set where memory is out. */
bool transfer_fields_complete(struct transfer_fields *f, struct error *err);

/* Wipes and frees. No transfer may run that uses them. */
void transfer_fields_free(struct transfer_fields *f);

/* Makes *x a transfer that holds nothing. */
void transfer_init(struct transfer *x);

/* Starts it; from then on *x must not move. `done` is called once, from transport_dispatch, and
 * must not start or close transfers; it is not called after transfer_close. False with `err` set
 * where it can not start: nothing was sent then. */
bool transfer_start(struct transfer *x, struct transport *t, const struct transfer_request *request,
                    void (*done)(void *ctx), void *ctx, struct error *err);

/* Tells that `body` was read and cleared: what was held back may come. Calls neither `done` nor,
 * for bytes that libcurl held already, anything but `arrived`. */
void transfer_taken(struct transfer *x);

/* Lets the rest of the answer come and go, for `limit` nanoseconds at the most, so that its
 * connection can serve the next request. Of more than a few bytes the connection is closed. `done`
 * is called in the end, `arrived` no more. */
void transfer_drain(struct transfer *x, int64_t limit);

/* Ends it at once, without waiting for the network or the resolver, and frees what it holds. Any
 * number of times, in any state, before or after its transport is gone. */
void transfer_close(struct transfer *x);

/* The reason phrase in the head of an answer (a transfer's `headers`), maybe empty. */
struct transfer_text transfer_reason(struct transfer_text head);

/* The headers in a head one by one: start with *offset 0; false after the last. Names are in lower
 * case; lines that are no header are left out. */
bool transfer_next_header(struct transfer_text head, size_t *offset, struct transfer_text *name,
                          struct transfer_text *value);

#endif
