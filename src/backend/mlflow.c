/* moonflow.backend.mlflow: the deployments API of MLflow's AI Gateway (`mlflow gateway start`), for
 * targets http:// and https:// (spec: the calls of MLflow's own client). */
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "backend/request.h"
#include "core/url.h"
#include "lib/modules.h"

/* The hints, upvalues that all methods share. */
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
    "Methods: predict, predict_stream, list_endpoints, get_endpoint.\n"
    "Credentials: the options token, or username and password; MLFLOW_TRACKING_USERNAME and\n"
    "MLFLOW_TRACKING_PASSWORD, ~/.mlflow/credentials, or MLFLOW_TRACKING_TOKEN.";

static const char NO_DEPLOYMENTS[] = ": a gateway has no deployments";

/* Pushes the URL of self's target with the rest behind it; see request_extend_url. [-0, +1, e] */
static void push_url(lua_State *L, const char *path, const struct request_name *name,
                     const char *tail) {
    lua_getfield(L, REQUEST_SELF, BASE_FIELD);
    request_extend_url(L, path, name, tail);
}

/* Makes endpoint_url of the endpoint on top of the stack absolute, where it is a text that a URL
 * can hold. [-0, +0, e] */
static void resolve_endpoint(lua_State *L) {
    if (!lua_istable(L, -1)) {
        request_raise_decode(L, "the server's answer has something else in place of an endpoint");
    }
    if (lua_getfield(L, -1, "endpoint_url") == LUA_TSTRING) {
        size_t base_len;
        size_t len;
        lua_getfield(L, REQUEST_SELF, "target_uri");
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

static int query(lua_State *L, bool stream) {
    const char *operation = stream ? "predict_stream" : "predict";
    lua_settop(L, REQUEST_ARGS);
    struct request_name name = request_endpoint(L, operation, NO_DEPLOYMENTS);
    push_url(L, "/endpoints", &name, "/invocations");
    return request_query(L, operation, PREDICT_HINTS, stream);
}

static int m_predict(lua_State *L) {
    return query(L, false);
}

static int m_predict_stream(lua_State *L) {
    return query(L, true);
}

static int finish_get_endpoint(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    resolve_endpoint(L);
    return 1;
}

static int m_get_endpoint(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    struct request_name name = request_endpoint(L, "get_endpoint", NO_DEPLOYMENTS);
    push_url(L, "/api/2.0/endpoints", &name, "");
    request_push(L, "send", "GET", API_HINTS);
    request_set(L, "timeout", REQUEST_TIMEOUT);
    lua_callk(L, 2, 1, 0, finish_get_endpoint);
    return finish_get_endpoint(L, LUA_OK, 0);
}

static int finish_list_endpoints(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    lua_Integer count = luaL_len(L, REQUEST_RESULT);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(L, REQUEST_RESULT, i);
        resolve_endpoint(L);
        lua_pop(L, 1);
    }
    return 1;
}

static int m_list_endpoints(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    push_url(L, "/api/2.0/endpoints/", NULL, "");
    request_push(L, "pages", "GET", API_HINTS);
    request_set(L, "timeout", REQUEST_TIMEOUT);
    request_set(L, "list", "endpoints");
    lua_callk(L, 2, 1, 0, finish_list_endpoints);
    return finish_list_endpoints(L, LUA_OK, 0);
}

/* A new client: its target must be a URL that paths can be added to; the start of these is kept. */
static int m_init(lua_State *L) {
    size_t len;
    lua_settop(L, REQUEST_SELF);
    lua_getfield(L, REQUEST_SELF, "target_uri");
    const char *target = luaL_checklstring(L, -1, &len);
    struct buf *base = lib_new_buf(L, URL_MAX);
    struct error err;
    if (!url_start(base, target, len, &err)) {
        return lib_raise(L, &err);
    }
    lua_pushlstring(L, base->data, base->len);
    lua_setfield(L, REQUEST_SELF, BASE_FIELD);
    return 0;
}

static const luaL_Reg methods[] = {
    {"init", m_init},
    {"predict", m_predict},
    {"predict_stream", m_predict_stream},
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

int luaopen_moonflow_backend_mlflow(lua_State *L) {
    lua_createtable(L, 0, 6);
    request_set(L, "name", "MlflowDeploymentClient");
    push_hints(L, API_HINT);
    push_hints(L, PREDICT_HINT);
    luaL_setfuncs(L, methods, 2);
    request_push_backend(L, "http", "MLflow AI Gateway", TARGET_HELP);
    return 1;
}
