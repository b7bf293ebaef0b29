/* moonflow.json: the codec as a Lua module. What it knows of JSON is in lib_json_decode.c and
 * lib_json_encode.c; here are arguments, results and the two metatables. */
#include "lib/lib_json.h"

#include <string.h>

#include <lauxlib.h>

#include "lib/lib.h"
#include "lib/modules.h"

enum { KEPT_CAPACITY = 64 << 10 }; /* what encode keeps of its buffer between two calls */

/* An integer beyond int64: its digits are the whole userdata, so equal numbers have equal bytes. */

static int m_number_tostring(lua_State *L) {
    const char *digits = luaL_checkudata(L, 1, JSON_NUMBER);
    lua_pushlstring(L, digits, lua_rawlen(L, 1));
    return 1;
}

static int m_number_eq(lua_State *L) {
    const char *a = luaL_testudata(L, 1, JSON_NUMBER);
    const char *b = luaL_testudata(L, 2, JSON_NUMBER);
    size_t len = lua_rawlen(L, 1);
    lua_pushboolean(L, a != NULL && b != NULL && len == lua_rawlen(L, 2) && memcmp(a, b, len) == 0);
    return 1;
}

static const luaL_Reg NUMBER_METHODS[] = {
    {"__tostring", m_number_tostring}, {"__eq", m_number_eq}, {NULL, NULL}};

void json_push_number_metatable(lua_State *L) {
    if (luaL_newmetatable(L, JSON_NUMBER)) {
        luaL_setfuncs(L, NUMBER_METHODS, 0);
    }
}

void json_push_array_metatable(lua_State *L) {
    luaL_newmetatable(L, JSON_ARRAY);
}

/* decode(text) -> value | nil, err: text is a string or a buffer. */
static int l_decode(lua_State *L) {
    struct error err;
    size_t len;
    const char *text;
    const struct buf *b;
    if (lua_type(L, 1) == LUA_TSTRING) {
        text = lua_tolstring(L, 1, &len);
    } else if ((b = lib_test_buf(L, 1)) != NULL) {
        text = b->len > 0 ? b->data : "";
        len = b->len;
    } else {
        return lib_misuse(L, "json.decode takes a string or a buffer, not %s", luaL_typename(L, 1));
    }
    return json_decode(L, text, len, &err) ? 1 : lib_fail(L, &err);
}

/* The one option, `sort`, of the table at `index`. */
static bool option_sort(lua_State *L, int index) {
    bool sort = false;
    if (lua_isnoneornil(L, index)) {
        return false;
    }
    if (!lua_istable(L, index)) {
        lib_misuse(L, "json.encode: options are a table, not %s", luaL_typename(L, index));
    }
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "sort") != 0) {
            lib_misuse(L, "json.encode: the only option is sort");
        }
        sort = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return sort;
}

/* Pushes the buffer that encode kept, or a new one. While it is in use it is not kept, so that an
 * encode within an encode (in a finalizer) has its own, and a Lua error leaves it to the collector.
 */
static struct buf *take_buffer(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    struct buf *out = lib_test_buf(L, -1);
    if (out == NULL) {
        lua_pop(L, 1);
        return lib_new_buf(L, JSON_ENCODE_MAX);
    }
    lua_pushnil(L);
    lua_replace(L, lua_upvalueindex(1));
    buf_clear(out);
    return out;
}

/* Keeps the buffer at `index` for the next call. */
static void keep_buffer(lua_State *L, int index, struct buf *out) {
    if (out->cap > KEPT_CAPACITY) {
        buf_free(out);
    }
    lua_pushvalue(L, index);
    lua_replace(L, lua_upvalueindex(1));
}

/* encode(value [, {sort = true}]) -> text | nil, err */
static int l_encode(lua_State *L) {
    struct error err;
    if (lua_isnone(L, 1)) {
        return lib_misuse(L, "json.encode takes a value");
    }
    bool sort = option_sort(L, 2);
    struct buf *out = take_buffer(L);
    int index = lua_gettop(L);
    bool done = sort ? json_encode_sorted(L, 1, out, &err) : json_encode(L, 1, out, &err);
    if (done) {
        lua_pushlstring(L, out->data, out->len);
    }
    keep_buffer(L, index, out);
    return done ? 1 : lib_fail(L, &err);
}

/* array([table]) -> the same table, or a new one, marked as an array */
static int l_array(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    } else if (!lua_istable(L, 1)) {
        return lib_misuse(L, "json.array takes a table, not %s", luaL_typename(L, 1));
    }
    lua_settop(L, 1);
    json_push_array_metatable(L);
    if (lua_getmetatable(L, 1) && !lua_rawequal(L, -1, 2)) {
        return lib_misuse(L, "json.array: the table has another metatable");
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

/* is_array(value) -> whether it is a table that decode or array marked */
static int l_is_array(lua_State *L) {
    bool marked = false;
    if (lua_istable(L, 1) && lua_getmetatable(L, 1)) {
        json_push_array_metatable(L);
        marked = lua_rawequal(L, -1, -2);
    }
    lua_pushboolean(L, marked);
    return 1;
}

static const luaL_Reg FUNCTIONS[] = {
    {"decode", l_decode}, {"array", l_array}, {"is_array", l_is_array}, {NULL, NULL}};

LIB_EXPORT int luaopen_moonflow_json(lua_State *L) {
    luaL_newlib(L, FUNCTIONS);
    lua_pushnil(L);
    lua_pushcclosure(L, l_encode, 1);
    lua_setfield(L, -2, "encode");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
