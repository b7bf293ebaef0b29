#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "net/options.h"
#include "net/transport.h"

#include "peer.h"

static double start_cpu, start_wall;

void peer_fail(const char *message) {
    fprintf(stderr, "error: %s\n", message);
    exit(1);
}

/* The clock */

static double cpu_now(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e6 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static double wall_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

void peer_start(void) {
    start_cpu = cpu_now();
    start_wall = wall_now();
}

void peer_report(const struct peer *p) {
    double n = (double)p->count;
    printf("%.3f %.3f\n", (cpu_now() - start_cpu) / n, (wall_now() - start_wall) / n);
}

/* The request */

static void read_body(struct peer *p, const char *path) {
    enum { BODY_MAX = 64 * 1024 };
    FILE *file = fopen(path, "rb");
    p->body = malloc(BODY_MAX);
    if (file == NULL || p->body == NULL) {
        peer_fail("the request's file can not be read");
    }
    p->body_len = fread(p->body, 1, BODY_MAX, file);
    fclose(file);
}

static long number(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 0) {
        peer_fail("not a number");
    }
    return value;
}

/* The fields that moonflow sends. */
static void add_fields(struct peer *p) {
    static const char AGENT[] = "User-Agent: moonflow/" MOONFLOW_VERSION;
    static const char *const LINES[] = {"Content-Type: application/json", AGENT,
                                        "Accept: application/json", "Expect:"};
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++) {
        p->fields = curl_slist_append(p->fields, LINES[i]);
    }
}

void peer_init(struct peer *p, int argc, char **argv) {
    if (argc < 7 || argc > 8) {
        peer_fail("usage: URL REQUEST-FILE ANSWER-LENGTH N WARM-UP IN-FLIGHT [CA-DIRECTORY|none]");
    }
    *p = (struct peer){.url = argv[1],
                       .answer_len = (size_t)number(argv[3]),
                       .count = number(argv[4]),
                       .warm_up = number(argv[5]),
                       .in_flight = number(argv[6])};
    if (argc == 8) {
        p->insecure = strcmp(argv[7], "none") == 0;
        p->ca_path = p->insecure ? NULL : argv[7];
    }
    read_body(p, argv[2]);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        peer_fail("libcurl can not be initialised");
    }
    add_fields(p);
}

/* A handle */

static size_t on_header(char *line, size_t size, size_t n, void *ctx) {
    (void)line, (void)ctx;
    return size * n;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *ctx) {
    struct peer_call *call = ctx;
    size_t len = size * n;
    if (len > sizeof call->answer - call->len) {
        return 0;
    }
    memcpy(call->answer + call->len, bytes, len);
    call->len += len;
    return len;
}

static void apply_options(const struct peer *p, CURL *easy) {
    struct transfer_request request = {.method = "POST",
                                       .url = p->url,
                                       .max_body = PEER_ANSWER,
                                       .connect_timeout = (int64_t)10 * 1000000000,
                                       .ca_path = p->ca_path,
                                       .insecure_tls = p->insecure};
    struct options options;
    bool ok = options_init(&options, &request, true);
    for (size_t i = 0; ok && i < options.count; i++) {
        const struct option *option = &options.list[i];
        CURLoption id = (CURLoption)option->id;
        CURLcode code = option->type == OPTION_TEXT ? curl_easy_setopt(easy, id, option->text)
                        : option->type == OPTION_SIZE
                            ? curl_easy_setopt(easy, id, (curl_off_t)option->number)
                            : curl_easy_setopt(easy, id, (long)option->number);
        ok = code == CURLE_OK;
    }
    options_free(&options);
    if (!ok) {
        peer_fail("libcurl refuses an option");
    }
}

/* Once for each handle: the requests are all the same, so nothing has to be set again. */
void peer_prepare(struct peer *p, struct peer_call *call) {
    call->easy = curl_easy_init();
    call->len = 0;
    if (call->easy == NULL) {
        peer_fail("out of memory");
    }
    apply_options(p, call->easy);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->body_len);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, p->body);
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, p->fields);
    curl_easy_setopt(call->easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(call->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
}

void peer_check(const struct peer *p, const struct peer_call *call, CURLcode code) {
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK) {
        peer_fail(curl_easy_strerror(code));
    }
    if (status != 200 || call->len != p->answer_len) {
        peer_fail("not the answer that was expected");
    }
}
