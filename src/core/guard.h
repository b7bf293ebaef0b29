/* What a server refuses before anybody reads the request: framing that two parsers could read in
 * two ways (RFC 9112 section 6.3), and requests that a browser was tricked into (spec
 * reliability.md 8: a loopback address keeps no browser out). Plain text in, a verdict out. */
#ifndef MOONFLOW_CORE_GUARD_H
#define MOONFLOW_CORE_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A header that a request may have once: how often it came, and the last value (NULL: none). */
struct guard_header {
    const char *value;
    unsigned count;
};

/* What of a request is looked at. Values end in a NUL. */
struct guard_request {
    struct guard_header host;
    struct guard_header origin;
    struct guard_header length; /* Content-Length */
    struct guard_header coding; /* Transfer-Encoding */
    bool loopback_only;         /* the server has a loopback address: other names are refused */
    bool host_required;         /* HTTP/1.1 */
    const char *name;           /* the server's own, which is fine as well; NULL: none */
    int port;                   /* the server's own */
    uint64_t max_body;          /* bytes */
};

struct guard_refusal {
    int status;
    const char *message;
};

/* Why the request is refused, static; NULL where it is fine. */
const struct guard_refusal *guard_check(const struct guard_request *request);

/* Whether a header's name and value are what they must be: a token, and no control characters. */
bool guard_is_line(const char *name, const char *value);

/* Whether a Host header names this machine: localhost, 127.0.0.1 or [::1], alone or with this port.
 */
bool guard_is_loopback(const char *host, int port);

/* Whether an Origin header is that of a page which the server itself gave: "http://" or "https://"
 * and the text of the Host header. */
bool guard_is_same_origin(const char *origin, const char *host);

#endif
