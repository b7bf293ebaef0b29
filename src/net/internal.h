/* What the files of net know of each other, and nobody else. */
#ifndef MOONFLOW_NET_INTERNAL_H
#define MOONFLOW_NET_INTERNAL_H

#include <curl/curl.h>

#include "net/transfer.h"
#include "net/transport.h"

/* An easy handle and the profile whose options it has; 0: none, or of one request only. */
struct transport_handle {
    CURL *easy;
    uint64_t profile;
    bool used; /* options were set */
};

/* The monotonic clock, nanoseconds. */
int64_t transport_now(void);

/* Lends a handle to the transfer; sets x->handle, x->easy and x->transport. False with `err` set
 * where too many transfers run or memory is out. */
bool transport_lend(struct transport *t, struct transfer *x, struct error *err);

/* Runs the transfer, which has its options now. */
bool transport_run(struct transport *t, struct transfer *x, struct error *err);

/* Makes the transfer's handle forget all its options. */
void transport_clean(struct transfer *x);

/* Ends it: takes its handle back, which keeps nothing that belongs to the transfer alone. */
void transport_return(struct transfer *x);

/* Tells that the transfer's deadline may have come nearer. */
void transport_hurry(struct transport *t, const struct transfer *x);

/* When the transfer's next timer is due: monotonic nanoseconds. */
int64_t transfer_deadline(const struct transfer *x);

/* Ends a running transfer: by libcurl's word, or because its time is up. Calls `done`. */
void transfer_finish(struct transfer *x, CURLcode code);
void transfer_expire(struct transfer *x, int64_t now);

/* Writes scheme, host and port of a URL: what a message may show. */
void transfer_display(char *out, size_t size, const char *url);

/* The origin that a transfer asks, for messages; the transfer still has its handle. Lives in *x. */
const char *failure_origin(struct transfer *x);

/* Writes what went wrong into x->error; the transfer still has its handle. */
void failure_of_code(struct transfer *x, CURLcode code);
void failure_of_timer(struct transfer *x, bool total);

/* For callbacks: fails the transfer with an error of our own, which then stands. */
void failure_set(struct transfer *x, enum error_kind kind, const char *code, const char *phase,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

#endif
