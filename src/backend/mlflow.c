/* moonflow.backend.mlflow: the deployments API of MLflow's AI Gateway (`mlflow gateway start`), for
 * targets http:// and https:// (spec: the calls of MLflow's own client). Turns arguments into
 * requests and nothing more: sending, retrying and paging are the pipeline's, which self:send and
 * self:pages lead to. */
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/url.h"
#include "lib/modules.h"

/* The stack of each method; the hints are upvalues that all of them share. */
enum { SELF = 1, ARGS = 2, RESULT = 3 };
enum { API_HINTS = lua_upvalueindex(1), PREDICT_HINTS = lua_upvalueindex(2) };

static const char BASE_FIELD[] = "_base"; /* of a client: its target without slashes at the end */

static const char REQUEST_TIMEOUT[] = "MLFLOW_DEPLOYMENT_CLIENT_HTTP_REQUEST_TIMEOUT";

static const char CONNECT_HINT[] =
    "is the gateway running?  mlflow gateway start --config-path config.yaml";
/* A gateway has a route for each endpoint, so a wrong name looks like a wrong server. */
static const char PREDICT_HINT[] =
    "list_endpoints shows the names that there are; where it fails too, this server does not have "
    "the API of `mlflow gateway start` (an MLflow tracking server, from 3.8 on with a gateway of "
    "its own, speaks another one)";
static const char API_HINT[] =
    "this server does not have the API of `mlflow gateway start`; an MLflow tracking server, from "
    "3.8 on with a gateway of its own, speaks another one";

static const char TARGET_HELP[] =
    "http://HOST[:PORT][/PREFIX] or https://...: an MLflow AI Gateway (mlflow gateway start)\n"
    "Methods: predict, list_endpoints, get_endpoint.\n"
    "Credentials: the options token, or username and password; MLFLOW_TRACKING_USERNAME and\n"
    "MLFLOW_TRACKING_PASSWORD, ~/.mlflow/credentials, or MLFLOW_TRACKING_TOKEN.";

/* An endpoint's name: inside a Lua string that stays on the stack. */
struct name {
    const char *text;
    size_t len;
};

/* Pushes the URL of self's target with `path` behind it, then `name` as one segment where it is not
 * NULL, then `tail`. Raises where the name can be no segment. [-0, +1, e] */
static void push_url(lua_State *L, const char *path, const struct name *name, const char *tail) {
    size_t len;
    lua_getfield(L, SELF, BASE_FIELD);
    const char *base = luaL_checklstring(L, -1, &len);
    struct buf *url = lib_new_buf(L, URL_MAX);
    struct error err;
    bool fits = buf_append(url, base, len) && buf_puts(url, path);
    if (fits && name != NULL && !url_add_segment(url, name->text, name->len, &err)) {
        lib_raise(L, &err);
    }
    if (!fits || !buf_puts(url, tail)) {
        lib_misuse(L, "a URL cannot be longer than %d bytes", URL_MAX);
    }
    lua_pushlstring(L, url->data, url->len);
    buf_free(url);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* The endpoint's name among the arguments, which stay on the stack and keep it. */
static struct name check_endpoint(lua_State *L, const char *operation) {
    struct name name;
    if (lua_getfield(L, ARGS, "endpoint") != LUA_TSTRING) {
        lib_misuse(L, "%s needs the argument \"endpoint\": a gateway has no deployments",
                   operation);
    }
    name.text = lua_tolstring(L, -1, &name.len);
    lua_pop(L, 1);
    return name;
}

/* Turns the URL on top of the stack into a call of self:`sender` that is ready to be made: the
 * function, self, and a request for the URL with the call's options and these hints, to which more
 * fields may be added. [-1, +3, e] */
static void push_request(lua_State *L, const char *sender, const char *method, int hints) {
    lua_getfield(L, SELF, sender);
    lua_insert(L, -2);
    lua_pushvalue(L, SELF);
    lua_insert(L, -2);
    lua_createtable(L, 0, 7);
    lua_insert(L, -2);
    lua_setfield(L, -2, "url");
    lua_pushstring(L, method);
    lua_setfield(L, -2, "method");
    lua_getfield(L, ARGS, "options");
    lua_setfield(L, -2, "options");
    lua_pushvalue(L, hints);
    lua_setfield(L, -2, "hints");
}

static int raise_decode(lua_State *L, const char *message) {
    struct error err;
    error_set(&err, ERROR_DECODE, NULL, "%s", message);
    return lib_raise(L, &err);
}

/* Makes endpoint_url of the endpoint on top of the stack absolute, where it is a text that a URL
 * can hold. [-0, +0, e] */
static void resolve_endpoint(lua_State *L) {
    if (!lua_istable(L, -1)) {
        raise_decode(L, "the server's answer has something else in place of an endpoint");
    }
    if (lua_getfield(L, -1, "endpoint_url") == LUA_TSTRING) {
        size_t base_len;
        size_t len;
        lua_getfield(L, SELF, "target_uri");
        const char *base = luaL_checklstring(L, -1, &base_len);
        const char *endpoint = lua_tolstring(L, -2, &len);
        struct buf *url = lib_new_buf(L, URL_MAX);
        struct error err;
        if (url_resolve(url, base, base_len, endpoint, len, &err)) {
            lua_pushlstring(L, url->data, url->len);
            lua_setfield(L, -5, "endpoint_url");
        }
        buf_free(url);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
}

static int finish_predict(lua_State *L, int status, lua_KContext ctx) {
    (void)L;
    (void)status;
    (void)ctx;
    return 1;
}

static int m_predict(lua_State *L) {
    lua_settop(L, ARGS);
    struct name name = check_endpoint(L, "predict");
    push_url(L, "/endpoints", &name, "/invocations");
    push_request(L, "send", "POST", PREDICT_HINTS);
    lua_pushliteral(L, "predict");
    lua_setfield(L, -2, "policy");
    lua_getfield(L, ARGS, "inputs");
    lua_setfield(L, -2, "json");
    lua_callk(L, 2, 1, 0, finish_predict);
    return finish_predict(L, LUA_OK, 0);
}

static int finish_get_endpoint(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    resolve_endpoint(L);
    return 1;
}

static int m_get_endpoint(lua_State *L) {
    lua_settop(L, ARGS);
    struct name name = check_endpoint(L, "get_endpoint");
    push_url(L, "/api/2.0/endpoints", &name, "");
    push_request(L, "send", "GET", API_HINTS);
    lua_pushstring(L, REQUEST_TIMEOUT);
    lua_setfield(L, -2, "timeout");
    lua_callk(L, 2, 1, 0, finish_get_endpoint);
    return finish_get_endpoint(L, LUA_OK, 0);
}

static int finish_list_endpoints(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    lua_Integer count = luaL_len(L, RESULT);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(L, RESULT, i);
        resolve_endpoint(L);
        lua_pop(L, 1);
    }
    return 1;
}

static int m_list_endpoints(lua_State *L) {
    lua_settop(L, ARGS);
    push_url(L, "/api/2.0/endpoints/", NULL, "");
    push_request(L, "pages", "GET", API_HINTS);
    lua_pushstring(L, REQUEST_TIMEOUT);
    lua_setfield(L, -2, "timeout");
    lua_pushliteral(L, "endpoints");
    lua_setfield(L, -2, "list");
    lua_callk(L, 2, 1, 0, finish_list_endpoints);
    return finish_list_endpoints(L, LUA_OK, 0);
}

/* A new client: its target must be a URL that paths can be added to; the start of these is kept. */
static int m_init(lua_State *L) {
    size_t len;
    lua_settop(L, SELF);
    lua_getfield(L, SELF, "target_uri");
    const char *target = luaL_checklstring(L, -1, &len);
    struct buf *base = lib_new_buf(L, URL_MAX);
    struct error err;
    if (!url_start(base, target, len, &err)) {
        return lib_raise(L, &err);
    }
    lua_pushlstring(L, base->data, base->len);
    lua_setfield(L, SELF, BASE_FIELD);
    return 0;
}

static const luaL_Reg methods[] = {
    {"init", m_init},
    {"predict", m_predict},
    {"list_endpoints", m_list_endpoints},
    {"get_endpoint", m_get_endpoint},
    {NULL, NULL},
};

/* Pushes what to try where an answer says nothing of its own. [-0, +1, m] */
static void push_hints(lua_State *L, const char *not_found) {
    lua_createtable(L, 0, 3);
    lua_pushstring(L, CONNECT_HINT);
    lua_setfield(L, -2, "connect");
    lua_pushstring(L, not_found);
    lua_pushvalue(L, -1);
    lua_seti(L, -3, 404);
    lua_seti(L, -2, 405);
}

/* Pushes the class, made by BaseDeploymentClient:extend as any plugin's. [-0, +1, e] */
static void push_class(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moonflow.client");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "BaseDeploymentClient");
    lua_getfield(L, -1, "extend");
    lua_replace(L, -3);
    lua_createtable(L, 0, 5);
    lua_pushliteral(L, "MlflowDeploymentClient");
    lua_setfield(L, -2, "name");
    push_hints(L, API_HINT);
    push_hints(L, PREDICT_HINT);
    luaL_setfuncs(L, methods, 2);
    lua_call(L, 2, 1);
}

int luaopen_moonflow_backend_mlflow(lua_State *L) {
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, 1);
    lua_setfield(L, -2, "api");
    lua_pushliteral(L, "http");
    lua_setfield(L, -2, "name");
    lua_pushliteral(L, "MLflow AI Gateway");
    lua_setfield(L, -2, "description");
    lua_pushstring(L, TARGET_HELP);
    lua_setfield(L, -2, "target_help");
    push_class(L);
    lua_setfield(L, -2, "client");
    return 1;
}
