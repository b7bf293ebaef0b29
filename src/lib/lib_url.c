/* moonflow.url: URLs for Lua. Only turns Lua values into the calls of core/url.h. */
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/url.h"
#include "lib/lib.h"
#include "lib/modules.h"

/* Pushes what was built and releases it at once, as the collector may be late. */
static int push_built(lua_State *L, struct buf *b) {
    lua_pushlstring(L, b->data, b->len);
    buf_free(b);
    return 1;
}

/* url.parse(text) -> {scheme, host, port, path, query, origin} | nil, err. `port` is nil where the
 * scheme has none of its own and none is written. */
static int l_parse(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct url url;
    struct error err;
    if (!url_parse(&url, text, len, &err)) {
        return lib_fail(L, &err);
    }
    char origin[URL_ORIGIN_SIZE];
    url_origin(&url, origin);
    lua_createtable(L, 0, 6);
    lua_pushstring(L, url.scheme);
    lua_setfield(L, -2, "scheme");
    lua_pushstring(L, url.host);
    lua_setfield(L, -2, "host");
    if (url.port != 0) {
        lua_pushinteger(L, url.port);
        lua_setfield(L, -2, "port");
    }
    lua_pushlstring(L, url.path, url.path_len);
    lua_setfield(L, -2, "path");
    if (url.query != NULL) {
        lua_pushlstring(L, url.query, url.query_len);
        lua_setfield(L, -2, "query");
    }
    lua_pushstring(L, origin);
    lua_setfield(L, -2, "origin");
    return 1;
}

/* url.join(base, segment, ...) -> text | nil, err */
static int l_join(lua_State *L) {
    int top = lua_gettop(L);
    size_t len;
    const char *base = luaL_checklstring(L, 1, &len);
    for (int i = 2; i <= top; i++) {
        luaL_checkstring(L, i);
    }
    struct error err;
    struct buf *out = lib_new_buf(L, URL_MAX);
    if (!url_start(out, base, len, &err)) {
        return lib_fail(L, &err);
    }
    for (int i = 2; i <= top; i++) {
        const char *segment = lua_tolstring(L, i, &len);
        if (!url_add_segment(out, segment, len, &err)) {
            return lib_fail(L, &err);
        }
    }
    return push_built(L, out);
}

/* url.resolve(base, endpoint) -> text | nil, err */
static int l_resolve(lua_State *L) {
    size_t base_len;
    size_t endpoint_len;
    const char *base = luaL_checklstring(L, 1, &base_len);
    const char *endpoint = luaL_checklstring(L, 2, &endpoint_len);
    struct error err;
    struct buf *out = lib_new_buf(L, URL_MAX);
    if (!url_resolve(out, base, base_len, endpoint, endpoint_len, &err)) {
        return lib_fail(L, &err);
    }
    return push_built(L, out);
}

/* url.encode(text) -> text */
static int l_encode(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct buf *out = lib_new_buf(L, URL_MAX);
    if (!url_encode(out, text, len)) {
        return lib_misuse(L, "url.encode: longer than %d bytes", URL_MAX);
    }
    return push_built(L, out);
}

/* The bytes of a string, a number or a secret, or NULL. [-0, +0, m] */
static const char *value_at(lua_State *L, int index, size_t *len) {
    const struct lib_secret *secret = lib_test_secret(L, index);
    if (secret != NULL) {
        *len = secret->len;
        return secret->bytes;
    }
    return lua_tolstring(L, index, len);
}

/* url.query{{name, value}, ...} -> text; names and values are strings or numbers, values may be
 * secrets: the text is then as secret as they are. */
static int l_query(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct buf *out = lib_new_buf(L, URL_MAX);
    lua_Integer count = luaL_len(L, 1);
    for (lua_Integer i = 1; i <= count; i++) {
        if (lua_geti(L, 1, i) != LUA_TTABLE) {
            return lib_misuse(L, "url.query: item %d is no {name, value} pair", (int)i);
        }
        lua_geti(L, -1, 1);
        lua_geti(L, -2, 2);
        size_t name_len;
        size_t value_len;
        const char *name = lua_tolstring(L, -2, &name_len);
        const char *value = value_at(L, -1, &value_len);
        if (name == NULL || value == NULL) {
            return lib_misuse(
                L, "url.query: item %d must hold two strings or numbers, or a secret as value",
                (int)i);
        }
        if (!url_add_pair(out, name, name_len, value, value_len)) {
            return lib_misuse(L, "url.query: longer than %d bytes", URL_MAX);
        }
        lua_pop(L, 3);
    }
    return push_built(L, out);
}

/* url.is_loopback(host) -> boolean */
static int l_is_loopback(lua_State *L) {
    size_t len;
    const char *host = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, strlen(host) == len && url_is_loopback(host));
    return 1;
}

static const luaL_Reg functions[] = {
    {"parse", l_parse},   {"join", l_join},   {"resolve", l_resolve},
    {"encode", l_encode}, {"query", l_query}, {"is_loopback", l_is_loopback},
    {NULL, NULL},
};

int luaopen_moonflow_url(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
