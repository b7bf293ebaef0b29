/* moonflow.backend.databricks: queries to Databricks Model Serving, for the target databricks
 * (spec/mlflow.md 4). Which workspace and which token is lua/moonflow/databricks.lua's. */
#include <lauxlib.h>
#include <lua.h>

#include "backend/request.h"
#include "lib/modules.h"

/* The hints, upvalue that all methods share. */
enum { HINTS = lua_upvalueindex(1) };

static const char NOT_FOUND_HINT[] = "list_endpoints shows the endpoints that this token may see";

static const char TARGET_HELP[] =
    "databricks, or databricks://PROFILE: Databricks Model Serving\n"
    "Methods: predict, predict_stream, list_endpoints, get_endpoint.\n"
    "Credentials as in Databricks' SDKs, out of options, a named profile of ~/.databrickscfg, or\n"
    "the environment and the file: personal token, basic, OAuth of a machine, Azure (client "
    "secret,\n"
    "CLI, managed identity), Databricks CLI, metadata service, OIDC of environment, file, GitHub.";

/* Pushes the URL of the workspace with the rest behind it; see request_extend_url. [-0, +1, e] */
static void push_url(lua_State *L, const char *path, const struct request_name *name,
                     const char *tail) {
    request_push_place(L);
    lua_getfield(L, -1, "base");
    lua_remove(L, -2);
    request_extend_url(L, path, name, tail);
}

static int query(lua_State *L, bool stream) {
    const char *operation = stream ? "predict_stream" : "predict";
    lua_settop(L, REQUEST_ARGS);
    struct request_name name = request_endpoint(L, operation, "");
    push_url(L, "/serving-endpoints", &name, "/invocations");
    return request_query(L, operation, HINTS, stream);
}

static int m_predict(lua_State *L) {
    return query(L, false);
}

static int m_predict_stream(lua_State *L) {
    return query(L, true);
}

static int m_get_endpoint(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    struct request_name name = request_endpoint(L, "get_endpoint", "");
    push_url(L, "/api/2.0/serving-endpoints", &name, "");
    request_push(L, "send", "GET", HINTS);
    return request_call(L);
}

static int m_list_endpoints(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    push_url(L, "/api/2.0/serving-endpoints/", NULL, "");
    request_push(L, "pages", "GET", HINTS);
    request_set(L, "list", "endpoints");
    return request_call(L);
}

static const luaL_Reg methods[] = {
    {"predict", m_predict},
    {"predict_stream", m_predict_stream},
    {"list_endpoints", m_list_endpoints},
    {"get_endpoint", m_get_endpoint},
    {NULL, NULL},
};

int luaopen_moonflow_backend_databricks(lua_State *L) {
    lua_createtable(L, 0, 8);
    request_set(L, "name", "DatabricksDeploymentClient");
    lua_createtable(L, 0, 1);
    lua_pushstring(L, NOT_FOUND_HINT);
    lua_seti(L, -2, 404);
    luaL_setfuncs(L, methods, 1);
    request_set_lua_half(L, "moonflow.databricks");
    request_push_backend(L, "databricks", "Databricks Model Serving", TARGET_HELP);
    return 1;
}
