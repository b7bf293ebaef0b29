/* The URL parser is deliberately narrower than RFC 3986: everything that it accepts, libcurl reads
 * the same way, so the host that a credential is checked against is the host that gets it. */
#include "core/url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_unreserved(char c) {
    return is_alpha(c) || is_digit(c) || (c != '\0' && strchr("-._~", c) != NULL);
}

static bool is_control(char c) {
    return (unsigned char)c < 0x20 || c == 0x7F;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool refuse(struct error *err, const char *why) {
    return error_set(err, ERROR_USAGE, NULL, "not a usable URL: %s", why);
}

static bool fail_full(struct error *err) {
    return error_set(err, ERROR_USAGE, NULL, "a URL cannot be longer than %d bytes", URL_MAX);
}

/* How far [text, end) goes without any of the bytes in `stops`. */
static const char *find_any(const char *text, const char *end, const char *stops) {
    while (text < end && strchr(stops, *text) == NULL) {
        text++;
    }
    return text;
}

/* Every byte must be one that may stand somewhere in a URL. */
static bool check_bytes(const char *text, size_t len, struct error *err) {
    if (len > URL_MAX) {
        return fail_full(err);
    }
    for (size_t i = 0; i < len; i++) {
        if (is_control(text[i])) {
            return refuse(err, "it holds a control byte");
        }
        if (text[i] == ' ') {
            return refuse(err, "it holds a space");
        }
        if (text[i] == '\\') {
            return refuse(err, "it holds a backslash");
        }
        if ((unsigned char)text[i] > 0x7E) {
            refuse(err, "it holds a character beyond ASCII");
            error_hint(err, "percent-encode it in a path; write a host name in its xn-- form");
            return false;
        }
    }
    return true;
}

static bool may_follow_in_scheme(char c) {
    return is_alpha(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
}

/* Length of the scheme at the start of the text, 0 where there is no "scheme://". */
static size_t scheme_length(const char *text, size_t len) {
    if (len == 0 || !is_alpha(*text)) {
        return 0;
    }
    size_t n = 1;
    while (n < len && may_follow_in_scheme(text[n])) {
        n++;
    }
    return len - n >= 3 && memcmp(text + n, "://", 3) == 0 ? n : 0;
}

static int default_port(const char *scheme) {
    if (strcmp(scheme, "http") == 0) {
        return 80;
    }
    return strcmp(scheme, "https") == 0 ? 443 : 0;
}

static bool read_scheme(struct url *url, const char *text, size_t n, struct error *err) {
    if (n == 0) {
        refuse(err, "it does not start with a scheme and \"://\"");
        error_hint(err, "write it whole, as in http://localhost:5000");
        return false;
    }
    if (n >= sizeof url->scheme) {
        return refuse(err, "its scheme is too long");
    }
    for (size_t i = 0; i < n; i++) {
        url->scheme[i] = lower(text[i]);
    }
    url->scheme[n] = '\0';
    return true;
}

static bool read_address(struct url *url, const char *text, size_t n, struct error *err) {
    char written[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (n >= sizeof written) {
        return refuse(err, "what is in brackets is no IPv6 address");
    }
    memcpy(written, text, n);
    written[n] = '\0';
    if (inet_pton(AF_INET6, written, &address) != 1) {
        return refuse(err, "what is in brackets is no IPv6 address");
    }
    inet_ntop(AF_INET6, &address, url->host, sizeof url->host);
    return true;
}

static bool read_name(struct url *url, const char *text, size_t n, struct error *err) {
    if (n == 0) {
        return refuse(err, "it has no host");
    }
    if (n >= sizeof url->host) {
        return refuse(err, "its host is too long");
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_alpha(text[i]) && !is_digit(text[i]) && strchr("-._", text[i]) == NULL) {
            return refuse(err, "its host holds a character that no host name has");
        }
        url->host[i] = lower(text[i]);
    }
    url->host[n] = '\0';
    return true;
}

/* The text behind the host's colon. */
static bool read_port(struct url *url, const char *text, size_t n, struct error *err) {
    int port = 0;
    for (size_t i = 0; i < n && port <= 65535; i++) {
        if (!is_digit(text[i])) {
            return refuse(err, "its port is not a number");
        }
        port = port * 10 + (text[i] - '0');
    }
    if (port < 1 || port > 65535) {
        return refuse(err, "its port is not between 1 and 65535");
    }
    url->port = port;
    return true;
}

static bool read_authority(struct url *url, const char *text, const char *end, struct error *err) {
    if (memchr(text, '@', (size_t)(end - text)) != NULL) {
        refuse(err, "it holds a user name or a password");
        error_hint(err, "give credentials as options or in the environment");
        return false;
    }
    const char *colon;
    if (text < end && *text == '[') {
        const char *close = memchr(text, ']', (size_t)(end - text));
        if (close == NULL) {
            return refuse(err, "a bracket is not closed");
        }
        if (!read_address(url, text + 1, (size_t)(close - text - 1), err)) {
            return false;
        }
        colon = close + 1;
        if (colon < end && *colon != ':') {
            return refuse(err, "something stands between its host and its port");
        }
    } else {
        colon = find_any(text, end, ":");
        if (!read_name(url, text, (size_t)(colon - text), err)) {
            return false;
        }
    }
    url->port = default_port(url->scheme);
    return colon == end || read_port(url, colon + 1, (size_t)(end - colon - 1), err);
}

bool url_parse(struct url *url, const char *text, size_t len, struct error *err) {
    *url = (struct url){0};
    size_t n = scheme_length(text, len);
    if (!check_bytes(text, len, err) || !read_scheme(url, text, n, err)) {
        return false;
    }
    const char *authority = text + n + strlen("://");
    const char *end = find_any(authority, text + len, "#");
    const char *path = find_any(authority, end, "/?");
    const char *question = find_any(path, end, "?");
    if (!read_authority(url, authority, path, err)) {
        return false;
    }
    url->path = path;
    url->path_len = (size_t)(question - path);
    if (question < end) {
        url->query = question + 1;
        url->query_len = (size_t)(end - question - 1);
    }
    return true;
}

/* "scheme://host" and, where `port` is not 0, ":port". */
static void write_origin(const struct url *url, int port, char out[URL_ORIGIN_SIZE]) {
    bool is_ipv6 = strchr(url->host, ':') != NULL;
    int n = snprintf(out, URL_ORIGIN_SIZE, "%s://%s%s%s", url->scheme, is_ipv6 ? "[" : "",
                     url->host, is_ipv6 ? "]" : "");
    if (port != 0) {
        snprintf(out + n, URL_ORIGIN_SIZE - (size_t)n, ":%d", port);
    }
}

void url_origin(const struct url *url, char out[URL_ORIGIN_SIZE]) {
    write_origin(url, url->port, out);
}

bool url_is_loopback(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        return memcmp(&v6, &in6addr_loopback, sizeof v6) == 0;
    }
    static const char name[] = "localhost";
    size_t len = strlen(host);
    size_t name_len = sizeof name - 1;
    if (len < name_len || strcasecmp(host + len - name_len, name) != 0) {
        return false;
    }
    return len == name_len || host[len - name_len - 1] == '.';
}

static bool encode(struct buf *out, const char *text, size_t len, bool plus_for_space) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        char escaped[] = {'%', hex[c >> 4], hex[c & 15]};
        bool done = is_unreserved(text[i])             ? buf_putc(out, text[i])
                    : plus_for_space && text[i] == ' ' ? buf_putc(out, '+')
                                                       : buf_append(out, escaped, sizeof escaped);
        if (!done) {
            return false;
        }
    }
    return true;
}

bool url_encode(struct buf *out, const char *text, size_t len) {
    return encode(out, text, len, false);
}

bool url_add_pair(struct buf *out, const char *name, size_t name_len, const char *value,
                  size_t value_len) {
    return (out->len == 0 || buf_putc(out, '&')) && encode(out, name, name_len, true) &&
           buf_putc(out, '=') && encode(out, value, value_len, true);
}

/* Scheme, host, port where it is not the usual one, and path without slashes at its end. */
static bool write_base(struct buf *out, const struct url *url) {
    char origin[URL_ORIGIN_SIZE];
    write_origin(url, url->port == default_port(url->scheme) ? 0 : url->port, origin);
    size_t path_len = url->path_len;
    while (path_len > 0 && url->path[path_len - 1] == '/') {
        path_len--;
    }
    return buf_puts(out, origin) && buf_append(out, url->path, path_len);
}

bool url_start(struct buf *out, const char *base, size_t len, struct error *err) {
    struct url url;
    if (!url_parse(&url, base, len, err)) {
        return false;
    }
    if (url.query != NULL) {
        return error_set(err, ERROR_USAGE, NULL, "a base URL cannot have a query");
    }
    return write_base(out, &url) || fail_full(err);
}

bool url_add_segment(struct buf *out, const char *text, size_t len, struct error *err) {
    if (len == 0) {
        return error_set(err, ERROR_USAGE, NULL, "a name in a URL cannot be empty");
    }
    if (text[0] == '.' && (len == 1 || (len == 2 && text[1] == '.'))) {
        return error_set(err, ERROR_USAGE, NULL, "a name in a URL cannot be \"%.*s\"", (int)len,
                         text);
    }
    for (size_t i = 0; i < len; i++) {
        if (is_control(text[i])) {
            return error_set(err, ERROR_USAGE, NULL, "a name in a URL cannot hold a control byte");
        }
    }
    return (buf_putc(out, '/') && url_encode(out, text, len)) || fail_full(err);
}

/* Whether the query holds two dots in a row, written plainly or as %2E. */
static bool climbs(const char *query, size_t len) {
    int dots = 0;
    for (size_t i = 0; i < len && dots < 2; i++) {
        if (query[i] == '.') {
            dots++;
        } else if (len - i >= 3 && strncasecmp(query + i, "%2e", 3) == 0) {
            dots++;
            i += 2;
        } else {
            dots = 0;
        }
    }
    return dots == 2;
}

bool url_resolve(struct buf *out, const char *base, size_t base_len, const char *endpoint,
                 size_t endpoint_len, struct error *err) {
    struct url url;
    if (!check_bytes(endpoint, endpoint_len, err)) {
        return false;
    }
    size_t scheme_len = scheme_length(endpoint, endpoint_len);
    const char *authority = endpoint + scheme_len + strlen("://");
    if (scheme_len > 0 && authority < endpoint + endpoint_len &&
        strchr("/?#", *authority) == NULL) {
        return buf_append(out, endpoint, endpoint_len) || fail_full(err);
    }
    if (!url_parse(&url, base, base_len, err)) {
        return false;
    }
    if (climbs(url.query, url.query_len)) {
        return error_set(err, ERROR_USAGE, NULL, "the query of a base URL cannot hold \"..\"");
    }
    while (endpoint_len > 0 && *endpoint == '/') {
        endpoint++;
        endpoint_len--;
    }
    bool done =
        write_base(out, &url) && buf_putc(out, '/') && buf_append(out, endpoint, endpoint_len) &&
        (url.query == NULL || (buf_putc(out, '?') && buf_append(out, url.query, url.query_len)));
    return done || fail_full(err);
}
