/* moonflow._http: one HTTP exchange. It checks the request, keeps credentials to their origin,
 * hands the rest to src/net and parks the task. Its module is loaded at the first request. What a
 * status means, retries, proxies and the environment are the business of the Lua above. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/url.h"
#include "lib/modules.h"
#include "lib/task_api.h"
#include "net/transfer.h"
#include "net/transport.h"

#define HTTP_STATE "moonflow.http" /* metatable, and registry field of the one instance */
#define HTTP_CALL "moonflow.http.call"

static const size_t MAX_BODY = (size_t)64 * 1024 * 1024;

enum { REQUEST = 1, STATE = lua_upvalueindex(1) };

/* The transport of a Lua state, known to its loop. */
struct http {
    struct transport *transport;
    struct source source;
    const struct task_api *api;
};

/* One running perform(). Its user value anchors the request's body. */
struct call {
    struct transfer transfer;
    struct waiter waiter;
    const struct task_api *api;
};

/* The request's fields */

static int wrong_type(lua_State *L, const char *name, const char *wanted) {
    return lib_misuse(L, "request.%s must be %s, not %s", name, wanted, luaL_typename(L, -1));
}

/* The texts stay on the stack, which keeps them where they are until the transfer is started. */
static const char *text_field(lua_State *L, const char *name) {
    size_t len;
    if (lua_getfield(L, REQUEST, name) == LUA_TNIL) {
        return NULL;
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        wrong_type(L, name, "a string");
    }
    const char *text = lua_tolstring(L, -1, &len);
    if (strlen(text) != len) {
        lib_misuse(L, "request.%s has a NUL byte", name);
    }
    return text;
}

static const char *required_text(lua_State *L, const char *name) {
    const char *text = text_field(L, name);
    if (text == NULL) {
        wrong_type(L, name, "a string");
    }
    return text;
}

static bool flag_field(lua_State *L, const char *name) {
    int type = lua_getfield(L, REQUEST, name);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        wrong_type(L, name, "a boolean");
    }
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

/* Seconds as nanoseconds. `usual` is in seconds; infinity is no limit. */
static int64_t time_field(lua_State *L, const char *name, double usual) {
    double seconds = usual;
    if (lua_getfield(L, REQUEST, name) != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TNUMBER || !(lua_tonumber(L, -1) > 0)) {
            lib_misuse(L, "request.%s must be a number of seconds above 0", name);
        }
        seconds = lua_tonumber(L, -1);
    }
    lua_pop(L, 1);
    return seconds < 9e9 ? (int64_t)(seconds * 1e9) : TRANSPORT_NEVER;
}

static size_t size_field(lua_State *L, const char *name, size_t usual) {
    size_t size = usual;
    if (lua_getfield(L, REQUEST, name) != LUA_TNIL) {
        int is_integer;
        lua_Integer value = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer || value < 0) {
            lib_misuse(L, "request.%s must be a number of bytes", name);
        }
        size = (size_t)value;
    }
    lua_pop(L, 1);
    return size;
}

static void read_request(lua_State *L, struct transfer_request *r) {
    memset(r, 0, sizeof *r);
    r->method = required_text(L, "method");
    r->url = required_text(L, "url");
    r->proxy = text_field(L, "proxy");
    r->no_proxy = text_field(L, "no_proxy");
    r->ca_file = text_field(L, "ca_file");
    r->ca_path = text_field(L, "ca_path");
    r->client_cert = text_field(L, "client_cert");
    r->client_key = text_field(L, "client_key");
    r->connect_timeout = time_field(L, "connect_timeout", 10);
    r->first_byte_timeout = time_field(L, "first_byte_timeout", 120);
    r->idle_timeout = time_field(L, "idle_timeout", 120);
    r->total_timeout = time_field(L, "total_timeout", HUGE_VAL);
    r->max_body = size_field(L, "max_body", MAX_BODY);
    r->insecure_tls = flag_field(L, "insecure_tls");
    r->http2 = flag_field(L, "http2");
    if (r->ca_file != NULL && r->ca_path != NULL) {
        lib_misuse(L, "request.ca_file and request.ca_path exclude each other");
    }
    /* Last, so that the body is on top of the stack. */
    if (lua_getfield(L, REQUEST, "body") != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TSTRING) {
            wrong_type(L, "body", "a string");
        }
        r->body = lua_tolstring(L, -1, &r->body_len);
    }
}

/* Headers and credentials */

/* Where a request goes, and whether a credential may go there. */
struct destination {
    char origin[URL_ORIGIN_SIZE];
    bool safe; /* https, this machine, or the user's express wish */
};

static bool find_destination(lua_State *L, const char *text, struct destination *to,
                             struct error *err) {
    struct url url;
    if (!url_parse(&url, text, strlen(text), err)) {
        return false;
    }
    if (strcmp(url.scheme, "https") != 0 && strcmp(url.scheme, "http") != 0) {
        return error_set(err, ERROR_USAGE, NULL, "a URL must be http:// or https://, not %s://",
                         url.scheme);
    }
    url_origin(&url, to->origin);
    to->safe = strcmp(url.scheme, "https") == 0 || url_is_loopback(url.host) ||
               flag_field(L, "allow_insecure_http");
    return true;
}

static bool is_credential(const char *name) {
    static const char *const NAMES[] = {"Authorization", "api-key", "x-api-key", "Cookie"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        if (strcasecmp(name, NAMES[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool check_credential(const char *name, const struct lib_secret *secret,
                             const struct destination *to, struct error *err) {
    if (secret != NULL && secret->origin != NULL && strcmp(secret->origin, to->origin) != 0) {
        return error_set(err, ERROR_CONFIG, NULL,
                         "the credential in the header %s is for %s and is not sent to %s", name,
                         secret->origin, to->origin);
    }
    if (!to->safe && (secret != NULL || is_credential(name))) {
        error_set(err, ERROR_CONFIG, NULL,
                  "the credential in the header %s is not sent in clear text to %s", name,
                  to->origin);
        error_hint(err, "use https://, or say allow_insecure_http = true or "
                        "MOONFLOW_ALLOW_INSECURE_HTTP=true");
        return false;
    }
    return true;
}

/* The value on top of the stack as the header `name`. Raises where it is no valid header, returns
 * false where the credential must not be sent. */
static bool add_header(lua_State *L, struct call *call, const char *name, size_t name_len,
                       const struct destination *to, struct error *err) {
    const struct lib_secret *secret = lib_test_secret(L, -1);
    size_t len;
    const char *value;
    if (secret != NULL) {
        value = secret->bytes;
        len = secret->len;
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        value = lua_tolstring(L, -1, &len);
    } else {
        return lib_misuse(L, "a header's value must be a string, a secret or a list of those");
    }
    if (!transfer_header(&call->transfer, name, name_len, value, len, err)) {
        return lib_raise(L, err);
    }
    return check_credential(name, secret, to, err);
}

static bool add_list(lua_State *L, struct call *call, const char *name, size_t name_len,
                     const struct destination *to, struct error *err) {
    lua_Integer n = luaL_len(L, -1);
    bool ok = true;
    for (lua_Integer i = 1; ok && i <= n; i++) {
        lua_geti(L, -1, i);
        ok = add_header(L, call, name, name_len, to, err);
        lua_pop(L, 1);
    }
    return ok;
}

static bool add_headers(lua_State *L, struct call *call, const struct destination *to,
                        struct error *err) {
    int type = lua_getfield(L, REQUEST, "headers");
    if (type != LUA_TNIL && type != LUA_TTABLE) {
        wrong_type(L, "headers", "a table");
    }
    bool ok = true;
    lua_pushnil(L);
    while (ok && type == LUA_TTABLE && lua_next(L, -2)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lib_misuse(L, "request.headers maps names to values");
        }
        size_t len;
        const char *name = lua_tolstring(L, -2, &len);
        ok = lua_istable(L, -1) ? add_list(L, call, name, len, to, err)
                                : add_header(L, call, name, len, to, err);
        lua_pop(L, 1);
    }
    return ok;
}

/* The response */

/* Adds to the table on top; what is there already comes first. */
static void push_header(lua_State *L, struct transfer_text name, struct transfer_text value) {
    lua_pushlstring(L, name.data, name.len);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) == LUA_TSTRING) {
        lua_pushliteral(L, ", ");
        lua_pushlstring(L, value.data, value.len);
        lua_concat(L, 3);
    } else {
        lua_pop(L, 1);
        lua_pushlstring(L, value.data, value.len);
    }
    lua_rawset(L, -3);
}

static void push_headers(lua_State *L, const struct transfer *x) {
    size_t offset = 0;
    struct transfer_text name, value;
    lua_createtable(L, 0, 16);
    while (transfer_next_header(x, &offset, &name, &value)) {
        push_header(L, name, value);
    }
}

static void set_seconds(lua_State *L, const char *name, int64_t nanoseconds) {
    lua_pushnumber(L, (lua_Number)nanoseconds / 1e9);
    lua_setfield(L, -2, name);
}

static int push_response(lua_State *L, struct transfer *x) {
    lua_createtable(L, 0, 7);
    lua_pushinteger(L, x->status);
    lua_setfield(L, -2, "status");
    struct transfer_text reason = transfer_reason(x);
    lua_pushlstring(L, reason.data, reason.len);
    lua_setfield(L, -2, "reason");
    push_headers(L, x);
    lua_setfield(L, -2, "headers");
    struct buf *body = lib_new_buf(L, x->body.max);
    *body = x->body;
    buf_init(&x->body, 0);
    lua_setfield(L, -2, "body");
    lua_getfield(L, REQUEST, "url");
    lua_setfield(L, -2, "url");
    lua_createtable(L, 0, 3);
    set_seconds(L, "connect", x->connect_time);
    set_seconds(L, "first_byte", x->first_byte_time);
    set_seconds(L, "total", x->total_time);
    lua_setfield(L, -2, "timings");
    lua_pushboolean(L, x->reused);
    lua_setfield(L, -2, "reused");
    return 1;
}

/* Perform */

static int close_call(lua_State *L) {
    struct call *call = luaL_checkudata(L, 1, HTTP_CALL);
    transfer_close(&call->transfer);
    call->api->waiter_close(&call->waiter);
    return 0;
}

/* Pushes a call that is closed as soon as perform is left, however that happens. */
static struct call *new_call(lua_State *L, const struct task_api *api) {
    struct call *call = lua_newuserdatauv(L, sizeof *call, 1);
    transfer_init(&call->transfer);
    call->api = api;
    api->waiter_init(L, &call->waiter);
    luaL_setmetatable(L, HTTP_CALL);
    lua_toclose(L, -1);
    return call;
}

static void on_done(void *ctx) {
    struct call *call = ctx;
    call->api->wake(&call->waiter);
}

static int after_wait(lua_State *L, int status, lua_KContext index) {
    (void)status;
    struct call *call = lua_touserdata(L, (int)index);
    if (call->transfer.failed) {
        return lib_fail(L, &call->transfer.error);
    }
    return push_response(L, &call->transfer);
}

static int perform(lua_State *L) {
    struct http *http = lua_touserdata(L, STATE);
    luaL_checktype(L, REQUEST, LUA_TTABLE);
    lua_settop(L, REQUEST);
    struct transfer_request request;
    read_request(L, &request);
    int body = lua_gettop(L);
    struct destination to;
    struct error err;
    if (!find_destination(L, request.url, &to, &err)) {
        return lib_raise(L, &err);
    }
    if (http->transport == NULL) {
        return lib_misuse(L, "this Lua state is being closed");
    }
    struct call *call = new_call(L, http->api);
    int index = lua_gettop(L);
    lua_pushvalue(L, body);
    lua_setiuservalue(L, index, 1);
    if (!add_headers(L, call, &to, &err)) {
        return lib_fail(L, &err);
    }
    if (!transfer_start(&call->transfer, http->transport, &request, on_done, call, &err)) {
        return err.kind == ERROR_USAGE ? lib_raise(L, &err) : lib_fail(L, &err);
    }
    return http->api->wait(L, &call->waiter, index, after_wait);
}

/* The state's transport */

static int64_t source_deadline(void *ctx) {
    return transport_deadline(((struct http *)ctx)->transport);
}

static void source_dispatch(void *ctx) {
    transport_dispatch(((struct http *)ctx)->transport);
}

static void source_wait(void *ctx, struct pollfd *fds, int n, int timeout_ms) {
    transport_wait(((struct http *)ctx)->transport, fds, n, timeout_ms);
}

static int close_state(lua_State *L) {
    struct http *http = luaL_checkudata(L, 1, HTTP_STATE);
    if (http->transport != NULL) {
        http->api->remove_source(L, &http->source);
        transport_free(http->transport);
        http->transport = NULL;
    }
    return 0;
}

/* Pushes this Lua state's one transport. */
static void push_state(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, HTTP_STATE ".instance") == LUA_TUSERDATA) {
        return;
    }
    lua_pop(L, 1);
    const struct task_api *api = task_api(L);
    struct http *http = lua_newuserdatauv(L, sizeof *http, 0);
    memset(http, 0, sizeof *http);
    luaL_setmetatable(L, HTTP_STATE);
    http->api = api;
    http->source = (struct source){
        .ctx = http, .deadline = source_deadline, .dispatch = source_dispatch, .wait = source_wait};
    struct error err;
    http->transport = transport_new(&err);
    if (http->transport == NULL) {
        lib_raise(L, &err);
    }
    api->add_source(L, &http->source);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, HTTP_STATE ".instance");
}

static void new_metatable(lua_State *L, const char *name, lua_CFunction close) {
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pushliteral(L, "moonflow");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

static const luaL_Reg FUNCTIONS[] = {
    {"perform", perform},
    {NULL, NULL},
};

int luaopen_moonflow__http(lua_State *L) {
    new_metatable(L, HTTP_STATE, close_state);
    new_metatable(L, HTTP_CALL, close_call);
    luaL_newlibtable(L, FUNCTIONS);
    push_state(L);
    luaL_setfuncs(L, FUNCTIONS, 1);
    return 1;
}
