/* Absolute URLs: taking them apart, and building new ones from parts that come from outside. What a
 * URL is for, and whether its scheme can be spoken, is the caller's business. */
#ifndef MOONFLOW_CORE_URL_H
#define MOONFLOW_CORE_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/error.h"

enum {
    URL_MAX = 65536, /* bytes of the longest URL that is read or built */
    URL_SCHEME_SIZE = 32,
    URL_HOST_SIZE = 256,
    URL_ORIGIN_SIZE = URL_SCHEME_SIZE + URL_HOST_SIZE + sizeof "://[]:65535"
};

/* The parts of a URL. `path` and `query` point into the text that was parsed, and are not NUL
 * terminated. */
struct url {
    char scheme[URL_SCHEME_SIZE]; /* lower case */
    char host[URL_HOST_SIZE]; /* lower case; an IPv6 address without brackets, in its one form */
    int port;                 /* the scheme's own where none is written; 0 where it has none */
    const char *path;         /* as written: "" or "/..." */
    size_t path_len;
    const char *query; /* without the "?"; NULL where there is none */
    size_t query_len;
};

/* Takes apart "scheme://host[:port][/path][?query][#fragment]"; the fragment is dropped, as it is
 * never sent. Refuses (kind usage) what different parsers read in different ways: a user name or
 * password, a backslash, a space, a control byte, a byte beyond ASCII, a host that is neither a
 * plain name nor an address. No message holds a part of the text behind the scheme. */
bool url_parse(struct url *url, const char *text, size_t len, struct error *err);

/* Writes "scheme://host:port", brackets around an IPv6 address, the port always there where one is
 * known: equal for two URLs exactly when they name the same origin. */
void url_origin(const struct url *url, char out[URL_ORIGIN_SIZE]);

/* Whether the host, without brackets, is this machine whatever a name server says: 127.0.0.0/8,
 * ::1, localhost and the names below it. */
bool url_is_loopback(const char *host);

/* Appends the text with every byte but RFC 3986's unreserved ones as %XX. False only where the
 * buffer is full. */
bool url_encode(struct buf *out, const char *text, size_t len);

/* Appends "name=value" in a form's encoding (a space is "+"), after an "&" where `out` is not
 * empty. False where the buffer is full. */
bool url_add_pair(struct buf *out, const char *name, size_t name_len, const char *value,
                  size_t value_len);

/* Starts a URL in the empty buffer: scheme, host, port where it is not the usual one, and path of
 * `base`, without slashes at its end. A base with a query is refused (kind usage): what follows
 * would end up in it. */
bool url_start(struct buf *out, const char *base, size_t len, struct error *err);

/* Appends "/" and the text as exactly one path segment. Refuses (kind usage) "", "." and "..",
 * which are not segments of their own, and control bytes. */
bool url_add_segment(struct buf *out, const char *text, size_t len, struct error *err);

/* MLflow's resolve_endpoint_url, into the empty buffer: an endpoint that is a URL itself as it is,
 * else the base with the endpoint behind its path, one slash between, and the base's query kept.
 * Refuses (kind usage) a base whose query holds "..", and a text that no URL can hold. */
bool url_resolve(struct buf *out, const char *base, size_t base_len, const char *endpoint,
                 size_t endpoint_len, struct error *err);

#endif
