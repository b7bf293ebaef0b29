#include "backend/request.h"

#include <stdbool.h>

#include <lauxlib.h>

#include "core/url.h"
#include "lib/lib.h"

struct request_name request_argument(lua_State *L, const char *operation, const char *field,
                                     const char *why) {
    struct request_name name;
    if (lua_getfield(L, REQUEST_ARGS, field) != LUA_TSTRING) {
        lib_misuse(L, "%s needs the argument \"%s\"%s", operation, field, why);
    }
    name.text = lua_tolstring(L, -1, &name.len);
    lua_pop(L, 1);
    return name;
}

struct request_name request_endpoint(lua_State *L, const char *operation, const char *why) {
    return request_argument(L, operation, "endpoint", why);
}

void request_extend_url(lua_State *L, const char *path, const struct request_name *name,
                        const char *tail) {
    size_t len;
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

void request_push(lua_State *L, const char *sender, const char *method, int hints) {
    lua_getfield(L, REQUEST_SELF, sender);
    lua_insert(L, -2);
    lua_pushvalue(L, REQUEST_SELF);
    lua_insert(L, -2);
    lua_createtable(L, 0, 8);
    lua_insert(L, -2);
    lua_setfield(L, -2, "url");
    request_set(L, "method", method);
    lua_getfield(L, REQUEST_ARGS, "options");
    lua_setfield(L, -2, "options");
    lua_pushvalue(L, hints);
    lua_setfield(L, -2, "hints");
}

void request_set(lua_State *L, const char *field, const char *value) {
    lua_pushstring(L, value);
    lua_setfield(L, -2, field);
}

void request_push_inputs(lua_State *L, const char *operation) {
    if (lua_getfield(L, REQUEST_ARGS, "inputs") != LUA_TTABLE) {
        lib_misuse(L, "%s needs the argument \"inputs\": a table such as { messages = {...} }",
                   operation);
    }
    int inputs = lua_gettop(L);
    lua_createtable(L, 0, 4);
    lua_pushnil(L);
    while (lua_next(L, inputs)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lib_misuse(L, "inputs of %s have names, not %s keys", operation, luaL_typename(L, -2));
        }
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, inputs + 1);
    }
    lua_replace(L, inputs);
}

static int finish(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    return lua_gettop(L) - (int)ctx;
}

int request_call(lua_State *L) {
    int base = lua_gettop(L) - 3;
    lua_callk(L, 2, LUA_MULTRET, base, finish);
    return finish(L, LUA_OK, base);
}

int request_query(lua_State *L, const char *operation, int hints, bool stream) {
    request_push(L, stream ? "stream" : "send", "POST", hints);
    request_set(L, "policy", "predict");
    if (stream) {
        request_push_inputs(L, operation);
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "stream");
    } else {
        lua_getfield(L, REQUEST_ARGS, "inputs");
    }
    lua_setfield(L, -2, "json");
    return request_call(L);
}

void request_push_function(lua_State *L, const char *module, const char *name) {
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, name);
    lua_replace(L, -2);
}

int request_push_place(lua_State *L) {
    request_push_function(L, "moonflow.settings", "place");
    lua_pushvalue(L, REQUEST_SELF);
    lua_call(L, 1, 1);
    return lua_gettop(L);
}

int request_raise_decode(lua_State *L, const char *message) {
    struct error err;
    error_set(&err, ERROR_DECODE, NULL, "%s", message);
    return lib_raise(L, &err);
}

/* Replaces the definition on top of the stack by the class that is made of it. [-1, +1, e] */
static void make_class(lua_State *L) {
    request_push_function(L, "moonflow.client", "BaseDeploymentClient");
    lua_getfield(L, -1, "extend");
    lua_insert(L, -3);
    lua_insert(L, -2);
    lua_call(L, 2, 1);
}

void request_set_lua_half(lua_State *L, const char *module) {
    static const struct {
        const char *field;
        const char *name;
    } PARTS[] = {
        {"init", "init"},
        {"options", "options"},
        {"signatures", "signatures"},
        {"_find_place", "find_place"},
        {"_credential", "credential"},
    };
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++) {
        request_push_function(L, module, PARTS[i].name);
        lua_setfield(L, -2, PARTS[i].field);
    }
}

void request_push_backend(lua_State *L, const char *name, const char *description,
                          const char *help) {
    make_class(L);
    lua_createtable(L, 0, 5);
    lua_insert(L, -2);
    lua_setfield(L, -2, "client");
    lua_pushinteger(L, 1);
    lua_setfield(L, -2, "api");
    request_set(L, "name", name);
    request_set(L, "description", description);
    request_set(L, "target_help", help);
}
