/* What the files of moonflow._http share: the transport of a Lua state, profiles, and the arguments
 * that requests have in common. */
#ifndef MOONFLOW_LIB_HTTP_H
#define MOONFLOW_LIB_HTTP_H

#include "core/url.h"
#include "lib/lib.h"
#include "lib/task_api.h"
#include "net/transfer.h"
#include "net/transport.h"

/* The transport of a Lua state, known to its loop. */
struct http {
    struct transport *transport;
    struct source source;
    const struct task_api *api;
    uint64_t profiles; /* how many were made: the number of the next */
};

/* The first upvalue of each function of the module, and the arguments of those that send. */
enum {
    HTTP_UPVALUE = lua_upvalueindex(1),
    HTTP_PROFILE_ARG = 1,
    HTTP_METHOD,
    HTTP_URL,
    HTTP_BODY,
    HTTP_TIMEOUT,
    HTTP_TOTAL_TIMEOUT,
    HTTP_CONNECT_TIMEOUT
};

/* A running request: inside a userdata with HTTP_CALL_VALUES user values, which does not move. */
struct http_call {
    struct transfer transfer;
    struct waiter waiter;
    const struct task_api *api;
};

enum { HTTP_CALL_PROFILE = 1, HTTP_CALL_BODY, HTTP_CALL_VALUES = HTTP_CALL_BODY };

/* Reads the arguments of a function that sends. Raises where one is not valid. [-0, +0, e] */
struct http *http_check_request(lua_State *L, struct transfer_request *request);

/* Makes *call one that holds nothing. [-0, +0, e] */
void http_call_init(lua_State *L, struct http_call *call, const struct task_api *api);

/* Starts the request of the arguments; the userdata at `index` anchors what it needs. False with
 * `err` set where it can not start. [-0, +0, m] */
bool http_call_start(lua_State *L, int index, struct http *http,
                     const struct transfer_request *request, struct error *err);

/* Ends it, at any time and any number of times. [-0, +0, -] */
void http_call_close(struct http_call *call);

/* Sets the field of the table on top of the stack. [-0, +0, m] */
void http_set_times(lua_State *L, const struct transfer *x);

/* A metatable with __gc and __close, left on the stack. [-0, +1, m] */
void http_new_metatable(lua_State *L, const char *name, lua_CFunction close);

/* lib_http_stream.c: adds `open` and `replay` to the module's table on top of the stack, under the
 * upvalue at `state`. [-0, +0, m] */
void http_stream_open(lua_State *L, int state);

#endif
