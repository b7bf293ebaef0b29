/* The transport: what a request looks like on the wire, and how each way to fail is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "transfers.h"

static void count_done(void *ctx) {
    ++*(int *)ctx;
}

/* Runs one request to its end; the caller closes *x. */
static void run(struct transfer *x, const struct transfer_request *request) {
    struct error err;
    int done = 0;
    if (!transfer_start(x, transport, request, count_done, &done, &err)) {
        x->failed = true;
        x->error = err;
        return;
    }
    while (done == 0) {
        turn();
    }
    CHECK(done == 1);
    CHECK(x->state == TRANSFER_DONE);
    CHECK(transport_deadline(transport) == TRANSPORT_NEVER);
}

static bool body_is(const struct transfer *x, const char *text) {
    return x->body.len == strlen(text) && (x->body.len == 0 || strcmp(x->body.data, text) == 0);
}

static struct transfer_text head_of(const struct transfer *x) {
    return (struct transfer_text){.data = x->headers.data, .len = x->headers.len};
}

static bool header_is(const struct transfer *x, const char *wanted, const char *text) {
    size_t offset = 0;
    struct transfer_text name, value;
    while (transfer_next_header(head_of(x), &offset, &name, &value)) {
        if (name.len == strlen(wanted) && memcmp(name.data, wanted, name.len) == 0) {
            return value.len == strlen(text) && memcmp(value.data, text, value.len) == 0;
        }
    }
    return false;
}

/* Requests */

static void test_headers(void) {
    static const struct {
        const char *name;
        const char *value;
        size_t len;
        bool ok;
    } CASES[] = {
        {"X-A", "b", 1, true},
        {"X-A", "  b\t", 4, true},
        {"X-A", "", 0, true},
        {"X-A", "b\r\nX-B: c", 9, false},
        {"X-A", "b\n", 2, false},
        {"X-A", "b\0c", 3, false},
        {"X-A", "\x7f", 1, false},
        {"X-A: b\r\nX-C", "d", 1, false},
        {"X A", "b", 1, false},
        {"", "b", 1, false},
        {"content-length", "1", 1, false},
        {"Transfer-Encoding", "chunked", 7, false},
        {"Host", "evil.test", 9, false},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct transfer_fields fields = {0};
        struct error err;
        bool ok = transfer_fields_add(&fields, CASES[i].name, strlen(CASES[i].name), CASES[i].value,
                                      CASES[i].len, &err);
        if (ok != CASES[i].ok) {
            printf("header %s\n", CASES[i].name);
        }
        CHECK(ok == CASES[i].ok);
        CHECK(ok || err.kind == ERROR_USAGE);
        transfer_fields_free(&fields);
    }
}

/* The bytes on the wire, whole. */
static void test_wire(void) {
    struct server *s = serve_text("HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nX-One: a\r\n"
                                  "x-ONE: b\r\n\r\nok",
                                  CLOSES);
    struct transfer x;
    struct error err;
    struct transfer_request request = get(url_of(s, "/a/../b?c=d"));
    request.method = "POST";
    request.body = "{}";
    request.body_len = 2;
    struct transfer_fields fields = {0};
    CHECK(transfer_fields_add(&fields, "X-Key", 5, "v", 1, &err));
    CHECK(transfer_fields_add(&fields, "X-Empty", 7, "", 0, &err));
    CHECK(transfer_fields_complete(&fields, &err));
    request.fields = &fields;
    transfer_init(&x);
    run(&x, &request);
    CHECK(!x.failed);
    CHECK(x.status == 200);
    CHECK(!x.reused);
    CHECK(body_is(&x, "ok"));
    CHECK(header_is(&x, "x-one", "a"));
    CHECK(transfer_reason(head_of(&x)).len == 4 &&
          memcmp(transfer_reason(head_of(&x)).data, "Fine", 4) == 0);
    CHECK(x.connect_time > 0 && x.connect_time <= x.first_byte_time &&
          x.first_byte_time <= x.total_time);
    char expected[512];
    snprintf(expected, sizeof expected,
             "POST /a/../b?c=d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nX-Key: v\r\n"
             "X-Empty:\r\nContent-Length: 2\r\n\r\n{}",
             s->port);
    CHECK(strcmp(s->seen, expected) == 0);
    transfer_close(&x);
    transfer_close(&x);
    transfer_fields_free(&fields);
    stop_server(s);
}

static void test_methods(void) {
    static const struct {
        const char *method;
        bool has_length;
    } CASES[] = {{"GET", false},  {"DELETE", false}, {"OPTIONS", false}, {"PUT", true},
                 {"PATCH", true}, {"POST", true},    {"HEAD", false}};
    struct server *s = serve_text("HTTP/1.1 204 No Content\r\n\r\n", KEEPS);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct transfer x;
        struct transfer_request request = get(url_of(s, "/"));
        request.method = CASES[i].method;
        transfer_init(&x);
        size_t start = s->seen_len;
        run(&x, &request);
        CHECK(!x.failed);
        CHECK(x.status == 204);
        CHECK(x.reused == (i > 0));
        CHECK(strncmp(s->seen + start, CASES[i].method, strlen(CASES[i].method)) == 0);
        CHECK((strstr(s->seen + start, "Content-Length: 0\r\n") != NULL) == CASES[i].has_length);
        transfer_close(&x);
    }
    CHECK(s->connections == 1);
    transport_free(transport); /* ends the connection that the server still reads */
    stop_server(s);
    struct error err;
    transport = transport_new(&err);
}

static void test_refused_requests(void) {
    static const struct {
        const char *method;
        const char *url;
        const char *body;
    } CASES[] = {
        {"GET\r\nX", "http://127.0.0.1:1/", NULL}, {"get", "http://127.0.0.1:1/", NULL},
        {"", "http://127.0.0.1:1/", NULL},         {"HEAD", "http://127.0.0.1:1/", "x"},
        {"CONNECT", "http://127.0.0.1:1/", NULL},  {"GET", "file:///etc/hostname", NULL},
        {"GET", "ftp://127.0.0.1:1/", NULL},       {"GET", "http://user:key@127.0.0.1:1/", NULL},
        {"GET", "http://127.0.0.1:1/ x", NULL},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct transfer x;
        struct transfer_request request = get(CASES[i].url);
        request.method = CASES[i].method;
        request.body = CASES[i].body;
        request.body_len = CASES[i].body != NULL ? 1 : 0;
        transfer_init(&x);
        run(&x, &request);
        bool refused = x.failed && x.error.kind == ERROR_USAGE && !x.error.sent &&
                       strstr(x.error.message, "key") == NULL;
        if (!refused) {
            printf("request %s %s: %s\n", CASES[i].method, CASES[i].url, x.error.message);
        }
        CHECK(refused);
        transfer_close(&x);
    }
}

/* Answers */

static void test_answers(void) {
    static const struct {
        const char *answer;
        enum ending ending;
        int status; /* 0: an error */
        const char *body_or_message;
        enum error_kind kind;
        const char *code;
        const char *phase;
    } CASES[] = {
        {HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", CLOSES, 200,
         "abc", 0, NULL, NULL},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\nX-Late: 1\r\n\r\n", CLOSES, 200,
         "c", 0, NULL, NULL},
        {HEAD "\r\nuntil the end", CLOSES, 200, "until the end", 0, NULL, NULL},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n" HEAD
         "Content-Length: 0\r\n\r\n",
         CLOSES, 200, "", 0, NULL, NULL},
        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", CLOSES,
         302, "", 0, NULL, NULL},
        {"HTTP/1.1 599 \r\nContent-Length: 1\r\n\r\nx", CLOSES, 599, "x", 0, NULL, NULL},
        {HEAD "Content-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", CLOSES, 200, "x", 0, NULL,
         NULL},
        {"", CLOSES, 0, "without an answer", ERROR_NETWORK, "TEMPORARILY_UNAVAILABLE",
         "first byte"},
        {HEAD, CLOSES, 0, "in the middle of its answer's headers", ERROR_NETWORK,
         "TEMPORARILY_UNAVAILABLE", "first byte"},
        {"HTTP/1.1 200 O", CLOSES, 0, "", ERROR_NETWORK, NULL, "first byte"},
        {"hello\r\n\r\n", CLOSES, 0, "not valid HTTP", ERROR_NETWORK, "INTERNAL_ERROR",
         "first byte"},
        {HEAD "Content-Length: 10\r\n\r\nabc", CLOSES, 0, "after 3 bytes", ERROR_NETWORK,
         "DATA_LOSS", "body"},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\nab", CLOSES, 0, "after 2 bytes",
         ERROR_NETWORK, "DATA_LOSS", "body"},
        {HEAD "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n", STALLS, 0, "garbled",
         ERROR_NETWORK, "DATA_LOSS", "body"},
        {HEAD "Content-Length: 2000000\r\n\r\nabc", STALLS, 0, "limit of 1048576 bytes",
         ERROR_NETWORK, "RESOURCE_EXHAUSTED", "body"},
        {HEAD "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", STALLS, 0, "gzip",
         ERROR_DECODE, "INTERNAL_ERROR", "body"},
        {HEAD "Content-Length: -5\r\n\r\n", STALLS, 0, "not valid HTTP", ERROR_NETWORK,
         "INTERNAL_ERROR", "first byte"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct server *s = serve_text(CASES[i].answer, CASES[i].ending);
        struct transfer x;
        struct transfer_request request = get(url_of(s, "/secret?key=secret"));
        transfer_init(&x);
        run(&x, &request);
        bool ok;
        if (CASES[i].status != 0) {
            ok = !x.failed && x.status == CASES[i].status && body_is(&x, CASES[i].body_or_message);
        } else {
            ok = x.failed && x.error.kind == CASES[i].kind && x.error.sent &&
                 strstr(x.error.message, CASES[i].body_or_message) != NULL &&
                 strstr(x.error.message, "secret") == NULL &&
                 (CASES[i].code == NULL || strcmp(x.error.code, CASES[i].code) == 0) &&
                 same_text(x.error.phase, CASES[i].phase);
        }
        if (!ok) {
            printf("answer %zu: %d %s (%s, %s)\n", i, x.status, x.error.message,
                   x.error.code ? x.error.code : "-", x.error.phase ? x.error.phase : "-");
        }
        CHECK(ok);
        transfer_close(&x);
        stop_server(s);
    }
}

static void test_floods(void) {
    enum { SIZE = 2 << 20 };
    char *answer = malloc(SIZE);
    struct transfer x;

    struct buf many;
    buf_init(&many, SIZE);
    buf_puts(&many, HEAD);
    for (int i = 0; i < 300; i++) {
        buf_printf(&many, "X-%d: y\r\n", i);
    }
    buf_puts(&many, "\r\n");
    struct server *s = serve_text(many.data, CLOSES);
    struct transfer_request request = get(url_of(s, "/"));
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && strcmp(x.error.code, "RESOURCE_EXHAUSTED") == 0);
    CHECK(strstr(x.error.message, "limit of 256") != NULL);
    transfer_close(&x);
    stop_server(s);
    buf_free(&many);

    memset(answer, 'x', SIZE - 1);
    answer[SIZE - 1] = '\0';
    memcpy(answer, HEAD "X-Long: ", strlen(HEAD "X-Long: "));
    s = serve_text(answer, CLOSES);
    request = get(url_of(s, "/"));
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && strcmp(x.error.code, "RESOURCE_EXHAUSTED") == 0);
    CHECK(strcmp(x.error.phase, "first byte") == 0);
    transfer_close(&x);
    stop_server(s);

    memcpy(answer, HEAD "\r\n", strlen(HEAD "\r\n")); /* no length: counted as it comes */
    s = serve_text(answer, CLOSES);
    request = get(url_of(s, "/"));
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && strcmp(x.error.code, "RESOURCE_EXHAUSTED") == 0);
    CHECK(x.body.len <= 1 << 20);
    transfer_close(&x);
    stop_server(s);
    free(answer);
}

static void test_refused_connection(void) {
    struct server *s = start_server("", 0, CLOSES);
    close(s->listener);
    struct transfer x;
    struct transfer_request request = get(url_of(s, "/path"));
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && x.error.kind == ERROR_NETWORK && !x.error.sent);
    CHECK(same_text(x.error.phase, "connect"));
    CHECK(strstr(x.error.message, "refused") != NULL && strstr(x.error.message, "path") == NULL);
    transfer_close(&x);
    free(s);
}

static void test_unknown_name(void) {
    struct transfer x;
    struct transfer_request request = get("http://no-such-name.invalid/");
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && !x.error.sent && same_text(x.error.phase, "resolve"));
    transfer_close(&x);
}

/* Time */

static void test_timers(void) {
    static const struct {
        const char *answer;
        const char *phase;
        const char *message;
    } CASES[] = {
        {"", "first byte", "within 0.2 s (first byte)"},
        {"HTTP/1.1 100 Continue\r\n\r\n", "first byte", "(first byte)"},
        {HEAD, "idle", "0.2 s in the middle of its answer (idle)"},
        {HEAD "Content-Length: 5\r\n\r\nab", "idle", "(idle)"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct server *s = serve_text(CASES[i].answer, STALLS);
        struct transfer x;
        struct transfer_request request = get(url_of(s, "/"));
        request.first_byte_timeout = SECOND / 5;
        request.idle_timeout = SECOND / 5;
        transfer_init(&x);
        int64_t start = now();
        run(&x, &request);
        int64_t took = now() - start;
        CHECK(took >= SECOND / 5 && took < SECOND / 5 + SECOND / 2);
        CHECK(x.failed && x.error.kind == ERROR_TIMEOUT && x.error.sent);
        CHECK(same_text(x.error.phase, CASES[i].phase));
        CHECK(strstr(x.error.message, CASES[i].message) != NULL);
        transfer_close(&x);
        stop_server(s);
    }
}

static void test_total_timer(void) {
    struct server *s = serve_text(HEAD "Content-Length: 5\r\n\r\nab", STALLS);
    struct transfer x;
    struct transfer_request request = get(url_of(s, "/"));
    request.total_timeout = SECOND / 5;
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && same_text(x.error.phase, "total"));
    CHECK(strcmp(x.error.code, "DEADLINE_EXCEEDED") == 0);
    transfer_close(&x);
    stop_server(s);
}

static void test_send_timer(void) {
    enum { SIZE = 32 << 20 }; /* more than the kernel's buffers take */
    struct server *s = start_server("", 0, CLOSES);
    char *body = calloc(1, SIZE);
    struct transfer x;
    struct transfer_request request = get(url_of(s, "/"));
    request.method = "POST";
    request.body = body;
    request.body_len = SIZE;
    request.idle_timeout = SECOND / 5;
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && same_text(x.error.phase, "send"));
    CHECK(x.error.kind == ERROR_TIMEOUT && x.error.sent);
    transfer_close(&x);
    close(s->listener);
    free(s);
    free(body);
}

/* A port whose queue of connections is full answers nothing. */
static void test_connect_timer(void) {
    enum { FILLERS = 8 };
    struct server *s = start_server("", 0, CLOSES);
    int fillers[FILLERS];
    listen(s->listener, 0);
    for (int i = 0; i < FILLERS; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)s->port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fillers[i], (struct sockaddr *)&address, sizeof address);
    }
    struct transfer x;
    struct transfer_request request = get(url_of(s, "/"));
    request.connect_timeout = SECOND / 5;
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && x.error.kind == ERROR_TIMEOUT && !x.error.sent);
    CHECK(same_text(x.error.phase, "connect"));
    transfer_close(&x);
    for (int i = 0; i < FILLERS; i++) {
        close(fillers[i]);
    }
    close(s->listener);
    free(s);
}

static void test_handshake_timer(void) {
    struct server *s = start_server("", 0, CLOSES);
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%d/", s->port);
    struct transfer x;
    struct transfer_request request = get(url);
    request.connect_timeout = SECOND / 5;
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && same_text(x.error.phase, "connect") && !x.error.sent);
    CHECK(strstr(x.error.message, "TLS") != NULL);
    transfer_close(&x);
    close(s->listener);
    free(s);
}

static void test_unreadable_ca(void) {
    struct server *s = start_server("", 0, CLOSES);
    char url[64];
    snprintf(url, sizeof url, "https://127.0.0.1:%d/", s->port);
    struct transfer x;
    struct transfer_request request = get(url);
    request.ca_file = "/nonexistent/ca.pem";
    transfer_init(&x);
    run(&x, &request);
    CHECK(x.failed && x.error.kind == ERROR_CONFIG && !x.error.sent);
    CHECK(strstr(x.error.message, "/nonexistent/ca.pem") != NULL);
    transfer_close(&x);
    close(s->listener);
    free(s);
}

/* The end */

static void test_cancel(void) {
    struct server *s = serve_text(HEAD "Content-Length: 5\r\n\r\nab", STALLS);
    struct transfer_request request = get(url_of(s, "/"));
    struct transfer x;
    struct error err;
    int done = 0;
    transfer_init(&x);
    CHECK(transfer_start(&x, transport, &request, count_done, &done, &err));
    while (x.body.len == 0) {
        turn();
    }
    CHECK(transport_deadline(transport) < TRANSPORT_NEVER);
    transfer_close(&x);
    transfer_close(&x);
    CHECK(done == 0);
    CHECK(transport_deadline(transport) == TRANSPORT_NEVER);
    stop_server(s);
}

/* A name that is being looked up is forgotten at once. */
static void test_cancel_while_resolving(void) {
    struct transfer_request request = get("http://no-such-name.invalid/");
    for (int turns = 0; turns < 3; turns++) {
        struct transfer x;
        struct error err;
        int done = 0;
        transfer_init(&x);
        CHECK(transfer_start(&x, transport, &request, count_done, &done, &err));
        for (int i = 0; i < turns; i++) {
            transport_dispatch(transport);
        }
        int64_t start = now();
        transfer_close(&x);
        CHECK(now() - start < SECOND / 10);
    }
}

static void test_transport_goes_first(void) {
    struct server *s = serve_text("", STALLS);
    struct transfer_request request = get(url_of(s, "/"));
    struct transfer x;
    struct error err;
    int done = 0;
    struct transport *short_lived = transport_new(&err);
    transfer_init(&x);
    CHECK(transfer_start(&x, short_lived, &request, count_done, &done, &err));
    transport_dispatch(short_lived);
    transport_free(short_lived);
    CHECK(done == 0);
    transfer_close(&x);
    stop_server(s);
}

/* A connection from the pool that ends without an answer: libcurl repeats the request over a new
 * one, which is right for a GET, and wrong where the server may have acted on it. */
static void test_no_second_post(void) {
    static const struct {
        const char *method;
        int requests;
    } CASES[] = {{"GET", 3}, {"POST", 2}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct server *s = start_server(HEAD "Content-Length: 0\r\n\r\n",
                                        strlen(HEAD "Content-Length: 0\r\n\r\n"), KEEPS);
        s->cut_from = 2;
        pthread_create(&s->thread, NULL, run_server, s);
        struct transfer_request request = get(url_of(s, "/"));
        for (int n = 0; n < 2; n++) {
            struct transfer x;
            transfer_init(&x);
            request.method = n == 0 ? "GET" : CASES[i].method;
            run(&x, &request);
            CHECK(x.failed == (n == 1));
            CHECK(n == 0 || (x.error.sent && strstr(x.error.message, "without an answer")));
            transfer_close(&x);
        }
        CHECK(s->requests == CASES[i].requests);
        stop_server(s);
    }
}

static void test_extra_descriptors(void) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct pollfd extra = {.fd = ends[0], .events = POLLIN};
    transport_wait(transport, &extra, 1, 10);
    CHECK(extra.revents == 0);
    CHECK(write(ends[1], "x", 1) == 1);
    transport_wait(transport, &extra, 1, 5000);
    CHECK(extra.revents == POLLIN);
    close(ends[1]);
    close(ends[0]);
}

int main(void) {
    struct error err;
    transport = transport_new(&err);
    CHECK(transfer_fields_complete(&no_fields, &err));
    test_headers();
    test_wire();
    test_methods();
    test_refused_requests();
    test_answers();
    test_floods();
    test_refused_connection();
    test_unknown_name();
    test_timers();
    test_total_timer();
    test_send_timer();
    test_connect_timer();
    test_handshake_timer();
    test_unreadable_ca();
    test_cancel();
    test_cancel_while_resolving();
    test_transport_goes_first();
    test_no_second_post();
    test_extra_descriptors();
    transport_free(transport);
    transfer_fields_free(&no_fields);
    return check_done();
}
