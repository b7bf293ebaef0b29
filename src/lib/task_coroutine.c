/* A script's own coroutines inside tasks: coroutine.resume and coroutine.wrap pass the waits of the
 * coroutine they resume on to their own resumer, so that a generator can wait too. */
#include <lualib.h>

#include "lib/task_runtime.h"

static void push_thread(lua_State *L, lua_State *co) {
    luaL_checkstack(co, 1, NULL);
    lua_pushthread(co);
    if (co != L) {
        lua_xmove(co, L, 1);
    }
}

/* Notes that `outer` goes on only when `inner` does, so that what closes the one closes the other;
 * the innermost thread points to itself. `inner` NULL: no longer. [-0, +0, m] */
static void set_chain(lua_State *L, lua_State *outer, lua_State *inner) {
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_KEY);
    lua_getiuservalue(L, -1, RUNTIME_CHAIN);
    push_thread(L, outer);
    if (inner != NULL) {
        push_thread(L, inner);
    } else {
        lua_pushnil(L);
    }
    lua_rawset(L, -3);
    lua_pop(L, 2);
}

/* The thread that `outer` waits for: itself where it is the one that waits; NULL where neither.
 * [-0, +0, m] */
static lua_State *get_chain(lua_State *L, lua_State *outer) {
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_KEY);
    lua_getiuservalue(L, -1, RUNTIME_CHAIN);
    push_thread(L, outer);
    lua_rawget(L, -2);
    lua_State *inner = lua_tothread(L, -1);
    lua_pop(L, 3);
    return inner;
}

/* Closes a thread and, before it, the threads it waits for. [-0, +0, m] */
void coroutine_close_chain(lua_State *L, lua_State *co) {
    lua_State *inner = get_chain(L, co);
    set_chain(L, co, NULL);
    if (inner != NULL && inner != co) {
        luaL_checkstack(L, 8, NULL);
        coroutine_close_chain(L, inner);
    }
    lua_sethook(co, NULL, 0, 0); /* an interrupt's: what cleans up here runs to its end */
    lua_resetthread(co);
    lua_settop(co, 0);
}

/* Resumes `co` until it ends or yields something of its own, passing its waits on; `arguments` are
 * on top of L's stack. Returns the number of values now there, or -1 with the error value there.
 * After a wait that was passed on it does not return: Lua goes on with `k`, which calls it again.
 */
static int resume_through(lua_State *L, lua_State *co, int arguments, lua_KFunction k) {
    struct runtime *rt = runtime_get(L);
    if (!lua_checkstack(co, arguments)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, arguments);
    for (;;) {
        int results = 0;
        int status = runtime_resume(rt, co, L, arguments, &results);
        arguments = 0;
        if (status != LUA_OK && status != LUA_YIELD) {
            lua_xmove(co, L, 1);
            return -1;
        }
        struct waiter *w = status == LUA_YIELD ? runtime_parked_on(co, results) : NULL;
        if (w == NULL) {
            if (!lua_checkstack(L, results + 1)) {
                lua_pop(co, results);
                lua_pushliteral(L, "too many results to resume");
                return -1;
            }
            lua_xmove(co, L, results);
            return results;
        }
        set_chain(L, L, co);
        if (get_chain(L, co) == NULL) {
            set_chain(L, co, co);
        }
        if (runtime_can_park(rt, L)) {
            return runtime_park(L, w, 0, k);
        }
        runtime_run_nested(L, rt, w);
        set_chain(L, L, NULL);
        set_chain(L, co, NULL);
    }
}

/* Goes on after a wait that was passed on, or begins with the arguments above stack index `base`.
 */
static int step(lua_State *L, lua_State *co, int status, int base, lua_KFunction k) {
    if (status == LUA_YIELD) {
        set_chain(L, L, NULL);
        set_chain(L, co, NULL);
        lua_settop(L, base);
    } else if (lua_status(co) == LUA_YIELD && get_chain(L, co) != NULL) {
        lua_pushliteral(L, "cannot resume a coroutine that is waiting in another task");
        return -1;
    } else if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
        lua_pushliteral(L, "cannot resume dead coroutine");
        return -1;
    }
    return resume_through(L, co, lua_gettop(L) - base, k);
}

static int resume_step(lua_State *L, int status, lua_KContext ctx) {
    (void)ctx;
    int results = step(L, lua_tothread(L, 1), status, 1, resume_step);
    lua_pushboolean(L, results >= 0);
    results = results >= 0 ? results : 1;
    lua_insert(L, -(results + 1));
    return results + 1;
}

static int l_resume(lua_State *L) {
    luaL_argexpected(L, lua_isthread(L, 1), 1, "coroutine");
    return resume_step(L, LUA_OK, 0);
}

static int wrap_step(lua_State *L, int status, lua_KContext ctx) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    (void)ctx;
    int results = step(L, co, status, 0, wrap_step);
    if (results >= 0) {
        return results;
    }
    int co_status = lua_status(co);
    if (co_status != LUA_OK && co_status != LUA_YIELD) {
        lua_resetthread(co); /* closes its variables; one of them may raise another error */
        lua_xmove(co, L, 1);
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int wrapped(lua_State *L) {
    return wrap_step(L, LUA_OK, 0);
}

static int l_wrap(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

static int l_yield(lua_State *L) {
    struct runtime *rt = runtime_get(L);
    if (rt->running != NULL && rt->running->co == L) {
        return luaL_error(L, "attempt to yield from outside a coroutine");
    }
    return lua_yield(L, lua_gettop(L));
}

static const luaL_Reg coroutine_functions[] = {
    {"resume", l_resume}, {"wrap", l_wrap}, {"yield", l_yield}, {NULL, NULL}};

void coroutine_open(lua_State *L) {
    lua_getglobal(L, LUA_COLIBNAME);
    luaL_setfuncs(L, coroutine_functions, 0);
    lua_pop(L, 1);
}
