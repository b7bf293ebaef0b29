/* Many requests at once over one multi handle of libcurl's and as many easy handles: what predict
 * in tasks is measured against. Arguments: see peer.h. */
#include <stdlib.h>

#include "peer.h"

static CURLM *multi;

static void add(struct peer_call *call) {
    call->len = 0;
    if (curl_multi_add_handle(multi, call->easy) != CURLM_OK) {
        peer_fail("a request can not start");
    }
}

/* Checks what has ended and starts the next in its place. Returns how many ended. */
static long reap(const struct peer *p, long *to_start) {
    long ended = 0;
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        struct peer_call *call;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
        peer_check(p, call, code);
        curl_multi_remove_handle(multi, call->easy);
        ended++;
        if (*to_start > 0) {
            (*to_start)--;
            add(call);
        }
    }
    return ended;
}

static void run(const struct peer *p, struct peer_call *calls, long count) {
    long to_start = count;
    for (long i = 0; i < p->in_flight && to_start > 0; i++, to_start--) {
        add(&calls[i]);
    }
    int running;
    for (long ended = 0; ended < count;) {
        curl_multi_perform(multi, &running);
        long now = reap(p, &to_start);
        ended += now;
        if (now == 0) {
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
        }
    }
}

int main(int argc, char **argv) {
    struct peer p;
    peer_init(&p, argc, argv);
    multi = curl_multi_init();
    struct peer_call *calls = calloc((size_t)p.in_flight, sizeof *calls);
    if (multi == NULL || calls == NULL || p.in_flight == 0) {
        peer_fail("out of memory, or nothing is to be in flight");
    }
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1024L);
    for (long i = 0; i < p.in_flight; i++) {
        peer_prepare(&p, &calls[i]);
    }
    run(&p, calls, p.warm_up);
    peer_start();
    run(&p, calls, p.count);
    peer_report(&p);
    return 0;
}
