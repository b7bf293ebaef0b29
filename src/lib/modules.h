/* The entry functions of moonflow's C modules, as Lua looks for them: each pushes its module's
 * table. [-0, +1, e] */
#ifndef MOONFLOW_LIB_MODULES_H
#define MOONFLOW_LIB_MODULES_H

#include "lib/lib.h"

LIB_EXPORT int luaopen_moonflow__chat(lua_State *L);
LIB_EXPORT int luaopen_moonflow__crypt(lua_State *L);
LIB_EXPORT int luaopen_moonflow__http(lua_State *L);
LIB_EXPORT int luaopen_moonflow__line(lua_State *L);
LIB_EXPORT int luaopen_moonflow__process(lua_State *L);
LIB_EXPORT int luaopen_moonflow__server(lua_State *L);
LIB_EXPORT int luaopen_moonflow__signal(lua_State *L);
LIB_EXPORT int luaopen_moonflow__task(lua_State *L);
LIB_EXPORT int luaopen_moonflow_auth(lua_State *L);
LIB_EXPORT int luaopen_moonflow_backend_databricks(lua_State *L);
LIB_EXPORT int luaopen_moonflow_backend_mlflow(lua_State *L);
LIB_EXPORT int luaopen_moonflow_backend_openai(lua_State *L);
LIB_EXPORT int luaopen_moonflow_base64(lua_State *L);
LIB_EXPORT int luaopen_moonflow_error(lua_State *L);
LIB_EXPORT int luaopen_moonflow_json(lua_State *L);
LIB_EXPORT int luaopen_moonflow_sys(lua_State *L);
LIB_EXPORT int luaopen_moonflow_target(lua_State *L);
LIB_EXPORT int luaopen_moonflow_url(lua_State *L);

#endif
