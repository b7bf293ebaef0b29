/* Answers that are taken piece by piece, and those that are let go. */
#include <stdlib.h>

#include "check.h"
#include "transfers.h"

enum {
    WINDOW = 64 * 1024,
    PIECE = 16 * 1024, /* bytes that libcurl hands over at once */
    ANSWER = 1 << 20,
};

struct taker {
    int done;
    int arrivals;
    size_t taken;
    bool in_order;
};

static void taker_done(void *ctx) {
    ((struct taker *)ctx)->done++;
}

static void taker_arrived(void *ctx) {
    ((struct taker *)ctx)->arrivals++;
}

static char byte_at(size_t position) {
    return (char)('a' + position % 23);
}

static struct server *serve_pieces(void) {
    size_t head = strlen(HEAD "\r\n");
    char *answer = malloc(head + ANSWER);
    memcpy(answer, HEAD "\r\n", head);
    for (size_t i = 0; i < ANSWER; i++) {
        answer[head + i] = byte_at(i);
    }
    struct server *s = start_server(answer, head + ANSWER, CLOSES);
    pthread_create(&s->thread, NULL, run_server, s);
    return s;
}

static void stop_pieces(struct server *s) {
    char *answer = (char *)s->answer;
    stop_server(s);
    free(answer);
}

/* Starts a request for the pieces; `max_body` is none of its limits. */
static void start_taking(struct transfer *x, const struct server *s, struct taker *taker,
                         int64_t idle_timeout, int64_t total_timeout) {
    struct transfer_request request = get(url_of(s, "/"));
    struct error err;
    request.window = WINDOW;
    request.arrived = taker_arrived;
    request.max_body = 1;
    request.idle_timeout = idle_timeout;
    request.total_timeout = total_timeout;
    *taker = (struct taker){.in_order = true};
    transfer_init(x);
    CHECK(transfer_start(x, transport, &request, taker_done, taker, &err));
}

static void take_body(struct transfer *x, struct taker *taker) {
    for (size_t i = 0; i < x->body.len; i++) {
        taker->in_order = taker->in_order && x->body.data[i] == byte_at(taker->taken + i);
    }
    taker->taken += x->body.len;
    buf_clear(&x->body);
    transfer_taken(x);
}

static void turn_for(int64_t duration) {
    for (int64_t end = now() + duration; now() < end;) {
        transport_wait(transport, NULL, 0, 10);
        transport_dispatch(transport);
    }
}

static void fill_window(const struct transfer *x) {
    while (x->state == TRANSFER_ACTIVE && !x->paused) {
        turn();
    }
}

/* Nobody takes anything: the body stays within its window, and no timer counts that as silence.
 * Then all of it comes. */
static void test_window(void) {
    struct server *s = serve_pieces();
    struct transfer x;
    struct taker taker;
    start_taking(&x, s, &taker, SECOND / 5, TRANSPORT_NEVER);
    fill_window(&x);
    turn_for(SECOND / 2);
    CHECK(x.state == TRANSFER_ACTIVE && x.head_complete && x.status == 200);
    CHECK(taker.arrivals > 1);
    CHECK(x.body.len >= WINDOW && x.body.len <= WINDOW + PIECE);
    while (taker.done == 0) {
        CHECK(x.body.len <= WINDOW + PIECE);
        take_body(&x, &taker);
        if (x.body.len == 0) {
            turn();
        }
    }
    take_body(&x, &taker);
    CHECK(taker.done == 1 && !x.failed && x.body.len == 0);
    CHECK(taker.taken == ANSWER && taker.in_order);
    transfer_taken(&x);
    transfer_close(&x);
    stop_pieces(s);
}

/* What was held back is told of: at once, or in the next turn where libcurl puts that off. */
static void test_held_back(void) {
    struct server *s = serve_pieces();
    struct transfer x;
    struct taker taker;
    start_taking(&x, s, &taker, 5 * SECOND, TRANSPORT_NEVER);
    fill_window(&x);
    int before = taker.arrivals;
    take_body(&x, &taker);
    if (x.body.len == 0) {
        turn();
    }
    CHECK(x.body.len > 0 && taker.arrivals > before && taker.done == 0);
    transfer_close(&x);
    CHECK(x.total_time > 0 && x.total_time < 5 * SECOND);
    stop_pieces(s);
}

static void test_total_timer_of_window(void) {
    struct server *s = serve_pieces();
    struct transfer x;
    struct taker taker;
    start_taking(&x, s, &taker, 5 * SECOND, SECOND / 5);
    while (taker.done == 0) {
        turn();
    }
    CHECK(x.failed && same_text(x.error.phase, "total"));
    transfer_taken(&x);
    transfer_close(&x);
    stop_pieces(s);
}

/* The content is complete: where the end of the body comes as well the connection stays, where it
 * does not the transfer ends at the limit. */
static void test_drain(void) {
    static const char ANSWERS[][96] = {
        HEAD "Transfer-Encoding: chunked\r\n\r\n4\r\nword\r\n0\r\n\r\n",
        HEAD "Transfer-Encoding: chunked\r\n\r\n4\r\nword\r\n",
    };
    for (int i = 0; i < 2; i++) {
        struct server *s = serve_text(ANSWERS[i], i == 0 ? CLOSES : STALLS);
        struct transfer x;
        struct taker taker;
        start_taking(&x, s, &taker, 5 * SECOND, TRANSPORT_NEVER);
        while (x.body.len == 0) {
            turn();
        }
        int64_t start = now();
        transfer_drain(&x, SECOND / 5);
        CHECK(x.total_time > 0);
        while (taker.done == 0) {
            turn();
        }
        CHECK(x.state == TRANSFER_DONE && x.failed == (i == 1));
        CHECK(now() - start < SECOND);
        transfer_drain(&x, SECOND);
        transfer_close(&x);
        stop_server(s);
    }
}

/* More than an end is not worth the connection. */
static void test_drain_limits(void) {
    struct server *s = serve_pieces();
    struct transfer x;
    struct taker taker;
    start_taking(&x, s, &taker, 5 * SECOND, TRANSPORT_NEVER);
    fill_window(&x);
    int arrivals = taker.arrivals;
    int64_t start = now();
    transfer_drain(&x, 5 * SECOND);
    while (taker.done == 0) {
        turn();
    }
    CHECK(x.failed && taker.arrivals == arrivals && now() - start < SECOND);
    transfer_close(&x);
    stop_pieces(s);
}

int main(void) {
    struct error err;
    transport = transport_new(&err);
    CHECK(transfer_fields_complete(&no_fields, &err));
    test_window();
    test_held_back();
    test_total_timer_of_window();
    test_drain();
    test_drain_limits();
    transport_free(transport);
    transfer_fields_free(&no_fields);
    return check_done();
}
