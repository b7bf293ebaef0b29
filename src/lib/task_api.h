/* The task runtime as other Lua modules see it: a struct of functions in the registry, because
 * modules that Lua loads can not link to one another. src/lib/lib_task.c implements it. */
#ifndef MOONFLOW_LIB_TASK_API_H
#define MOONFLOW_LIB_TASK_API_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

#define TASK_API_KEY "moonflow.task_api" /* registry field: light userdata, struct task_api */
#define TASK_NEVER INT64_MAX

struct task;
struct runtime;

/* Something that one task waits for, once. It lives inside a userdata of the module that waits;
 * that userdata stays on the waiting function's stack, and its __gc and __close call waiter_close.
 */
struct waiter {
    struct runtime *runtime;
    struct task *task; /* who is parked on it, or NULL */
    int64_t deadline;  /* monotonic nanoseconds, or TASK_NEVER */
    size_t heap_index; /* its place among the deadlines, 0 where it has none */
    lua_KContext ctx;
    lua_KFunction k;
    bool ready;
    bool timed_out; /* ready because its deadline passed */
};

/* Something that makes waiters ready: the transport, a server. All its functions are plain C that
 * never touch Lua. */
struct source {
    struct source *next;
    void *ctx;

    /* Writes what to poll into fds[0..max-1]; returns how many there are. NULL: none, or `wait`
     * knows them. */
    int (*fds)(void *ctx, struct pollfd *fds, int max);

    /* When `dispatch` must run at the latest: monotonic nanoseconds; TASK_NEVER where nothing is
     * under way. */
    int64_t (*deadline)(void *ctx);

    /* Moves bytes, fires timers, wakes waiters. Called after every wait. */
    void (*dispatch)(void *ctx);

    /* Does the waiting for all: until one of its own descriptors or of fds[0..n-1] is ready (whose
     * revents it fills in) or timeout_ms has passed. NULL where the source can not. */
    void (*wait)(void *ctx, struct pollfd *fds, int n, int timeout_ms);
};

struct task_api {
    void (*add_source)(lua_State *L, struct source *source);
    void (*remove_source)(lua_State *L, struct source *source);

    /* Not ready, no deadline. */
    void (*waiter_init)(lua_State *L, struct waiter *w);

    /* Parks the running task until `w` is ready, then goes on with k(L, status, ctx), in the form
     * of lua_callk: the caller returns what this returns. Where Lua can not yield it runs the loop
     * in place. Raises the error object of a cancelled task. Calls k at once where w is ready. A
     * waiter that a task waits on already is misuse: an error. */
    int (*wait)(lua_State *L, struct waiter *w, lua_KContext ctx, lua_KFunction k);

    /* Marks w ready; its task goes on in the next turn of the loop. Plain C, safe in callbacks. */
    void (*wake)(struct waiter *w);

    /* Forgets w, waking a task that is still parked on it. Any number of times. */
    void (*waiter_close)(struct waiter *w);

    /* The monotonic clock, nanoseconds. */
    int64_t (*now)(void);
};

/* The runtime of this state; loads it where it is not there yet. [-0, +0, e] */
static inline const struct task_api *task_api(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, TASK_API_KEY) != LUA_TLIGHTUSERDATA) {
        lua_pop(L, 1);
        lua_getglobal(L, "require");
        lua_pushliteral(L, "moonflow._task");
        lua_call(L, 1, 0);
        lua_getfield(L, LUA_REGISTRYINDEX, TASK_API_KEY);
    }
    const struct task_api *api = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return api;
}

#endif
