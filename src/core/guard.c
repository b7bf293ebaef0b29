#include "core/guard.h"

#include <string.h>
#include <strings.h>

enum { PORT_MAX = 65535 };

/* Reads digits and nothing else. False where there are none, or the number passes `max`, in which
 * case *value is `max`. */
static bool read_number(const char *text, uint64_t max, uint64_t *value) {
    *value = 0;
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(*text - '0');
        if (*value > (max - digit) / 10) {
            *value = max;
        } else {
            *value = *value * 10 + digit;
        }
    }
    return true;
}

bool guard_is_line(const char *name, const char *value) {
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (*name == '\0' || name[strspn(name, token)] != '\0') {
        return false;
    }
    for (; *value != '\0'; value++) {
        if (((unsigned char)*value < ' ' && *value != '\t') || *value == 0x7F) {
            return false;
        }
    }
    return true;
}

/* Whether a Host header is this name, alone or with this port. */
static bool is_named(const char *host, const char *name, int port) {
    uint64_t number;
    size_t len = strlen(name);
    if (strncasecmp(host, name, len) != 0) {
        return false;
    }
    return host[len] == '\0' ||
           (host[len] == ':' && read_number(host + len + 1, PORT_MAX, &number) &&
            number == (uint64_t)port);
}

bool guard_is_loopback(const char *host, int port) {
    return is_named(host, "localhost", port) || is_named(host, "127.0.0.1", port) ||
           is_named(host, "[::1]", port);
}

bool guard_is_same_origin(const char *origin, const char *host) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t len = strlen(schemes[i]);
        if (strncasecmp(origin, schemes[i], len) == 0) {
            return strcasecmp(origin + len, host) == 0;
        }
    }
    return false;
}

/* Whether the text is one that can be a host and a port: what is printed back must be harmless. */
static bool is_authority(const char *text) {
    enum { LONGEST = 262 };
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._~:[]";
    size_t len = strspn(text, allowed);
    return len > 0 && len <= LONGEST && text[len] == '\0';
}

static const struct guard_refusal *check_framing(const struct guard_request *r) {
    static const struct guard_refusal two_lengths = {400, "more than one Content-Length"};
    static const struct guard_refusal both = {400, "both Content-Length and Transfer-Encoding"};
    static const struct guard_refusal bad_length = {400, "a Content-Length that is no number"};
    static const struct guard_refusal bad_coding = {501,
                                                    "only the transfer coding chunked is known"};
    static const struct guard_refusal too_large = {413, "the body is larger than the limit"};
    uint64_t length;
    if (r->length.count > 1) {
        return &two_lengths;
    }
    if (r->coding.count > 0 && r->length.count > 0) {
        return &both;
    }
    if (r->coding.count > 1 ||
        (r->coding.count == 1 && strcasecmp(r->coding.value, "chunked") != 0)) {
        return &bad_coding;
    }
    if (r->length.count == 1) {
        if (!read_number(r->length.value, UINT64_MAX, &length)) {
            return &bad_length;
        }
        if (length > r->max_body) {
            return &too_large;
        }
    }
    return NULL;
}

static const struct guard_refusal *check_host(const struct guard_request *r) {
    static const struct guard_refusal two_hosts = {400, "more than one Host"};
    static const struct guard_refusal no_host = {400, "no Host header"};
    static const struct guard_refusal bad_host = {400, "a Host header that is no host"};
    static const struct guard_refusal foreign_host = {
        403, "this server answers to localhost, 127.0.0.1 and [::1] only"};
    static const struct guard_refusal foreign_origin = {
        403, "requests from pages of other sites are refused"};
    if (r->host.count > 1 || r->origin.count > 1) {
        return &two_hosts;
    }
    if (r->host.count == 0) {
        return r->host_required ? &no_host : r->origin.count > 0 ? &foreign_origin : NULL;
    }
    if (!is_authority(r->host.value)) {
        return &bad_host;
    }
    if (r->loopback_only && !guard_is_loopback(r->host.value, r->port) &&
        (r->name == NULL || !is_named(r->host.value, r->name, r->port))) {
        return &foreign_host;
    }
    if (r->origin.count > 0 && !guard_is_same_origin(r->origin.value, r->host.value)) {
        return &foreign_origin;
    }
    return NULL;
}

const struct guard_refusal *guard_check(const struct guard_request *request) {
    const struct guard_refusal *refusal = check_framing(request);
    return refusal != NULL ? refusal : check_host(request);
}
