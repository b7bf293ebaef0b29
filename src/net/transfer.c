#include "net/transfer.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "net/internal.h"
#include "net/options.h"

enum {
    DRAIN_MAX = 16 * 1024,         /* bytes that are worth a new connection */
    LINE_SIZE = 1024 * 1024,       /* of one request header */
    PIECE_MAX = CURL_MAX_READ_SIZE /* bytes that libcurl hands over at once: not beyond its largest
                                      buffer */
};

_Static_assert(TRANSFER_DETAIL_SIZE >= CURL_ERROR_SIZE, "libcurl writes its error there");

/* Text */

/* RFC 9110: a header's name, a method. */
static bool is_token(const char *text, size_t len) {
    static const char TOKEN[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\0' || strchr(TOKEN, text[i]) == NULL) {
            return false;
        }
    }
    return len > 0;
}

static bool is_method(const char *text) {
    size_t len = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return len > 0 && len <= 16 && text[len] == '\0' && strcmp(text, "CONNECT") != 0;
}

static bool is_named(const char *name, size_t len, const char *wanted) {
    return strlen(wanted) == len && strncasecmp(name, wanted, len) == 0;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static struct transfer_text trim(const char *data, size_t len) {
    while (len > 0 && is_blank(data[0])) {
        data++;
        len--;
    }
    while (len > 0 && (is_blank(data[len - 1]) || data[len - 1] == '\r' || data[len - 1] == '\n')) {
        len--;
    }
    return (struct transfer_text){.data = data, .len = len};
}

void transfer_display(char *out, size_t size, const char *url) {
    const char *rest = strstr(url, "://");
    rest = rest != NULL ? rest + 3 : url;
    size_t scheme = (size_t)(rest - url);
    size_t len = strcspn(rest, "/?#\\");
    for (size_t i = len; i > 0; i--) {
        if (rest[i - 1] == '@') {
            rest += i;
            len -= i;
            break;
        }
    }
    snprintf(out, size, "%.*s%.*s", (int)scheme, url, (int)len, rest);
}

/* The request */

static bool add_line(struct transfer_fields *f, const char *line) {
    struct curl_slist *list = curl_slist_append(f->list, line);
    if (list == NULL) {
        return false;
    }
    f->list = list;
    return true;
}

static bool check_header(const char *name, size_t name_len, const char *value, size_t len,
                         struct error *err) {
    static const char *const OURS[] = {
        "Connection", "Content-Length",      "Expect",           "Host",
        "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "TE",
        "Trailer",    "Transfer-Encoding",   "Upgrade",
    };
    if (!is_token(name, name_len)) {
        return error_set(err, ERROR_USAGE, NULL, "not a name for a header: it must be a token");
    }
    for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++) {
        if (is_named(name, name_len, OURS[i])) {
            return error_set(err, ERROR_USAGE, NULL,
                             "the header %s is set by the transport, not by a request", OURS[i]);
        }
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return error_set(err, ERROR_USAGE, NULL,
                             "the value of the header %.*s has a control byte", (int)name_len,
                             name);
        }
    }
    return true;
}

bool transfer_fields_add(struct transfer_fields *f, const char *name, size_t name_len,
                         const char *value, size_t len, struct error *err) {
    if (!check_header(name, name_len, value, len, err)) {
        return false;
    }
    struct transfer_text text = trim(value, len);
    struct buf line;
    buf_init(&line, LINE_SIZE);
    /* libcurl takes "name:" as a wish to leave the header out, and "name;" as an empty one. */
    bool ok = buf_append(&line, name, name_len) && buf_puts(&line, text.len > 0 ? ": " : ";") &&
              buf_append(&line, text.data, text.len) && add_line(f, line.data);
    buf_wipe(&line);
    f->has_type = f->has_type || is_named(name, name_len, "Content-Type");
    return ok ||
           error_set(err, ERROR_USAGE, NULL, "the header %.*s is too long", (int)name_len, name);
}

bool transfer_fields_complete(struct transfer_fields *f, struct error *err) {
    f->complete = add_line(f, "Expect:") && (f->has_type || add_line(f, "Content-Type:"));
    return f->complete || error_set(err, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "out of memory");
}

void transfer_fields_free(struct transfer_fields *f) {
    for (struct curl_slist *field = f->list; field != NULL; field = field->next) {
        explicit_bzero(field->data, strlen(field->data));
    }
    curl_slist_free_all(f->list);
    memset(f, 0, sizeof *f);
}

void transfer_init(struct transfer *x) {
    memset(x, 0, sizeof *x);
    buf_init(&x->headers, TRANSFER_HEADER_BYTES);
}

/* Timers */

/* Never NEVER: what runs can end, whatever its timeouts. */
static int64_t after(int64_t start, int64_t timeout) {
    return timeout < TRANSPORT_NEVER - start ? start + timeout : TRANSPORT_NEVER - 1;
}

static int64_t phase_deadline(const struct transfer *x) {
    switch (x->phase) {
    case PHASE_CONNECT:
        return after(x->mark, x->connect_timeout);
    case PHASE_FIRST_BYTE:
        return after(x->mark, x->first_byte_timeout);
    case PHASE_SEND:
    case PHASE_BODY:
        break;
    }
    return after(x->mark, x->idle_timeout);
}

/* What is held back because nobody reads it is no silence of the server's. */
int64_t transfer_deadline(const struct transfer *x) {
    int64_t total = after(x->started, x->total_timeout);
    int64_t phase = x->paused ? TRANSPORT_NEVER : phase_deadline(x);
    return total < phase ? total : phase;
}

static void enter(struct transfer *x, enum transfer_phase phase) {
    x->phase = phase;
    x->mark = transport_now();
    transport_hurry(x->transport, x);
}

/* Libcurl's callbacks */

/* A connection is there and the request is about to be written. That happens twice where libcurl
 * finds a connection from the pool dead and takes another; a request that must not be repeated,
 * and of which a byte is gone, ends then. */
static int on_connected(void *ctx, char *ip, char *local_ip, int port, int local_port) {
    (void)ip, (void)local_ip, (void)port, (void)local_port;
    struct transfer *x = ctx;
    long size = 0;
    if (x->connected && !x->may_resend &&
        curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &size) == CURLE_OK && size > 0) {
        failure_of_code(x, CURLE_GOT_NOTHING);
        return CURL_PREREQFUNC_ABORT;
    }
    x->connected = true;
    x->body_sent = 0;
    enter(x, x->body_size > 0 ? PHASE_SEND : PHASE_FIRST_BYTE);
    x->connect_time = x->mark - x->started;
    return CURL_PREREQFUNC_OK;
}

static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up) {
    (void)down_total, (void)down, (void)up_total;
    struct transfer *x = ctx;
    if (x->phase == PHASE_SEND && up != x->body_sent) {
        x->body_sent = up;
        enter(x, up < x->body_size ? PHASE_SEND : PHASE_FIRST_BYTE);
    }
    return 0;
}

/* "HTTP/1.1 200 OK" -> 200; 0 where there is no status. */
static int parse_status(const char *line, size_t len) {
    int status = 0;
    size_t at = 0;
    while (at < len && line[at] != ' ') {
        at++;
    }
    for (at++; at < len && line[at] >= '0' && line[at] <= '9' && status < 1000; at++) {
        status = status * 10 + (line[at] - '0');
    }
    return status;
}

/* Whether a header line, its name in lower case, says that the body is compressed. We never ask for
 * that, so such an answer is one that we can not read. */
static bool is_encoding(const char *line, size_t len) {
    static const char NAME[] = "content-encoding:";
    if (len < sizeof NAME - 1 || memcmp(line, NAME, sizeof NAME - 1) != 0) {
        return false;
    }
    struct transfer_text value = trim(line + sizeof NAME - 1, len - (sizeof NAME - 1));
    return value.len > 0 && !is_named(value.data, value.len, "identity");
}

/* Keeps a line; the names of headers are made comparable here, once. */
static void keep_line(struct transfer *x, const char *line, size_t len) {
    size_t start = x->headers.len;
    if (!buf_append(&x->headers, line, len)) {
        failure_set(x, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "first byte", "out of memory");
        return;
    }
    for (size_t i = start; start > 0 && i < x->headers.len && x->headers.data[i] != ':'; i++) {
        char c = x->headers.data[i];
        x->headers.data[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    if (start > 0 && is_encoding(x->headers.data + start, len)) {
        x->encoding = start;
    }
}

/* An interim answer (1xx) neither ends the wait for the first byte nor leaves its headers. */
static void start_answer(struct transfer *x, const char *line, size_t len) {
    x->status = parse_status(line, len);
    x->encoding = 0;
    buf_clear(&x->headers);
    keep_line(x, line, len);
    if (x->status >= 200) {
        enter(x, PHASE_BODY);
        x->first_byte_time = x->mark - x->started;
    }
}

static void tell(struct transfer *x) {
    if (x->arrived != NULL) {
        x->arrived(x->ctx);
    }
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx) {
    struct transfer *x = ctx;
    size_t len = size * n;
    x->header_bytes += len;
    if (++x->header_count > TRANSFER_HEADERS || x->header_bytes > TRANSFER_HEADER_BYTES) {
        failure_set(x, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "first byte",
                    "the answer from %s has more headers than the limit of %d, or of %d KiB",
                    failure_origin(x), TRANSFER_HEADERS, TRANSFER_HEADER_BYTES / 1024);
    } else if (x->status < 200 && len > 5 && memcmp(line, "HTTP/", 5) == 0) {
        start_answer(x, line, len);
    } else if (!x->head_complete && trim(line, len).len > 0) {
        keep_line(x, line, len);
    } else if (x->status >= 200 && !x->head_complete) {
        x->head_complete = true; /* what comes after the blank line is a trailer */
        tell(x);
    }
    return x->failed ? 0 : len;
}

static void fail_encoding(struct transfer *x) {
    enum { SHOWN = 32 };
    const char *line = x->headers.data + x->encoding;
    const char *value = strchr(line, ':') + 1;
    struct transfer_text text = trim(value, strcspn(value, "\r\n"));
    failure_set(x, ERROR_DECODE, NULL, "body",
                "the answer from %s is encoded (%.*s), although that was not asked for",
                failure_origin(x), text.len < SHOWN ? (int)text.len : SHOWN, text.data);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *ctx) {
    struct transfer *x = ctx;
    size_t len = size * n;
    x->mark = transport_now();
    if (x->draining) {
        x->received += len;
        return x->received <= DRAIN_MAX ? len : 0;
    }
    if (x->window > 0 && x->body.len >= x->window) {
        x->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (x->encoding != 0) {
        fail_encoding(x);
    } else if (len > x->body.max - x->body.len) {
        failure_of_code(x, CURLE_FILESIZE_EXCEEDED);
    } else if (!buf_append(&x->body, bytes, len)) {
        failure_set(x, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "body",
                    "out of memory after %zu bytes of the answer", x->received);
    }
    x->received += len;
    tell(x);
    return x->failed ? 0 : len;
}

/* Setting up */

static CURLcode apply(CURL *easy, const struct option *option) {
    CURLoption id = (CURLoption)option->id;
    switch (option->type) {
    case OPTION_LONG:
        return curl_easy_setopt(easy, id, (long)option->number);
    case OPTION_SIZE:
        return curl_easy_setopt(easy, id, (curl_off_t)option->number);
    case OPTION_TEXT:
        break;
    }
    return curl_easy_setopt(easy, id, option->text);
}

static CURLcode apply_options(CURL *easy, const struct transfer_request *request, bool all) {
    struct options options;
    CURLcode code = options_init(&options, request, all) ? CURLE_OK : CURLE_OUT_OF_MEMORY;
    for (size_t i = 0; code == CURLE_OK && i < options.count; i++) {
        code = apply(easy, &options.list[i]);
    }
    options_free(&options);
    return code;
}

/* A method that usually has a body announces one of no bytes. */
static bool has_body(const struct transfer_request *request) {
    const char *method = request->method;
    return request->body != NULL || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "PATCH") == 0;
}

static CURLcode apply_method(CURL *easy, const struct transfer_request *request) {
    const char *method = request->method;
    bool body = has_body(request);
    if (strcmp(method, "HEAD") == 0) {
        return curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    }
    CURLcode code = curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    if (code == CURLE_OK && body) {
        code = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
    }
    if (code == CURLE_OK && body) {
        code = curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                                request->body != NULL ? (const char *)request->body : "");
    }
    return code == CURLE_OK ? curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method) : code;
}

static bool apply_callbacks(struct transfer *x) {
    CURL *easy = x->easy;
    return curl_easy_setopt(easy, CURLOPT_PRIVATE, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->fields != NULL ? x->fields->list : NULL) ==
               CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->detail) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PREREQDATA, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERDATA, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_XFERINFODATA, x) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOPROGRESS, x->body_size > 0 ? 0L : 1L) == CURLE_OK;
}

/* The one place where a handle is set up. One that has served the request's profile has most of it
 * already. */
static bool set_up(struct transfer *x, const struct transfer_request *request, struct error *err) {
    bool all = request->profile == 0 || x->handle->profile != request->profile;
    if (all) {
        transport_clean(x);
    }
    CURLcode code = apply_options(x->easy, request, all);
    if (code == CURLE_OK) {
        code = apply_method(x->easy, request);
    }
    if (code == CURLE_OK && !apply_callbacks(x)) {
        code = CURLE_UNKNOWN_OPTION;
    }
    if (code == CURLE_OK) {
        x->handle->profile = request->profile;
    }
    return code == CURLE_OK ||
           error_set(err, ERROR_CONFIG, NULL, "libcurl refuses an option of the request: %s",
                     curl_easy_strerror(code));
}

static bool is_idempotent(const char *method) {
    return strcmp(method, "POST") != 0 && strcmp(method, "PATCH") != 0;
}

static void describe(struct transfer *x, const struct transfer_request *request) {
    if (request->proxy != NULL) {
        transfer_display(x->proxy, sizeof x->proxy, request->proxy);
    }
    x->fields = request->fields;
    x->may_resend = is_idempotent(request->method);
    x->body_size = (int64_t)request->body_len;
    x->connect_timeout = request->connect_timeout;
    x->first_byte_timeout = request->first_byte_timeout;
    x->idle_timeout = request->idle_timeout;
    x->total_timeout = request->total_timeout;
    x->window = request->window;
    x->arrived = request->arrived;
    buf_init(&x->body, request->window > 0 ? request->window + PIECE_MAX : request->max_body);
    x->started = transport_now();
    x->mark = x->started;
}

static bool check_request(const struct transfer_request *request, struct error *err) {
    if (!is_method(request->method)) {
        return error_set(err, ERROR_USAGE, NULL, "not an HTTP method: upper-case letters");
    }
    if (request->body != NULL && strcmp(request->method, "HEAD") == 0) {
        return error_set(err, ERROR_USAGE, NULL, "a HEAD request has no body");
    }
    if (request->proxy != NULL && *request->proxy != '\0' && !options_can_proxy(request->proxy)) {
        return error_set(err, ERROR_CONFIG, NULL,
                         "the proxy's URL can not be used: http, https, socks4, socks4a, socks5 or "
                         "socks5h, and a host");
    }
    return true;
}

bool transfer_start(struct transfer *x, struct transport *t, const struct transfer_request *request,
                    void (*done)(void *ctx), void *ctx, struct error *err) {
    if (!check_request(request, err)) {
        return false;
    }
    describe(x, request);
    x->done = done;
    x->ctx = ctx;
    x->state = TRANSFER_ACTIVE;
    if (!transport_lend(t, x, err) || !set_up(x, request, err) || !transport_run(t, x, err)) {
        transfer_close(x);
        return false;
    }
    return true;
}

/* The end */

static void measure(struct transfer *x) {
    if (x->easy != NULL) {
        long connects = 1;
        curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &connects);
        x->reused = connects == 0;
        x->total_time = transport_now() - x->started;
    }
}

/* Gives back all that only a running transfer needs. */
static void release(struct transfer *x) {
    measure(x);
    transport_return(x);
    x->state = TRANSFER_DONE;
}

void transfer_finish(struct transfer *x, CURLcode code) {
    /* libcurl takes an end of the connection among the headers for the end of the answer. */
    if (code == CURLE_OK && !x->head_complete) {
        code = CURLE_PARTIAL_FILE;
    }
    /* A server that has answered with an error need not take the rest of the request. */
    bool refused = code == CURLE_SEND_ERROR && x->head_complete && x->status >= 400;
    if (!x->failed && code != CURLE_OK && !refused) {
        failure_of_code(x, code);
    }
    release(x);
    x->done(x->ctx);
}

void transfer_expire(struct transfer *x, int64_t now) {
    failure_of_timer(x, after(x->started, x->total_timeout) <= now);
    transfer_finish(x, CURLE_OPERATION_TIMEDOUT);
}

void transfer_taken(struct transfer *x) {
    if (x->paused && x->state == TRANSFER_ACTIVE) {
        x->paused = false;
        x->mark = transport_now();
        transport_hurry(x->transport, x);
        curl_easy_pause(x->easy, CURLPAUSE_CONT);
    }
}

void transfer_drain(struct transfer *x, int64_t limit) {
    if (x->state != TRANSFER_ACTIVE) {
        return;
    }
    measure(x);
    buf_free(&x->body);
    x->draining = true;
    x->received = 0;
    x->arrived = NULL;
    if (x->total_timeout - x->total_time > limit) {
        x->total_timeout = x->total_time + limit;
        transport_hurry(x->transport, x);
    }
    transfer_taken(x);
}

void transfer_close(struct transfer *x) {
    release(x);
    buf_free(&x->headers);
    buf_free(&x->body);
}

/* The answer */

struct transfer_text transfer_reason(struct transfer_text head) {
    const char *line = head.data;
    const char *end = head.len > 0 ? memchr(line, '\n', head.len) : NULL;
    if (end == NULL) {
        return (struct transfer_text){.data = "", .len = 0};
    }
    for (int spaces = 0; line < end && spaces < 2; line++) {
        spaces += *line == ' ';
    }
    return trim(line, (size_t)(end - line));
}

bool transfer_next_header(struct transfer_text head, size_t *offset, struct transfer_text *name,
                          struct transfer_text *value) {
    while (*offset < head.len) {
        const char *line = head.data + *offset;
        size_t left = head.len - *offset;
        const char *end = memchr(line, '\n', left);
        size_t len = end != NULL ? (size_t)(end - line) + 1 : left;
        bool is_status = *offset == 0;
        *offset += len;
        const char *colon = memchr(line, ':', len);
        if (!is_status && colon != NULL && is_token(line, (size_t)(colon - line))) {
            *name = (struct transfer_text){.data = line, .len = (size_t)(colon - line)};
            *value = trim(colon + 1, len - name->len - 1);
            return true;
        }
    }
    return false;
}
