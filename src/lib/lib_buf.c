/* Byte buffers as Lua values: how a response's body reaches the JSON decoder without becoming a
 * Lua string on the way. */
#include "lib/lib.h"

struct buf *lib_test_buf(lua_State *L, int index) {
    return luaL_testudata(L, index, LIB_BUF);
}

static int m_free(lua_State *L) {
    buf_free(luaL_checkudata(L, 1, LIB_BUF));
    return 0;
}

static int m_len(lua_State *L) {
    struct buf *b = luaL_checkudata(L, 1, LIB_BUF);
    lua_pushinteger(L, (lua_Integer)b->len);
    return 1;
}

static int m_tostring(lua_State *L) {
    struct buf *b = luaL_checkudata(L, 1, LIB_BUF);
    lua_pushlstring(L, b->len > 0 ? b->data : "", b->len);
    return 1;
}

static const luaL_Reg metamethods[] = {{"__gc", m_free},
                                       {"__close", m_free},
                                       {"__len", m_len},
                                       {"__tostring", m_tostring},
                                       {NULL, NULL}};

struct buf *lib_new_buf(lua_State *L, size_t max) {
    struct buf *b = lua_newuserdatauv(L, sizeof(*b), 0);
    buf_init(b, max);
    if (luaL_newmetatable(L, LIB_BUF)) {
        luaL_setfuncs(L, metamethods, 0);
    }
    lua_setmetatable(L, -2);
    return b;
}
