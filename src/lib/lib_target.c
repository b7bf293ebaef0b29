/* moonflow.target: which backend a target URI names. The rules are core/target.h's. */
#include <lauxlib.h>
#include <lua.h>

#include "core/target.h"
#include "lib/lib.h"
#include "lib/modules.h"

/* target.parse(uri) -> {name, uri, rest} | nil, err. `rest` is what follows "scheme:" and "//", nil
 * where the target has no scheme. */
static int l_parse(lua_State *L) {
    size_t len;
    const char *uri = luaL_checklstring(L, 1, &len);
    struct target target;
    struct error err;
    if (!target_parse(&target, uri, len, &err)) {
        return lib_fail(L, &err);
    }
    lua_createtable(L, 0, 3);
    lua_pushstring(L, target.name);
    lua_setfield(L, -2, "name");
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "uri");
    if (target.rest != NULL) {
        lua_pushlstring(L, target.rest, target.rest_len);
        lua_setfield(L, -2, "rest");
    }
    return 1;
}

static const luaL_Reg functions[] = {
    {"parse", l_parse},
    {NULL, NULL},
};

int luaopen_moonflow_target(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
