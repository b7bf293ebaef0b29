/* moonflow.backend.databricks: Databricks Model Serving, for the target databricks (spec/mlflow.md
 * 4, spec/databricks.md 3). Makes requests of arguments. Which workspace and who asks is
 * lua/moonflow/databricks.lua's; what is checked before a request, and what takes more than one, is
 * lua/moonflow/databricks_*.lua's. */
#include <stdbool.h>

#include <lauxlib.h>
#include <lua.h>

#include "backend/request.h"
#include "lib/modules.h"

/* The hints, upvalue that all methods share; and the row of ROUTES that a method is made of. */
enum { HINTS = lua_upvalueindex(1), ROUTE = lua_upvalueindex(2) };

static const char ENDPOINTS[] = "moonflow.databricks_endpoints";

static const char API[] = "/api/2.0/serving-endpoints";
static const char PROVISIONED[] = "/api/2.0/serving-endpoints/pt";

static const char NOT_FOUND_HINT[] = "list_endpoints shows the endpoints that this token may see";

static const char TARGET_HELP[] =
    "databricks, or databricks://PROFILE: Databricks Model Serving\n"
    "Methods: predict, predict_stream; list_endpoints, get_endpoint, create_endpoint,\n"
    "wait_endpoint, delete_endpoint; update_endpoint_config, _tags, _rate_limits, _ai_gateway,\n"
    "_notifications, _telemetry; create_provisioned_throughput_endpoint,\n"
    "update_provisioned_throughput_endpoint_config; get_endpoint_build_logs, _logs, _openapi,\n"
    "_metrics; get_, set_ and update_endpoint_permissions, get_endpoint_permission_levels.\n"
    "Credentials as Databricks' SDKs find them: options, DATABRICKS_* and ARM_* variables, a\n"
    "profile of ~/.databrickscfg; personal access tokens, OAuth, Entra ID, OIDC, or the CLIs.";

/* A method that is one request to an endpoint. */
struct route {
    const char *name;
    const char *method;
    const char *path;
    const char *tail;        /* behind the endpoint's name */
    const char *served_tail; /* behind the served model's name, which then stands behind `tail` */
    bool has_body;           /* the argument `config` */
    const char *check;       /* function(config) of databricks_endpoints, which returns the body */
    const char *sender;      /* function(self, request) of databricks_endpoints, for self:send */
    bool asks_text;          /* the answer is asked for as text/plain */
    bool is_text;            /* and is no JSON */
};

enum { UPDATE_CONFIG, UPDATE_RATE_LIMITS };

static const struct route ROUTES[] = {
    [UPDATE_CONFIG] = {"update_endpoint_config", "PUT", API, "/config", .has_body = true,
                       .check = "check_config", .sender = "change"},
    [UPDATE_RATE_LIMITS] = {"update_endpoint_rate_limits", "PUT", API, "/rate-limits",
                            .has_body = true},
    {"update_endpoint_tags", "PATCH", API, "/tags", .has_body = true},
    {"update_endpoint_ai_gateway", "PUT", API, "/ai-gateway", .has_body = true},
    {"update_endpoint_notifications", "PATCH", API, "/notifications", .has_body = true},
    {"update_endpoint_telemetry", "PATCH", API, "/telemetry-config", .has_body = true},
    {"update_provisioned_throughput_endpoint_config", "PUT", PROVISIONED, "/config",
     .has_body = true, .check = "check_inner_config", .sender = "change"},
    {"get_endpoint", "GET", API, .tail = ""},
    {"delete_endpoint", "DELETE", API, .tail = ""},
    {"get_endpoint_build_logs", "GET", API, "/served-models", .served_tail = "/build-logs"},
    {"get_endpoint_logs", "GET", API, "/served-models", .served_tail = "/logs"},
    {"get_endpoint_openapi", "GET", API, "/openapi", .asks_text = true},
    {"get_endpoint_metrics", "GET", API, "/metrics", .asks_text = true, .is_text = true},
};

/* Pushes the URL of the workspace with the rest behind it; see request_extend_url. [-0, +1, e] */
static void push_url(lua_State *L, const char *path, const struct request_name *name,
                     const char *tail) {
    request_push_place(L);
    lua_getfield(L, -1, "base");
    lua_remove(L, -2);
    request_extend_url(L, path, name, tail);
}

/* Replaces the function of the call that request_push began by one of databricks_endpoints.
 * [-0, +0, e] */
static void set_sender(lua_State *L, const char *name) {
    request_push_function(L, ENDPOINTS, name);
    lua_replace(L, -4);
}

/* Lets the argument `config` be the body of the request on top of the stack; checked, where there
 * is a function for that. [-0, +0, e] */
static void set_body(lua_State *L, const char *check) {
    if (check != NULL) {
        request_push_function(L, ENDPOINTS, check);
        lua_getfield(L, REQUEST_ARGS, "config");
        lua_call(L, 1, 1);
    } else {
        lua_getfield(L, REQUEST_ARGS, "config");
    }
    lua_setfield(L, -2, "json");
}

/* Asks for an answer that is a text. [-0, +0, e] */
static void accept_text(lua_State *L, bool is_text) {
    lua_createtable(L, 0, 1);
    request_set(L, "Accept", "text/plain");
    lua_setfield(L, -2, "headers");
    if (is_text) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "text");
    }
}

/* Makes the request of a route and sends it: a method's last step. */
static int call_route(lua_State *L, const struct route *route, const char *operation) {
    struct request_name name = request_endpoint(L, operation, "");
    push_url(L, route->path, &name, route->tail);
    if (route->served_tail != NULL) {
        struct request_name served = request_argument(L, operation, "served_model", "");
        request_extend_url(L, "", &served, route->served_tail);
    }
    request_push(L, "send", route->method, HINTS);
    if (route->has_body) {
        set_body(L, route->check);
    }
    if (route->asks_text) {
        accept_text(L, route->is_text);
    }
    if (route->sender != NULL) {
        set_sender(L, route->sender);
    }
    return request_call(L);
}

static int m_route(lua_State *L) {
    const struct route *route = lua_touserdata(L, ROUTE);
    lua_settop(L, REQUEST_ARGS);
    return call_route(L, route, route->name);
}

/* Whether the argument `config` has rate_limits and nothing else. */
static bool has_only_rate_limits(lua_State *L) {
    int count = 0;
    lua_getfield(L, REQUEST_ARGS, "config");
    bool found = lua_getfield(L, -1, "rate_limits") != LUA_TNIL;
    lua_pop(L, 1);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        count++;
    }
    lua_pop(L, 1);
    return found && count == 1;
}

static int m_update_endpoint(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    request_push_function(L, ENDPOINTS, "warn_of_update");
    lua_call(L, 0, 0);
    const struct route *route =
        &ROUTES[has_only_rate_limits(L) ? UPDATE_RATE_LIMITS : UPDATE_CONFIG];
    return call_route(L, route, "update_endpoint");
}

/* Sends the body that a function of databricks_endpoints makes of the arguments. */
static int create(lua_State *L, const char *path, const char *make_body) {
    lua_settop(L, REQUEST_ARGS);
    request_push_function(L, ENDPOINTS, make_body);
    lua_pushvalue(L, REQUEST_ARGS);
    lua_call(L, 1, 1);
    int body = lua_gettop(L);
    push_url(L, path, NULL, "");
    request_push(L, "send", "POST", HINTS);
    lua_pushvalue(L, body);
    lua_setfield(L, -2, "json");
    set_sender(L, "create");
    return request_call(L);
}

static int m_create_endpoint(lua_State *L) {
    return create(L, "/api/2.0/serving-endpoints/", "create_body");
}

static int m_create_provisioned(lua_State *L) {
    return create(L, PROVISIONED, "provisioned_body");
}

static int m_list_endpoints(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    push_url(L, "/api/2.0/serving-endpoints/", NULL, "");
    request_push(L, "pages", "GET", HINTS);
    request_set(L, "list", "endpoints");
    return request_call(L);
}

static void check_inputs(lua_State *L, const char *operation) {
    request_push_function(L, ENDPOINTS, "check_inputs");
    lua_getfield(L, REQUEST_ARGS, "inputs");
    lua_pushstring(L, operation);
    lua_call(L, 2, 0);
}

/* Whether a boolean argument is true. */
static bool is_set(lua_State *L, const char *field) {
    lua_getfield(L, REQUEST_ARGS, field);
    bool set = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return set;
}

static int finish_query(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return lua_gettop(L) - REQUEST_ARGS;
}

/* Queries an endpoint at its own URL, which has to be found out first. */
static int query_optimized(lua_State *L, bool stream, const char *operation) {
    if (stream) {
        request_push_inputs(L, operation);
        lua_pop(L, 1);
    }
    request_push_function(L, "moonflow.databricks_data_plane", "query");
    lua_pushvalue(L, REQUEST_SELF);
    lua_pushvalue(L, REQUEST_ARGS);
    lua_pushboolean(L, stream);
    lua_callk(L, 3, LUA_MULTRET, 0, finish_query);
    return finish_query(L, LUA_OK, 0);
}

static int query(lua_State *L, bool stream) {
    const char *operation = stream ? "predict_stream" : "predict";
    lua_settop(L, REQUEST_ARGS);
    struct request_name name = request_endpoint(L, operation, "");
    check_inputs(L, operation);
    lua_settop(L, REQUEST_ARGS);
    if (is_set(L, "route_optimized")) {
        return query_optimized(L, stream, operation);
    }
    if (lua_getfield(L, REQUEST_ARGS, "served_model") != LUA_TNIL) {
        struct request_name served = request_argument(L, operation, "served_model", "");
        push_url(L, "/serving-endpoints", &name, "/served-models");
        request_extend_url(L, "", &served, "/invocations");
    } else {
        push_url(L, "/serving-endpoints", &name, "/invocations");
    }
    return request_query(L, operation, HINTS, stream);
}

static int m_predict(lua_State *L) {
    return query(L, false);
}

static int m_predict_stream(lua_State *L) {
    return query(L, true);
}

static const luaL_Reg methods[] = {
    {"predict", m_predict},
    {"predict_stream", m_predict_stream},
    {"list_endpoints", m_list_endpoints},
    {"create_endpoint", m_create_endpoint},
    {"create_provisioned_throughput_endpoint", m_create_provisioned},
    {"update_endpoint", m_update_endpoint},
    {NULL, NULL},
};

/* Methods that take more than one request each. */
static const struct {
    const char *module;
    const char *name;
} LUA_METHODS[] = {
    {"moonflow.databricks_wait", "wait_endpoint"},
    {"moonflow.databricks_permissions", "get_endpoint_permissions"},
    {"moonflow.databricks_permissions", "set_endpoint_permissions"},
    {"moonflow.databricks_permissions", "update_endpoint_permissions"},
    {"moonflow.databricks_permissions", "get_endpoint_permission_levels"},
};

/* Adds the methods that are no functions of their own here. The definition is below the hints.
 * [-0, +0, e] */
static void add_methods(lua_State *L) {
    for (size_t i = 0; i < sizeof ROUTES / sizeof *ROUTES; i++) {
        lua_pushvalue(L, -1);
        lua_pushlightuserdata(L, (void *)&ROUTES[i]);
        lua_pushcclosure(L, m_route, 2);
        lua_setfield(L, -3, ROUTES[i].name);
    }
    for (size_t i = 0; i < sizeof LUA_METHODS / sizeof *LUA_METHODS; i++) {
        request_push_function(L, LUA_METHODS[i].module, LUA_METHODS[i].name);
        lua_setfield(L, -3, LUA_METHODS[i].name);
    }
}

int luaopen_moonflow_backend_databricks(lua_State *L) {
    lua_createtable(L, 0, 40);
    request_set(L, "name", "DatabricksDeploymentClient");
    lua_createtable(L, 0, 1);
    lua_pushstring(L, NOT_FOUND_HINT);
    lua_seti(L, -2, 404);
    add_methods(L);
    luaL_setfuncs(L, methods, 1);
    request_set_lua_half(L, "moonflow.databricks");
    request_push_function(L, ENDPOINTS, "signatures");
    lua_setfield(L, -2, "signatures");
    request_push_function(L, "moonflow.databricks_data_plane", "credential");
    lua_setfield(L, -2, "_credential");
    request_push_backend(L, "databricks", "Databricks Model Serving", TARGET_HELP);
    return 1;
}
