/* What the loops of bare libcurl share: the request, a handle with net's option list, the check of
 * an answer, and the clock. They are the yardstick of moonflow's client, so a request is the same
 * bytes with the same options, and nothing that is not needed is done for it. */
#ifndef MOONFLOW_BENCH_PEER_H
#define MOONFLOW_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>

#include <curl/curl.h>

/* From the command line: URL REQUEST-FILE ANSWER-LENGTH N WARM-UP IN-FLIGHT [CA-DIRECTORY|none] */
struct peer {
    const char *url;
    char *body;
    size_t body_len;
    size_t answer_len;
    long count;     /* requests that are measured */
    long warm_up;   /* requests before those */
    long in_flight; /* handles in use at once */
    const char *ca_path;
    bool insecure; /* "none": certificates are not verified */
    struct curl_slist *fields;
};

enum { PEER_ANSWER = 64 * 1024 };

/* One handle and the answer that it receives. */
struct peer_call {
    CURL *easy;
    size_t len;
    char answer[PEER_ANSWER];
};

/* Each ends the program with a message where something is wrong. */
void peer_init(struct peer *p, int argc, char **argv);
void peer_prepare(struct peer *p, struct peer_call *call);
void peer_check(const struct peer *p, const struct peer_call *call, CURLcode code);
void peer_fail(const char *message) __attribute__((noreturn));

/* Prints the microseconds of CPU time and of real time per request since peer_start. */
void peer_start(void);
void peer_report(const struct peer *p);

#endif
