/* One request after the other over one handle of libcurl's: what a blocking predict is measured
 * against. Arguments: see peer.h; IN-FLIGHT is 1. */
#include "peer.h"

static struct peer_call call;

static void run(const struct peer *p, long count) {
    for (long i = 0; i < count; i++) {
        call.len = 0;
        peer_check(p, &call, curl_easy_perform(call.easy));
    }
}

int main(int argc, char **argv) {
    struct peer p;
    peer_init(&p, argc, argv);
    peer_prepare(&p, &call);
    run(&p, p.warm_up);
    peer_start();
    run(&p, p.count);
    peer_report(&p);
    return 0;
}
