/* moonflow.backend.openai: OpenAI, Azure OpenAI and servers that speak as they do, for the target
 * openai (spec/openai.md 1.3, 4). Makes requests of arguments. Where they go and who asks is
 * lua/moonflow/openai.lua's, long lists of embeddings lua/moonflow/embeddings.lua's. */
#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "backend/request.h"
#include "lib/modules.h"

/* The hints, upvalue that all methods share. */
enum { HINTS = lua_upvalueindex(1) };

static const char CONNECT_HINT[] = "is the server running, and is this its base URL?  vLLM: "
                                   "http://localhost:8000/v1, Ollama: http://localhost:11434/v1";
static const char NOT_FOUND_HINT[] =
    "list_endpoints shows the models that there are; the base URL of most servers ends in /v1";
static const char TASK_HINT[] =
    "the inputs decide on the route: messages, prompt or input; task = \"llm/v1/responses\" or "
    "another one says it outright";

static const char TARGET_HELP[] =
    "openai: api.openai.com, or the server of OPENAI_API_BASE or OPENAI_BASE_URL\n"
    "openai:http://HOST[:PORT]/v1: a server that speaks as OpenAI does (vLLM, Ollama, llama.cpp,\n"
    "LiteLLM, MLflow's gateway)\n"
    "openai:https://NAME.openai.azure.com, or OPENAI_API_TYPE=azure: Azure OpenAI\n"
    "Methods: predict, predict_stream, list_endpoints, get_endpoint; an endpoint is a model.\n"
    "Credentials: the options api_key or token; OPENAI_API_KEY; for Azure AZURE_OPENAI_AD_TOKEN,\n"
    "AZURE_OPENAI_API_KEY, OPENAI_API_KEY, or Entra ID by AZURE_* variables, identity or CLI.";

struct route {
    const char *task;
    const char *path;
    const char *input;  /* the one that says what to answer to */
    bool of_deployment; /* Azure's older API has it below a deployment */
    bool streams;
};

enum { CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, ROUTE_COUNT };

static const struct route ROUTES[ROUTE_COUNT] = {
    [CHAT] = {"llm/v1/chat", "/chat/completions", "messages", true, true},
    [COMPLETIONS] = {"llm/v1/completions", "/completions", "prompt", true, true},
    [EMBEDDINGS] = {"llm/v1/embeddings", "/embeddings", "input", true, false},
    [RESPONSES] = {"llm/v1/responses", "/responses", "input", false, true},
};

/* Which route */

static bool has_field(lua_State *L, int index, const char *name) {
    bool there = lua_getfield(L, index, name) != LUA_TNIL;
    lua_pop(L, 1);
    return there;
}

static const struct route *route_of_task(lua_State *L, const char *task) {
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        if (strcmp(task, ROUTES[i].task) == 0) {
            return &ROUTES[i];
        }
    }
    struct error err;
    error_set(&err, ERROR_USAGE, NULL, "\"%.64s\" is not a task of OpenAI's", task);
    error_hint(&err, "known: llm/v1/chat, llm/v1/completions, llm/v1/embeddings, llm/v1/responses");
    lib_raise(L, &err);
    return NULL;
}

/* Whether `input` is one of the Responses API: there are inputs that embeddings do not have, or it
 * is a list of messages. */
static bool is_for_responses(lua_State *L, int inputs) {
    static const char *const OWN[] = {
        "instructions", "previous_response_id",
        "conversation", "tools",
        "tool_choice",  "text",
        "reasoning",    "include",
        "temperature",  "max_output_tokens",
        "stream",       "background",
        "store",
    };
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++) {
        if (has_field(L, inputs, OWN[i])) {
            return true;
        }
    }
    bool messages = false;
    if (lua_getfield(L, inputs, "input") == LUA_TTABLE) {
        messages = lua_geti(L, -1, 1) == LUA_TTABLE && luaL_len(L, -1) == 0;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return messages;
}

static const struct route *route_of_inputs(lua_State *L, int inputs, const char *operation,
                                           bool stream) {
    if (has_field(L, inputs, "messages")) {
        return &ROUTES[CHAT];
    }
    if (has_field(L, inputs, "prompt")) {
        return &ROUTES[COMPLETIONS];
    }
    if (has_field(L, inputs, "input")) {
        return &ROUTES[stream || is_for_responses(L, inputs) ? RESPONSES : EMBEDDINGS];
    }
    struct error err;
    error_set(&err, ERROR_USAGE, NULL,
              "%s needs inputs with \"messages\" (chat), \"prompt\" (completions) or \"input\" "
              "(embeddings, responses)",
              operation);
    error_hint(&err, "inputs = { messages = { { role = \"user\", content = \"Hello!\" } } }");
    lib_raise(L, &err);
    return NULL;
}

static const struct route *find_route(lua_State *L, int inputs, const char *operation,
                                      bool stream) {
    const struct route *route = NULL;
    if (lua_getfield(L, REQUEST_ARGS, "task") == LUA_TSTRING) {
        route = route_of_task(L, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
    if (route == NULL) {
        route = route_of_inputs(L, inputs, operation, stream);
    } else if (!has_field(L, inputs, route->input) && route != &ROUTES[RESPONSES]) {
        lib_misuse(L, "the task %s needs \"%s\" among the inputs", route->task, route->input);
    }
    if (stream && !route->streams) {
        lib_misuse(L, "the task %s has no stream; use predict", route->task);
    }
    return route;
}

/* Which URL */

/* The field of the place below whose URL the route is. */
static const char *base_of(lua_State *L, int place, const struct route *route) {
    if (route->of_deployment && has_field(L, place, "deployments")) {
        return "deployments";
    }
    return route->of_deployment && has_field(L, place, "deployment") ? "deployment" : "base";
}

/* Pushes the URL of a route; of a deployment where Azure has the route there. [-0, +1, e] */
static void push_route_url(lua_State *L, int place, const struct route *route,
                           const struct request_name *model) {
    const char *base = base_of(L, place, route);
    lua_getfield(L, place, base);
    if (strcmp(base, "deployments") == 0) {
        request_extend_url(L, "", model, route->path);
    } else {
        request_extend_url(L, route->path, NULL, "");
    }
}

/* Sets what all requests of a place have: Azure's version, the time and the number of attempts. The
 * request is on top of the stack. [-0, +0, e] */
static void complete_request(lua_State *L, int place) {
    if (lua_getfield(L, place, "version") == LUA_TSTRING) {
        lua_createtable(L, 1, 0);
        lua_createtable(L, 2, 0);
        lua_pushliteral(L, "api-version");
        lua_rawseti(L, -2, 1);
        lua_pushvalue(L, -3);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, 1);
        lua_setfield(L, -3, "query");
    }
    lua_pop(L, 1);
    request_set(L, "timeout", "OPENAI_TIMEOUT");
    request_set(L, "retries", "OPENAI_MAX_RETRIES");
}

/* Queries */

/* Sets `model` among the inputs, unless they have one, and returns it; they keep it. It is the
 * endpoint, but Azure's deployment where one is named and the URL does not say so, or no endpoint
 * is given. [-0, +0, e] */
static struct request_name set_model(lua_State *L, int inputs, int place, const struct route *route,
                                     const char *operation) {
    int top = lua_gettop(L);
    bool in_url = strcmp(base_of(L, place, route), "base") != 0;
    if (lua_getfield(L, inputs, "model") == LUA_TNIL &&
        !(in_url && has_field(L, REQUEST_ARGS, "endpoint"))) {
        lua_getfield(L, place, "model");
    }
    struct request_name model;
    if (lua_isnil(L, -1)) {
        model = request_endpoint(L, operation, ": the name of a model");
        lua_pushlstring(L, model.text, model.len);
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        lib_misuse(L, "the input \"model\" must be a string, not %s", luaL_typename(L, -1));
    }
    model.text = lua_tolstring(L, -1, &model.len);
    lua_pushvalue(L, -1);
    lua_setfield(L, inputs, "model");
    lua_settop(L, top);
    return model;
}

/* Makes the request of the arguments and sends it. */
static int query(lua_State *L, bool stream) {
    const char *operation = stream ? "predict_stream" : "predict";
    lua_settop(L, REQUEST_ARGS);
    request_push_inputs(L, operation);
    int inputs = lua_gettop(L);
    const struct route *route = find_route(L, inputs, operation, stream);
    int place = request_push_place(L);
    struct request_name model = set_model(L, inputs, place, route, operation);
    if (stream) {
        lua_pushboolean(L, 1);
        lua_setfield(L, inputs, "stream");
    }
    push_route_url(L, place, route, &model);
    request_push(L, stream ? "stream" : "send", "POST", HINTS);
    complete_request(L, place);
    request_set(L, "policy", "openai");
    lua_pushvalue(L, inputs);
    lua_setfield(L, -2, "json");
    if (route == &ROUTES[EMBEDDINGS]) {
        request_push_function(L, "moonflow.embeddings", "send");
        lua_replace(L, -4);
    }
    return request_call(L);
}

static int m_predict(lua_State *L) {
    return query(L, false);
}

static int m_predict_stream(lua_State *L) {
    return query(L, true);
}

/* Models */

/* Gives the model on top of the stack the name that MLflow's endpoints have. [-0, +0, e] */
static void name_model(lua_State *L) {
    if (!lua_istable(L, -1) || lua_getfield(L, -1, "id") != LUA_TSTRING) {
        request_raise_decode(L, "the server's answer has something else in place of a model");
    }
    lua_setfield(L, -2, "name");
}

/* Pushes the call that reads /models, or the model `name` of them. [-0, +3, e] */
static void push_models_request(lua_State *L, const struct request_name *name) {
    int place = request_push_place(L);
    lua_getfield(L, place, "base");
    request_extend_url(L, "/models", name, "");
    request_push(L, "send", "GET", HINTS);
    complete_request(L, place);
    lua_remove(L, place);
}

static int finish_get_endpoint(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    name_model(L);
    return 1;
}

static int m_get_endpoint(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    struct request_name name = request_endpoint(L, "get_endpoint", ": the name of a model");
    push_models_request(L, &name);
    lua_callk(L, 2, 1, 0, finish_get_endpoint);
    return finish_get_endpoint(L, LUA_OK, 0);
}

static int finish_list_endpoints(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    if (!lua_istable(L, -1)) {
        return request_raise_decode(L, "the server's answer has no list \"data\"");
    }
    int type = lua_getfield(L, -1, "data");
    if (type == LUA_TLIGHTUSERDATA) { /* null: some servers have it where there are no models */
        request_push_function(L, "moonflow.json", "array");
        lua_call(L, 0, 1);
    } else if (type != LUA_TTABLE) {
        return request_raise_decode(L, "the server's answer has no list \"data\"");
    }
    lua_Integer count = luaL_len(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(L, -1, i);
        name_model(L);
        lua_pop(L, 1);
    }
    return 1;
}

static int m_list_endpoints(lua_State *L) {
    lua_settop(L, REQUEST_ARGS);
    push_models_request(L, NULL);
    lua_callk(L, 2, 1, 0, finish_list_endpoints);
    return finish_list_endpoints(L, LUA_OK, 0);
}

static const luaL_Reg methods[] = {
    {"predict", m_predict},
    {"predict_stream", m_predict_stream},
    {"list_endpoints", m_list_endpoints},
    {"get_endpoint", m_get_endpoint},
    {NULL, NULL},
};

/* Pushes what to try where an answer says nothing of its own. [-0, +1, m] */
static void push_hints(lua_State *L) {
    lua_createtable(L, 0, 6);
    request_set(L, "connect", CONNECT_HINT);
    request_set(L, "html", NOT_FOUND_HINT);
    lua_pushstring(L, NOT_FOUND_HINT);
    lua_seti(L, -2, 404);
    lua_pushstring(L, NOT_FOUND_HINT);
    lua_seti(L, -2, 405);
    lua_pushstring(L, TASK_HINT);
    lua_seti(L, -2, 400);
}

int luaopen_moonflow_backend_openai(lua_State *L) {
    lua_createtable(L, 0, 9);
    request_set(L, "name", "OpenAIDeploymentClient");
    push_hints(L);
    luaL_setfuncs(L, methods, 1);
    request_set_lua_half(L, "moonflow.openai");
    request_push_backend(L, "openai", "OpenAI, Azure OpenAI and compatible servers", TARGET_HELP);
    return 1;
}
