/* This side of the tests of transfers: one transport, and a request to start from. */
#ifndef MOONFLOW_TESTS_TRANSFERS_H
#define MOONFLOW_TESTS_TRANSFERS_H

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/transfer.h"
#include "net/transport.h"
#include "script_server.h"

#define SECOND INT64_C(1000000000)
#define HEAD "HTTP/1.1 200 OK\r\n"

static struct transport *transport;

static struct transfer_fields no_fields;

static inline struct transfer_request get(const char *url) {
    return (struct transfer_request){
        .fields = &no_fields,
        .method = "GET",
        .url = url,
        .max_body = 1 << 20,
        .connect_timeout = 5 * SECOND,
        .first_byte_timeout = 5 * SECOND,
        .idle_timeout = 5 * SECOND,
        .total_timeout = TRANSPORT_NEVER,
    };
}

static inline bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static inline int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static inline void turn(void) {
    int64_t left = transport_deadline(transport) - now();
    int64_t ms = left / 1000000 + 1;
    transport_wait(transport, NULL, 0, ms < 0 ? 0 : ms < 1000 ? (int)ms : 1000);
    transport_dispatch(transport);
}

static inline const char *url_of(const struct server *s, const char *path) {
    static char url[256];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", s->port, path);
    return url;
}

#endif
