/* Answers that are read while they come, for moonflow._http: as events (core/sse.h) or as bytes. An
 * exchange belongs to whoever holds it, not to the task that opened it. What an event means, and
 * when a stream is complete, is the business of the Lua above. */
#include <stdlib.h>
#include <string.h>

#include "core/sse.h"
#include "lib/lib_http.h"
#include "lib/lib_json.h"

#define HTTP_EXCHANGE "moonflow.http.exchange"

#define DRAINING "moonflow.http.draining" /* registry field: table, address -> exchange */

/* Bytes that wait for a reader before the sender is held up. */
enum { WINDOW = 256 * 1024 };

/* How long the end of an answer may take whose content is complete. */
static const int64_t GRACE = 200 * 1000000;

struct exchange {
    struct http_call call; /* first: http_call_start finds it at the userdata's address */
    struct sse sse;
    size_t used; /* bytes of the transfer's body that the parser has read */
    bool closed;
};

static void on_arrived(void *ctx) {
    struct exchange *e = ctx;
    e->call.api->wake(&e->call.waiter);
}

static int close_exchange(lua_State *L) {
    struct exchange *e = luaL_checkudata(L, 1, HTTP_EXCHANGE);
    e->closed = true;
    e->used = 0;
    sse_free(&e->sse);
    http_call_close(&e->call);
    return 0;
}

/* Lets go of exchanges that have drained. Where nothing drains any more libcurl keeps their
 * connections. [-0, +0, m] */
static void release_drained(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, DRAINING) == LUA_TTABLE) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            struct exchange *e = lua_touserdata(L, -1);
            if (e->call.transfer.state == TRANSFER_DONE) {
                http_call_close(&e->call);
                lua_pushnil(L);
                lua_rawsetp(L, -4, e);
            }
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* Ends the exchange for whoever holds it; the content of its answer is complete, but maybe not the
 * answer. A server that ends a stream says so twice, and the second word, the end of the body,
 * often comes in a packet of its own: without it the connection would be lost. */
static int finish_exchange(lua_State *L) {
    struct exchange *e = luaL_checkudata(L, 1, HTTP_EXCHANGE);
    if (e->closed || e->call.transfer.state != TRANSFER_ACTIVE) {
        return close_exchange(L);
    }
    release_drained(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, DRAINING);
    lua_pushvalue(L, 1);
    lua_rawsetp(L, -2, e);
    e->closed = true;
    e->used = 0;
    sse_free(&e->sse);
    transfer_drain(&e->call.transfer, GRACE);
    e->call.api->wake(&e->call.waiter);
    return 0;
}

static struct exchange *new_exchange(lua_State *L, const struct http *http) {
    struct exchange *e = lua_newuserdatauv(L, sizeof *e, HTTP_CALL_VALUES);
    http_call_init(L, &e->call, http->api);
    sse_init(&e->sse, SSE_EVENT_MAX);
    e->used = 0;
    e->closed = false;
    luaL_setmetatable(L, HTTP_EXCHANGE);
    return e;
}

/*** Sends a request whose answer is read while it comes. Does not wait.
 * The arguments are those of perform.
 * @return the exchange, with the methods head, event, bytes, peek, times, close and finish; or nil
 * and an error. It is closed by `close`, as a `<close>` variable, and by the collector; `finish`
 * does the same where the content is complete, but lets the connection be used again. */
static int l_open(lua_State *L) {
    struct transfer_request request;
    struct error err;
    struct http *http = http_check_request(L, &request);
    release_drained(L);
    new_exchange(L, http);
    request.window = WINDOW;
    request.arrived = on_arrived;
    return http_call_start(L, lua_gettop(L), http, &request, &err) ? 1 : lib_fail(L, &err);
}

/*** An exchange that has ended well, to read bytes that are here already.
 * @param body a buffer, which is empty afterwards
 * @return the exchange; it has no head */
static int l_replay(lua_State *L) {
    const struct http *http = lua_touserdata(L, HTTP_UPVALUE);
    struct buf *body = lib_test_buf(L, 1);
    luaL_argexpected(L, body != NULL, 1, "buffer");
    struct exchange *e = new_exchange(L, http);
    e->call.transfer.state = TRANSFER_DONE;
    e->call.transfer.head_complete = true;
    e->call.transfer.body = *body;
    buf_init(body, 0);
    return 1;
}

static struct exchange *check_exchange(lua_State *L) {
    struct exchange *e = luaL_checkudata(L, 1, HTTP_EXCHANGE);
    lua_settop(L, 1);
    return e;
}

static int fail_closed(lua_State *L) {
    struct error err;
    error_set(&err, ERROR_CANCELLED, NULL, "the stream was closed");
    return lib_fail(L, &err);
}

/* Waits once for the exchange to move, then goes on with `k`. */
static int wait_once(lua_State *L, struct exchange *e, lua_KContext ctx, lua_KFunction k) {
    const struct task_api *api = e->call.api;
    if (e->call.waiter.task == NULL) {
        e->call.waiter.ready = false;
    }
    return api->wait(L, &e->call.waiter, ctx, k);
}

/* The head */

static int push_head(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    struct exchange *e = lua_touserdata(L, 1);
    const struct transfer *x = &e->call.transfer;
    if (e->closed) {
        return fail_closed(L);
    }
    if (x->head_complete) { /* what has failed since then is told behind the bytes that came */
        lua_pushinteger(L, x->status);
        lua_pushlstring(L, x->headers.len > 0 ? x->headers.data : "", x->headers.len);
        return 2;
    }
    if (x->failed) {
        return lib_fail(L, &x->error);
    }
    lua_pushboolean(L, 0);
    return 1;
}

/*** Waits for status and headers of the answer, once.
 * @return status, head (see parse_head); false where they are not there yet; or nil and an error */
static int m_head(lua_State *L) {
    struct exchange *e = check_exchange(L);
    const struct transfer *x = &e->call.transfer;
    if (e->closed || x->head_complete || x->state == TRANSFER_DONE) {
        return push_head(L, LUA_OK, 0);
    }
    return wait_once(L, e, 0, push_head);
}

/* Events */

static int push_nothing(lua_State *L, const char *why) {
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static bool is_error_type(const struct sse_event *event) {
    return event->type_len == 5 && memcmp(event->type, "error", 5) == 0;
}

/* Pushes the event's value, type and size. Text that is no JSON is fine for an error. */
static int push_event(lua_State *L, const struct sse_event *event) {
    struct error err;
    if (!json_decode(L, event->data, event->data_len, &err)) {
        if (!is_error_type(event)) {
            return lib_fail(L, &err);
        }
        lua_pushlstring(L, event->data, event->data_len);
    }
    if (event->type_len > 0) {
        lua_pushlstring(L, event->type, event->type_len);
    } else {
        lua_pushnil(L);
    }
    lua_pushinteger(L, (lua_Integer)event->data_len);
    return 3;
}

static int fail_too_long(lua_State *L) {
    struct error err;
    error_set(&err, ERROR_NETWORK, "RESOURCE_EXHAUSTED",
              "an event of the stream is larger than the limit of %d MiB", SSE_EVENT_MAX >> 20);
    err.phase = "body";
    return lib_fail(L, &err);
}

/* Pushes the next event of the bytes that are here; 0 where they hold none. */
static int take_event(lua_State *L, struct exchange *e) {
    struct transfer *x = &e->call.transfer;
    struct sse_event event;
    for (;;) {
        switch (sse_next(&e->sse, x->body.data, x->body.len, &e->used, &event)) {
        case SSE_EVENT:
            if (event.data_len > 0 || is_error_type(&event)) {
                return push_event(L, &event);
            }
            break;
        case SSE_DONE:
            return push_nothing(L, "done");
        case SSE_TOO_LONG:
            return fail_too_long(L);
        case SSE_MORE:
            buf_clear(&x->body);
            e->used = 0;
            transfer_taken(x);
            if (x->body.len == 0) {
                return 0;
            }
            break; /* what was held back came at once, before anybody waits for it */
        }
    }
}

static int push_next(lua_State *L, int status, lua_KContext ctx) {
    (void)ctx;
    struct exchange *e = lua_touserdata(L, 1);
    const struct transfer *x = &e->call.transfer;
    if (e->closed) {
        return fail_closed(L);
    }
    int values = take_event(L, e);
    if (values > 0) {
        return values;
    }
    if (x->failed) {
        return lib_fail(L, &x->error);
    }
    if (x->state == TRANSFER_DONE && x->body.len == 0) {
        return push_nothing(L, "end");
    }
    return status == LUA_OK ? wait_once(L, e, 0, push_next) : push_nothing(L, "more");
}

/*** The next event, for which it waits once.
 * @return the decoded JSON of its data, its type or nil, and the bytes of its data; of an event of
 * type "error" the text itself where that is no JSON. Without an event: nil and "more" (ask again),
 * "done" (the line `data: [DONE]` came), "end" (the answer is over) or an error. */
static int m_event(lua_State *L) {
    check_exchange(L);
    return push_next(L, LUA_OK, 0);
}

/* Bytes */

static int push_bytes(lua_State *L, int status, lua_KContext ctx) {
    (void)ctx;
    struct exchange *e = lua_touserdata(L, 1);
    struct transfer *x = &e->call.transfer;
    if (e->closed) {
        return fail_closed(L);
    }
    if (x->body.len > e->used) {
        lua_pushlstring(L, x->body.data + e->used, x->body.len - e->used);
        buf_clear(&x->body);
        e->used = 0;
        transfer_taken(x);
        return 1;
    }
    if (x->failed) {
        return lib_fail(L, &x->error);
    }
    if (x->state == TRANSFER_DONE) {
        lua_pushnil(L);
        return 1;
    }
    if (status == LUA_OK) {
        return wait_once(L, e, 0, push_bytes);
    }
    lua_pushliteral(L, "");
    return 1;
}

/*** The next bytes of the body, for which it waits once: for answers that are no events.
 * @return a string, maybe empty; nil at the end; nil and an error */
static int m_bytes(lua_State *L) {
    check_exchange(L);
    return push_bytes(L, LUA_OK, 0);
}

static int push_beginning(lua_State *L, int status, lua_KContext known) {
    enum { SHOWN = 256 };
    struct exchange *e = lua_touserdata(L, 1);
    const struct transfer *x = &e->call.transfer;
    size_t len = x->body.len - e->used;
    if (e->closed) {
        return fail_closed(L);
    }
    if (len <= (size_t)known && x->state == TRANSFER_DONE) {
        lua_pushnil(L);
        return 1;
    }
    if (len <= (size_t)known && status == LUA_OK) {
        return wait_once(L, e, known, push_beginning);
    }
    lua_pushlstring(L, len > 0 ? x->body.data + e->used : "", len < SHOWN ? len : SHOWN);
    return 1;
}

/*** How the rest of the body begins, which stays where it is. Waits once for more than is known.
 * @param known how many bytes were seen already, default 0
 * @return a string, maybe no longer than those; nil where the answer is over and has no more */
static int m_peek(lua_State *L) {
    lua_Integer known = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, known >= 0, 2, "must not be negative");
    check_exchange(L);
    return push_beginning(L, LUA_OK, (lua_KContext)known);
}

/*** @return a table: connect_time, first_byte_time and total_time (0 until the end), reused */
static int m_times(lua_State *L) {
    const struct exchange *e = check_exchange(L);
    lua_createtable(L, 0, 4);
    http_set_times(L, &e->call.transfer);
    return 1;
}

static const luaL_Reg methods[] = {
    {"head", m_head},   {"event", m_event},        {"bytes", m_bytes},          {"peek", m_peek},
    {"times", m_times}, {"close", close_exchange}, {"finish", finish_exchange}, {NULL, NULL},
};

static const luaL_Reg functions[] = {{"open", l_open}, {"replay", l_replay}, {NULL, NULL}};

void http_stream_open(lua_State *L, int state) {
    http_new_metatable(L, HTTP_EXCHANGE, close_exchange);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushvalue(L, state);
    luaL_setfuncs(L, functions, 1);
}
