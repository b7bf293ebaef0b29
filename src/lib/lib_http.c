/* moonflow._http: one HTTP exchange. What requests to one origin have in common is a profile, which
 * keeps credentials to that origin; the rest goes to src/net while the task is parked. Its module
 * is loaded at the first request. What a status means, retries, proxies and the environment are the
 * business of the Lua above. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include <lauxlib.h>
#include <lua.h>

#include "lib/lib_http.h"
#include "lib/modules.h"

#define HTTP_STATE "moonflow.http" /* metatable, and registry field of the one instance */
#define HTTP_PROFILE "moonflow.http.profile"
#define HTTP_CALL "moonflow.http.call"

static const size_t MAX_BODY = (size_t)64 * 1024 * 1024;

enum { SETTINGS = 1 }; /* profile()'s argument, and the user value that anchors its texts */

enum { CALL = HTTP_CONNECT_TIMEOUT + 1 }; /* perform()'s running call */

/* What the requests to one origin have in common. */
struct profile {
    struct transfer_fields fields;
    struct transfer_request request; /* as far as it is known */
    char origin[URL_ORIGIN_SIZE];
    bool safe;         /* https, this machine, or the user's express wish */
    size_t prefix_len; /* of the origin as it was written, which a request's URL begins with */
    const char *prefix;
};

/* The settings of a profile */

static int wrong_type(lua_State *L, const char *name, const char *wanted) {
    return lib_misuse(L, "the setting %s must be %s, not %s", name, wanted, luaL_typename(L, -1));
}

/* The settings' table keeps the text where it is. */
static const char *text_field(lua_State *L, const char *name) {
    size_t len;
    if (lua_getfield(L, SETTINGS, name) == LUA_TNIL) {
        lua_pop(L, 1);
        return NULL;
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        wrong_type(L, name, "a string");
    }
    const char *text = lua_tolstring(L, -1, &len);
    if (strlen(text) != len) {
        lib_misuse(L, "the setting %s has a NUL byte", name);
    }
    lua_pop(L, 1);
    return text;
}

static bool flag_field(lua_State *L, const char *name) {
    int type = lua_getfield(L, SETTINGS, name);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        wrong_type(L, name, "a boolean");
    }
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static size_t size_field(lua_State *L, const char *name, size_t usual) {
    size_t size = usual;
    if (lua_getfield(L, SETTINGS, name) != LUA_TNIL) {
        int is_integer;
        lua_Integer value = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer || value < 0) {
            lib_misuse(L, "the setting %s must be a number of bytes", name);
        }
        size = (size_t)value;
    }
    lua_pop(L, 1);
    return size;
}

static void read_settings(lua_State *L, struct transfer_request *r) {
    r->proxy = text_field(L, "proxy");
    r->no_proxy = text_field(L, "no_proxy");
    r->ca_file = text_field(L, "ca_file");
    r->ca_path = text_field(L, "ca_path");
    r->client_cert = text_field(L, "client_cert");
    r->client_key = text_field(L, "client_key");
    r->max_body = size_field(L, "max_body", MAX_BODY);
    r->insecure_tls = flag_field(L, "insecure_tls");
    r->http2 = flag_field(L, "http2");
    if (r->ca_file != NULL && r->ca_path != NULL) {
        lib_misuse(L, "the settings ca_file and ca_path exclude each other");
    }
}

/* Headers and credentials */

/* Reads where the profile's requests go, and whether a credential may go there. */
static bool read_origin(lua_State *L, struct profile *p, struct error *err) {
    const char *text = text_field(L, "url");
    if (text == NULL) {
        return error_set(err, ERROR_USAGE, NULL, "a profile needs a url");
    }
    struct url url;
    if (!url_parse(&url, text, strlen(text), err)) {
        return false;
    }
    bool https = strcmp(url.scheme, "https") == 0;
    if (!https && strcmp(url.scheme, "http") != 0) {
        return error_set(err, ERROR_USAGE, NULL, "a URL must be http:// or https://, not %s://",
                         url.scheme);
    }
    url_origin(&url, p->origin);
    p->safe = https || url_is_loopback(url.host) || flag_field(L, "allow_insecure_http");
    p->prefix = text;
    p->prefix_len = strcspn(text, ":") + strlen("://");
    p->prefix_len += strcspn(text + p->prefix_len, "/?#");
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
                             const struct profile *p, struct error *err) {
    if (secret != NULL && secret->origin != NULL && strcmp(secret->origin, p->origin) != 0) {
        return error_set(err, ERROR_CONFIG, NULL,
                         "the credential in the header %s is for %s and is not sent to %s", name,
                         secret->origin, p->origin);
    }
    if (!p->safe && (secret != NULL || is_credential(name))) {
        error_set(err, ERROR_CONFIG, NULL,
                  "the credential in the header %s is not sent in clear text to %s", name,
                  p->origin);
        error_hint(err, "use https://, or say allow_insecure_http = true or "
                        "MOONFLOW_ALLOW_INSECURE_HTTP=true");
        return false;
    }
    return true;
}

/* The value on top of the stack as the header `name`. Raises where it is no valid header, returns
 * false where the credential must not be sent. */
static bool add_header(lua_State *L, struct profile *p, const char *name, size_t name_len,
                       struct error *err) {
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
    if (!transfer_fields_add(&p->fields, name, name_len, value, len, err)) {
        return lib_raise(L, err);
    }
    return check_credential(name, secret, p, err);
}

static bool add_list(lua_State *L, struct profile *p, const char *name, size_t name_len,
                     struct error *err) {
    lua_Integer n = luaL_len(L, -1);
    bool ok = true;
    for (lua_Integer i = 1; ok && i <= n; i++) {
        lua_geti(L, -1, i);
        ok = add_header(L, p, name, name_len, err);
        lua_pop(L, 1);
    }
    return ok;
}

static bool add_headers(lua_State *L, struct profile *p, struct error *err) {
    int type = lua_getfield(L, SETTINGS, "headers");
    if (type != LUA_TNIL && type != LUA_TTABLE) {
        wrong_type(L, "headers", "a table");
    }
    bool ok = true;
    lua_pushnil(L);
    while (ok && type == LUA_TTABLE && lua_next(L, -2)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lib_misuse(L, "headers map names to values");
        }
        size_t len;
        const char *name = lua_tolstring(L, -2, &len);
        ok = lua_istable(L, -1) ? add_list(L, p, name, len, err) : add_header(L, p, name, len, err);
        lua_pop(L, 1);
    }
    return ok && transfer_fields_complete(&p->fields, err);
}

static int free_profile(lua_State *L) {
    struct profile *p = luaL_checkudata(L, 1, HTTP_PROFILE);
    transfer_fields_free(&p->fields);
    return 0;
}

/*** What requests to one origin have in common, read and checked once.
 * @param settings url (of the origin; a path behind it does not matter), headers (name to string,
 * secret or list of those), proxy, no_proxy, ca_file or ca_path, client_cert, client_key,
 * insecure_tls, http2, allow_insecure_http, max_body (bytes, default 64 MiB)
 * @return the profile; or nil and an error where a credential must not be sent to this origin.
 * Raises where the settings are not valid. */
static int l_profile(lua_State *L) {
    struct http *http = lua_touserdata(L, HTTP_UPVALUE);
    struct error err;
    luaL_checktype(L, SETTINGS, LUA_TTABLE);
    lua_settop(L, SETTINGS);
    struct profile *p = lua_newuserdatauv(L, sizeof *p, 1);
    memset(p, 0, sizeof *p);
    luaL_setmetatable(L, HTTP_PROFILE);
    lua_pushvalue(L, SETTINGS);
    lua_setiuservalue(L, -2, 1);
    read_settings(L, &p->request);
    if (!read_origin(L, p, &err)) {
        return lib_raise(L, &err);
    }
    int profile = lua_gettop(L);
    if (!add_headers(L, p, &err)) {
        return lib_fail(L, &err);
    }
    p->request.fields = &p->fields;
    p->request.profile = ++http->profiles;
    lua_settop(L, profile);
    return 1;
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

/*** Reads the head of an answer.
 * @param head the response's
 * @return the reason phrase; a table from lower-case names to values, repeats joined by ", " */
static int l_parse_head(lua_State *L) {
    struct transfer_text head;
    size_t offset = 0;
    struct transfer_text name, value;
    head.data = luaL_checklstring(L, 1, &head.len);
    struct transfer_text reason = transfer_reason(head);
    lua_pushlstring(L, reason.data, reason.len);
    lua_createtable(L, 0, 16);
    while (transfer_next_header(head, &offset, &name, &value)) {
        push_header(L, name, value);
    }
    return 2;
}

static void set_seconds(lua_State *L, const char *name, int64_t nanoseconds) {
    lua_pushnumber(L, (lua_Number)nanoseconds / 1e9);
    lua_setfield(L, -2, name);
}

void http_set_times(lua_State *L, const struct transfer *x) {
    set_seconds(L, "connect_time", x->connect_time);
    set_seconds(L, "first_byte_time", x->first_byte_time);
    set_seconds(L, "total_time", x->total_time);
    lua_pushboolean(L, x->reused);
    lua_setfield(L, -2, "reused");
}

static int push_response(lua_State *L, struct transfer *x) {
    lua_createtable(L, 0, 7);
    lua_pushinteger(L, x->status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, x->headers.len > 0 ? x->headers.data : "", x->headers.len);
    lua_setfield(L, -2, "head");
    struct buf *body = lib_new_buf(L, x->body.max);
    *body = x->body;
    buf_init(&x->body, 0);
    lua_setfield(L, -2, "body");
    http_set_times(L, x);
    return 1;
}

/* Sending */

static const char *check_text(lua_State *L, int index) {
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    luaL_argcheck(L, strlen(text) == len, index, "a text without NUL bytes expected");
    return text;
}

/* Seconds as nanoseconds. `usual` is in seconds; infinity is no limit. */
static int64_t check_time(lua_State *L, int index, double usual) {
    lua_Number seconds = luaL_optnumber(L, index, usual);
    luaL_argcheck(L, seconds > 0, index, "a number of seconds above 0 expected");
    return seconds < 9e9 ? (int64_t)(seconds * 1e9) : TRANSPORT_NEVER;
}

static bool has_origin(const struct profile *p, const char *url) {
    return strncmp(url, p->prefix, p->prefix_len) == 0 &&
           strchr("/?#", url[p->prefix_len]) != NULL; /* or the end of the text */
}

struct http *http_check_request(lua_State *L, struct transfer_request *request) {
    struct http *http = lua_touserdata(L, HTTP_UPVALUE);
    const struct profile *p = luaL_checkudata(L, HTTP_PROFILE_ARG, HTTP_PROFILE);
    *request = p->request;
    request->method = check_text(L, HTTP_METHOD);
    request->url = check_text(L, HTTP_URL);
    request->body = luaL_optlstring(L, HTTP_BODY, NULL, &request->body_len);
    request->first_byte_timeout = check_time(L, HTTP_TIMEOUT, 120);
    request->idle_timeout = request->first_byte_timeout;
    request->total_timeout = check_time(L, HTTP_TOTAL_TIMEOUT, HUGE_VAL);
    request->connect_timeout = check_time(L, HTTP_CONNECT_TIMEOUT, 10);
    if (!has_origin(p, request->url)) {
        lib_misuse(L, "a profile for %s can not send to another origin", p->origin);
    }
    if (http->transport == NULL) {
        lib_misuse(L, "this Lua state is being closed");
    }
    lua_settop(L, HTTP_CONNECT_TIMEOUT);
    return http;
}

static void on_done(void *ctx) {
    struct http_call *call = ctx;
    call->api->wake(&call->waiter);
}

void http_call_init(lua_State *L, struct http_call *call, const struct task_api *api) {
    transfer_init(&call->transfer);
    call->api = api;
    api->waiter_init(L, &call->waiter);
}

bool http_call_start(lua_State *L, int index, struct http *http,
                     const struct transfer_request *request, struct error *err) {
    struct http_call *call = lua_touserdata(L, index);
    lua_pushvalue(L, HTTP_PROFILE_ARG);
    lua_setiuservalue(L, index, HTTP_CALL_PROFILE);
    lua_pushvalue(L, HTTP_BODY);
    lua_setiuservalue(L, index, HTTP_CALL_BODY);
    if (transfer_start(&call->transfer, http->transport, request, on_done, call, err)) {
        return true;
    }
    return err->kind == ERROR_USAGE ? lib_raise(L, err) : false;
}

void http_call_close(struct http_call *call) {
    transfer_close(&call->transfer);
    call->api->waiter_close(&call->waiter);
}

static int close_call(lua_State *L) {
    http_call_close(luaL_checkudata(L, 1, HTTP_CALL));
    return 0;
}

static int after_wait(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    struct http_call *call = lua_touserdata(L, CALL);
    if (call->transfer.failed) {
        return lib_fail(L, &call->transfer.error);
    }
    return push_response(L, &call->transfer);
}

/*** Sends one request, and parks the task until it is answered. Whatever the status, an answer is a
 * success here.
 * @param profile of the URL's origin
 * @param method
 * @param url
 * @param body string or nil
 * @param timeout seconds to wait for the first byte, and between two pieces of the body (120)
 * @param total_timeout seconds for all of it (none)
 * @param connect_timeout seconds (10)
 * @return a table: status, head (see parse_head), body (a buffer), connect_time, first_byte_time
 * and total_time (seconds since the start), reused (over a connection that was open already); or
 * nil and an error. Raises where an argument is not valid. */
static int l_perform(lua_State *L) {
    struct transfer_request request;
    struct error err;
    struct http *http = http_check_request(L, &request);
    struct http_call *call = lua_newuserdatauv(L, sizeof *call, HTTP_CALL_VALUES);
    http_call_init(L, call, http->api);
    luaL_setmetatable(L, HTTP_CALL);
    lua_toclose(L, CALL); /* it ends as soon as perform is left, however that happens */
    if (!http_call_start(L, CALL, http, &request, &err)) {
        return lib_fail(L, &err);
    }
    return http->api->wait(L, &call->waiter, 0, after_wait);
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

void http_new_metatable(lua_State *L, const char *name, lua_CFunction close) {
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pushliteral(L, "moonflow");
    lua_setfield(L, -2, "__metatable");
}

/*** @return the versions of libcurl and its libraries: "libcurl/8.5.0 OpenSSL/3.0.13 ..." */
static int l_version(lua_State *L) {
    lua_pushstring(L, transport_version());
    return 1;
}

static const luaL_Reg functions[] = {
    {"profile", l_profile},       {"version", l_version}, {"perform", l_perform},
    {"parse_head", l_parse_head}, {NULL, NULL},
};

int luaopen_moonflow__http(lua_State *L) {
    http_new_metatable(L, HTTP_STATE, close_state);
    http_new_metatable(L, HTTP_PROFILE, free_profile);
    http_new_metatable(L, HTTP_CALL, close_call);
    lua_pop(L, 3);
    push_state(L);
    int state = lua_gettop(L);
    luaL_newlibtable(L, functions);
    lua_pushvalue(L, state);
    luaL_setfuncs(L, functions, 1);
    http_stream_open(L, state);
    return 1;
}
