/* Exchanges: who holds one, what Lua is to be told of, and the body of an answer that is written
 * bit by bit. */
#include <stdlib.h>
#include <string.h>

#include "lib/lib_server.h"

enum { BLOCK = 16 * 1024 }; /* bytes that the daemon asks a streamed body for */

void exchange_free(struct exchange *x) {
    if (x->in_daemon || x->in_lua || x->queued) {
        return;
    }
    if (x->response != NULL) {
        MHD_destroy_response(x->response);
    }
    buf_free(&x->body);
    buf_free(&x->out);
    free(x->target);
    free(x);
}

/* Puts it where Lua looks, once. */
void exchange_enqueue(struct exchange *x) {
    struct server *s = x->server;
    if (x->queued || s == NULL) {
        return;
    }
    x->queued = true;
    x->next = NULL;
    if (s->last_queued != NULL) {
        s->last_queued->next = x;
    } else {
        s->first_queued = x;
    }
    s->last_queued = x;
    s->api->wake(&s->arrived);
}

struct exchange *server_next(struct server *s) {
    struct exchange *x = s->first_queued;
    if (x != NULL) {
        s->first_queued = x->next;
        if (s->first_queued == NULL) {
            s->last_queued = NULL;
        }
        x->queued = false;
    }
    return x;
}

/* Nobody will read more of the answer. */
void exchange_lose(struct exchange *x) {
    if (x->gone) {
        return;
    }
    x->gone = true;
    if (x->in_lua) {
        exchange_enqueue(x);
        x->server->api->wake(&x->room);
    }
}

void exchange_suspend(struct exchange *x) {
    MHD_suspend_connection(x->connection->mhd);
    x->suspended = true;
}

void exchange_resume(struct exchange *x) {
    if (x->suspended && x->connection != NULL) {
        x->suspended = false;
        x->server->must_run = true;
        MHD_resume_connection(x->connection->mhd);
    }
}

void exchange_answer(struct exchange *x, unsigned status, struct MHD_Response *response) {
    x->state = EXCHANGE_ENDED;
    x->status = status;
    x->response = response;
    exchange_resume(x);
}

void exchange_stream(struct exchange *x, unsigned status) {
    x->state = EXCHANGE_STREAM;
    x->status = status;
    if (strcmp(x->method, "HEAD") == 0 || status == MHD_HTTP_NOT_MODIFIED) {
        /* no chunks: the daemon would send their end, where there is no body */
        MHD_set_response_options(x->response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    }
    exchange_resume(x);
}

void exchange_wrote(struct exchange *x) {
    exchange_resume(x);
}

void exchange_finish(struct exchange *x, bool cut) {
    x->state = EXCHANGE_ENDED;
    x->cut = cut;
    exchange_resume(x);
}

void exchange_release(struct exchange *x) {
    if (x->state == EXCHANGE_WAITING || x->state == EXCHANGE_STREAM) {
        exchange_finish(x, true);
    }
    x->in_lua = false;
    exchange_free(x);
}

/* The body of a stream: what was written, else the end, else the connection sleeps. */
static ssize_t read_stream(void *ctx, uint64_t position, char *to, size_t max) {
    struct exchange *x = ctx;
    (void)position;
    size_t n = x->out.len - x->taken;
    if (x->gone || (x->cut && n == 0)) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (n > 0) {
        n = n < max ? n : max;
        memcpy(to, x->out.data + x->taken, n);
        x->taken += n;
        if (x->taken == x->out.len) {
            buf_clear(&x->out);
            x->taken = 0;
        }
        if (x->in_lua && x->out.len - x->taken <= SERVER_WINDOW / 2) {
            x->server->api->wake(&x->room);
        }
        return (ssize_t)n;
    }
    if (x->state == EXCHANGE_ENDED) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    exchange_suspend(x);
    return 0;
}

struct MHD_Response *exchange_new_stream(struct exchange *x) {
    x->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, x, NULL);
    return x->response;
}
