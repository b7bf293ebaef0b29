/* The loop side of HTTP: one libcurl multi handle with its connections, TLS sessions and a pool of
 * easy handles. A transport waits for its own sockets and the caller's, moves bytes, and fires the
 * timers of its transfers. It knows neither Lua nor tasks. Not for use by two threads at once. */
#ifndef MOONFLOW_NET_TRANSPORT_H
#define MOONFLOW_NET_TRANSPORT_H

#include <poll.h>
#include <stdint.h>

#include "core/error.h"

#define TRANSPORT_NEVER INT64_MAX

struct transport;

/* A new transport, or NULL with `err` set. Raises the soft limit of open files as far as the hard
 * one allows; how many transfers may run at once follows from it. */
struct transport *transport_new(struct error *err);

/* Drops every connection. Transfers that still run are closed without their `done` being called.
 * NULL is fine. */
void transport_free(struct transport *t);

/* Waits until a socket of a transfer or one of extra[0..n-1] is ready, or timeout_ms has passed;
 * negative waits as long as libcurl has nothing to do. Fills in the revents of `extra`, as far
 * as libcurl tells them: POLLIN, POLLPRI, POLLOUT. May come back early. */
void transport_wait(struct transport *t, struct pollfd *extra, int n, int timeout_ms);

/* Moves bytes, and ends what is complete, has failed or is out of time, calling `done` of each.
 * Never blocks. */
void transport_dispatch(struct transport *t);

/* When transport_dispatch must run at the latest, for our own timers (libcurl's are kept by
 * transport_wait): monotonic nanoseconds; TRANSPORT_NEVER where no transfer runs. */
int64_t transport_deadline(const struct transport *t);

/* The versions of libcurl and of the libraries it uses, as libcurl writes them. */
const char *transport_version(void);

#endif
