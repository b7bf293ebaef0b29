/* moonflow._task: tasks, coroutines that the runtime may park while bytes move. The friendly face
 * is lua/moonflow/task.lua. */
#include "lib/lib_task.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <unistd.h>

#include "lib/modules.h"
#include "lib/task_runtime.h"

#define TASK "moonflow.task"     /* metatable of tasks: userdata, struct task */
#define WAITER "moonflow.waiter" /* metatable of a sleep's waiter */
#define JOIN "moonflow.join"     /* metatable of waits for the end of tasks */

enum {
    TASK_THREAD = 1,    /* user value of a task: its coroutine */
    TASK_TRACEBACK = 2, /* user value of a task: where it failed, a string */
    TASK_VALUES = 2
};

/* One task's place in the list of those whom the end of another task concerns. */
struct joiner {
    struct joiner *next;
    struct join *join;
    struct task *task; /* whose list it is in, or NULL */
};

/* A wait for the end of tasks: ready when all are done or one has failed. */
struct join {
    struct waiter waiter;
    size_t left;
    int count;
    struct joiner joiners[];
};

static struct task *check_task(lua_State *L, int index) {
    return luaL_checkudata(L, index, TASK);
}

static bool is_over(const struct task *t) {
    return t->state == TASK_DONE || t->state == TASK_FAILED;
}

/* Pushes the runtime's table of tasks that must not be collected. [-0, +1, m] */
static void push_live(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_KEY);
    lua_getiuservalue(L, -1, RUNTIME_LIVE);
    lua_remove(L, -2);
}

static void release_task(lua_State *L, struct task *t) {
    push_live(L);
    lua_pushnil(L);
    lua_rawsetp(L, -2, t);
    lua_pop(L, 1);
}

static void unlink_joiner(struct joiner *j) {
    if (j->task == NULL) {
        return;
    }
    struct joiner **p = &j->task->joiners;
    while (*p != j) {
        p = &(*p)->next;
    }
    *p = j->next;
    j->task = NULL;
}

/* Ends a task, whose results or error value are on top of its stack. A failed one that nobody waits
 * for stays anchored, so that its failure can be told. [-0, +0, m] */
void task_finish(lua_State *L, struct task *t, enum task_state state) {
    if (state == TASK_FAILED && lua_status(t->co) != LUA_OK) {
        push_live(L);
        lua_rawgetp(L, -1, t);
        luaL_traceback(L, t->co, NULL, 0);
        lua_setiuservalue(L, -2, TASK_TRACEBACK);
        lua_pop(L, 2);
        lua_resetthread(t->co); /* closes its variables and leaves the error value */
    }
    t->state = state;
    if (state == TASK_DONE || t->observed || t->joiners != NULL) {
        release_task(L, t);
    }
    while (t->joiners != NULL) {
        struct joiner *j = t->joiners;
        struct join *join = j->join;
        unlink_joiner(j);
        join->left--;
        if (join->left == 0 || state == TASK_FAILED) {
            waiter_wake(&join->waiter);
        }
    }
}

/* Ends a task now, closing what it holds; one on the C stack ends at its next wait. [-0, +0, m] */
static void cancel_task(lua_State *L, struct task *t) {
    if (is_over(t)) {
        return;
    }
    t->observed = true;
    if (t->state == TASK_RUNNING) {
        t->cancelled = true;
        return;
    }
    if (t->state == TASK_READY) {
        runtime_remove_ready(t->runtime, t);
    } else {
        runtime_detach(t->waiting);
    }
    t->state = TASK_RUNNING;
    coroutine_close_chain(L, t->co);
    struct error err;
    error_set(&err, ERROR_CANCELLED, NULL, "cancelled");
    lib_push_error(L, &err);
    lua_xmove(L, t->co, 1);
    task_finish(L, t, TASK_FAILED);
}

/* Makes a task of the function and its arguments from stack index `first` on, and pushes it.
 * [-?, +1, m] */
static struct task *new_task(lua_State *L, int first) {
    luaL_checktype(L, first, LUA_TFUNCTION);
    int arguments = lua_gettop(L) - first;
    struct task *t = lua_newuserdatauv(L, sizeof(*t), TASK_VALUES);
    *t = (struct task){.runtime = runtime_get(L), .state = TASK_DONE};
    luaL_setmetatable(L, TASK);
    t->co = lua_newthread(L);
    lua_setiuservalue(L, -2, TASK_THREAD);
    lua_insert(L, first);
    luaL_checkstack(t->co, arguments + 1, NULL);
    lua_xmove(L, t->co, arguments + 1);
    t->arguments = arguments;
    push_live(L);
    lua_pushvalue(L, first);
    lua_rawsetp(L, -2, t);
    lua_pop(L, 1);
    runtime_push_ready(t->runtime, t);
    return t;
}

/* Pushes copies of a finished task's results. [-0, +n, m] */
static int push_results(lua_State *L, struct task *t) {
    int n = lua_gettop(t->co);
    luaL_checkstack(L, n, "too many results");
    luaL_checkstack(t->co, n, "too many results");
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(t->co, i);
    }
    lua_xmove(t->co, L, n);
    return n;
}

/* Pushes a new wait for the end of `count` tasks, which the caller links. [-0, +1, m] */
static struct join *new_join(lua_State *L, int count) {
    size_t size = sizeof(struct join) + (size_t)count * sizeof(struct joiner);
    struct join *join = lua_newuserdatauv(L, size, 1);
    join->left = 0;
    join->count = count;
    waiter_init(L, &join->waiter);
    for (int i = 0; i < count; i++) {
        join->joiners[i] = (struct joiner){.join = join};
    }
    luaL_setmetatable(L, JOIN);
    return join;
}

static void link_joiner(lua_State *L, struct join *join, int i, struct task *t) {
    if (!is_over(t)) {
        struct joiner *j = &join->joiners[i];
        j->task = t;
        j->next = t->joiners;
        t->joiners = j;
        join->left++;
    } else if (t->state == TASK_FAILED) {
        join->waiter.ready = true;
    }
    if (!t->observed) {
        t->observed = true;
        if (is_over(t)) {
            release_task(L, t);
        }
    }
}

static int wait_finished(lua_State *L, int status, lua_KContext ctx) {
    struct task *t = lua_touserdata(L, 1);
    (void)status;
    (void)ctx;
    if (t->state == TASK_FAILED) {
        push_results(L, t);
        return lua_error(L);
    }
    return push_results(L, t);
}

/*** Waits for the end of the task.
 * @return its results
 * raises what the task raised; a cancelled task's error has kind "cancelled" */
static int m_wait(lua_State *L) {
    struct task *t = check_task(L, 1);
    lua_settop(L, 1);
    struct join *join = new_join(L, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    link_joiner(L, join, 0, t);
    join->waiter.ready = is_over(t);
    return waiter_wait(L, &join->waiter, 0, wait_finished);
}

/*** Ends the task and closes what it holds. One that is running, or in a place that can not yield,
 * ends at its next wait. A finished task is left alone. */
static int m_cancel(lua_State *L) {
    cancel_task(L, check_task(L, 1));
    return 0;
}

/*** "ready", "running", "waiting", "done" or "failed". */
static int m_status(lua_State *L) {
    static const char *const names[] = {"ready", "running", "waiting", "done", "failed"};
    lua_pushstring(L, names[check_task(L, 1)->state]);
    return 1;
}

static int m_tostring(lua_State *L) {
    struct task *t = check_task(L, 1);
    m_status(L);
    lua_pushfstring(L, "task: %p (%s)", (void *)t, lua_tostring(L, -1));
    return 1;
}

static int m_task_gc(lua_State *L) {
    struct task *t = check_task(L, 1);
    while (t->joiners != NULL) {
        unlink_joiner(t->joiners);
    }
    return 0;
}

static int m_join_gc(lua_State *L) {
    struct join *join = luaL_checkudata(L, 1, JOIN);
    for (int i = 0; i < join->count; i++) {
        unlink_joiner(&join->joiners[i]);
    }
    waiter_close(&join->waiter);
    return 0;
}

static int m_waiter_gc(lua_State *L) {
    waiter_close(luaL_checkudata(L, 1, WAITER));
    return 0;
}

/* Library functions */

/* The monotonic time `seconds` from now; a number beyond all use is never. */
static int64_t check_deadline(lua_State *L, int index) {
    lua_Number seconds = luaL_checknumber(L, index);
    luaL_argcheck(L, !isnan(seconds), index, "a number of seconds expected, got NaN");
    if (seconds > 1e9) {
        return TASK_NEVER;
    }
    return runtime_now() + (seconds > 0 ? (int64_t)(seconds * 1e9) : 0);
}

/*** Starts fn(...) as a task; it runs when the current one waits or ends.
 * @return the task */
static int l_spawn(lua_State *L) {
    new_task(L, 1);
    return 1;
}

static int slept(lua_State *L, int status, lua_KContext ctx) {
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

/*** Waits for a number of seconds; other tasks run. */
static int l_sleep(lua_State *L) {
    int64_t deadline = check_deadline(L, 1);
    /* "Never" would leave nothing that can end the wait: ten years do the same. */
    deadline = deadline < TASK_NEVER ? deadline : runtime_now() + 315360000LL * 1000000000;
    struct waiter *w = lua_newuserdatauv(L, sizeof(*w), 0);
    waiter_init(L, w);
    luaL_setmetatable(L, WAITER);
    w->deadline = deadline;
    return waiter_wait(L, w, 0, slept);
}

static int joined(lua_State *L, int status, lua_KContext ctx) {
    struct join *join = lua_touserdata(L, 3);
    (void)status;
    (void)ctx;
    lua_pushboolean(L, !join->waiter.timed_out);
    return 1;
}

/*** Waits until all tasks of a list are done or one has failed.
 * @param tasks list of tasks
 * @param seconds how long at the most; nil without end
 * @return true, or false where the time was over first */
static int l_join(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    int64_t deadline = lua_isnoneornil(L, 2) ? TASK_NEVER : check_deadline(L, 2);
    lua_settop(L, 2);
    lua_Unsigned length = lua_rawlen(L, 1);
    luaL_argcheck(L, length <= INT_MAX / sizeof(struct joiner), 1, "too many tasks");
    int count = (int)length;
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, 1, i);
        check_task(L, -1);
        lua_pop(L, 1);
    }
    struct join *join = new_join(L, count);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        link_joiner(L, join, i, check_task(L, -1));
        lua_pop(L, 1);
    }
    join->waiter.ready = join->waiter.ready || join->left == 0;
    join->waiter.deadline = deadline;
    return waiter_wait(L, &join->waiter, 0, joined);
}

/* Pushes false, the error value and the traceback of the failed task at `index`. */
static int push_failure(lua_State *L, int index) {
    struct task *t = lua_touserdata(L, index);
    index = lua_absindex(L, index);
    lua_pushboolean(L, 0);
    push_results(L, t);
    lua_getiuservalue(L, index, TASK_TRACEBACK);
    return 3;
}

static int fail_deadlock(lua_State *L) {
    struct error err;
    lua_pushboolean(L, 0);
    error_set(&err, ERROR_USAGE, NULL, "deadlock: every task waits for another one");
    lib_push_error(L, &err);
    return 2;
}

/*** For hosts: runs fn(...) as a task, and the loop until it is over. Not from within a task.
 * @return true and its results, or false, the error value and a traceback (nil for a deadlock) */
static int l_run(lua_State *L) {
    struct task *t = new_task(L, 1);
    struct runtime *rt = t->runtime;
    t->observed = true;
    while (!is_over(t)) {
        if (rt->interrupts > 0 && t->state == TASK_WAITING) {
            runtime_detach(t->waiting);
            runtime_push_ready(rt, t);
        }
        if (!runtime_turn(L, rt)) {
            cancel_task(L, t);
            return fail_deadlock(L);
        }
    }
    if (t->state == TASK_FAILED) {
        return push_failure(L, 1);
    }
    lua_pushboolean(L, 1);
    return 1 + push_results(L, t);
}

/* Pushes a live task that is (not) over, or returns false. [-0, +(0|1), m] */
static bool find_live(lua_State *L, bool over) {
    push_live(L);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        struct task *t = lua_touserdata(L, -1);
        if (is_over(t) == over) {
            lua_replace(L, -3);
            lua_pop(L, 1);
            return true;
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return false;
}

/*** For hosts: runs the loop until every task is over or one fails that nobody waits for.
 * @return true, or false, the error value and a traceback */
static int l_drain(lua_State *L) {
    struct runtime *rt = runtime_get(L);
    while (rt->interrupts == 0) {
        if (find_live(L, true)) {
            return push_failure(L, -1);
        }
        if (!find_live(L, false)) {
            lua_pushboolean(L, 1);
            return 1;
        }
        lua_pop(L, 1);
        if (!runtime_turn(L, rt)) {
            return fail_deadlock(L);
        }
    }
    struct error err;
    lua_pushboolean(L, 0);
    error_set(&err, ERROR_CANCELLED, NULL, "interrupted");
    lib_push_error(L, &err);
    return 2;
}

/*** For hosts: takes a task that failed and that nobody has waited for.
 * @return true, the error value and a traceback; false where there is none */
static int l_take_failure(lua_State *L) {
    if (!find_live(L, true)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    struct task *t = lua_touserdata(L, -1);
    t->observed = true;
    release_task(L, t);
    push_failure(L, -1);
    lua_pushboolean(L, 1);
    lua_replace(L, -4);
    return 3;
}

/*** For hosts: cancels every task. */
static int l_close(lua_State *L) {
    while (find_live(L, false)) {
        cancel_task(L, lua_touserdata(L, -1));
        lua_pop(L, 1);
    }
    return 0;
}

/*** For hosts: ends the state of being interrupted.
 * @return whether there was an interrupt */
static int l_acknowledge(lua_State *L) {
    struct runtime *rt = runtime_get(L);
    lua_pushboolean(L, rt->interrupts > 0);
    if (rt->interrupts > 0) {
        char drained[16];
        (void)!read(rt->wake_pipe[0], drained, sizeof(drained));
        rt->interrupts = 0;
        rt->deliveries = 0;
    }
    return 1;
}

/*** For hosts: waits until standard input can be read.
 * @return false where an interrupt came first */
static int l_wait_input(lua_State *L) {
    struct runtime *rt = runtime_get(L);
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = rt->wake_pipe[0], .events = POLLIN}};
    while (rt->interrupts == 0 && poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    lua_pushboolean(L, rt->interrupts == 0);
    return 1;
}

/*** For hosts: ends code that computes for so long without a wait, with an error of kind "timeout".
 * @param seconds of CPU time, at least 0.001; the error comes after up to twice as many */
static int l_watch(lua_State *L) {
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0.001 && seconds <= 1e6, 1, "a number of seconds expected");
    runtime_watch(runtime_get(L), seconds);
    return 0;
}

static int guarded(lua_State *L, int status, lua_KContext ctx) {
    runtime_release(L, runtime_get(L));
    if (status == LUA_OK || status == LUA_YIELD) {
        return lua_gettop(L) - (int)ctx;
    }
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/*** For hosts: as xpcall. What the watch raised ends with the call, however often it was caught.
 * @param fn a function
 * @param handler the message handler
 * @return true and the results of fn(...), or false and what the handler returned */
static int l_guard(lua_State *L) {
    enum { FN = 1, HANDLER, OK };
    luaL_checktype(L, HANDLER, LUA_TFUNCTION);
    int arguments = lua_gettop(L) - HANDLER;
    lua_pushboolean(L, 1);
    lua_pushvalue(L, FN);
    lua_rotate(L, OK, 2);
    return guarded(L, lua_pcallk(L, arguments, LUA_MULTRET, HANDLER, HANDLER, guarded), HANDLER);
}

static const luaL_Reg functions[] = {
    {"watch", l_watch},
    {"guard", l_guard},
    {"spawn", l_spawn},
    {"sleep", l_sleep},
    {"join", l_join},
    {"run", l_run},
    {"drain", l_drain},
    {"take_failure", l_take_failure},
    {"close", l_close},
    {"wait_input", l_wait_input},
    {"acknowledge", l_acknowledge},
    {NULL, NULL},
};

static const luaL_Reg task_methods[] = {
    {"wait", m_wait}, {"cancel", m_cancel}, {"status", m_status}, {NULL, NULL}};

static const luaL_Reg task_metamethods[] = {
    {"__close", m_cancel}, {"__gc", m_task_gc}, {"__tostring", m_tostring}, {NULL, NULL}};

static const luaL_Reg join_metamethods[] = {{"__gc", m_join_gc}, {NULL, NULL}};

static const luaL_Reg waiter_metamethods[] = {{"__gc", m_waiter_gc}, {NULL, NULL}};

static void new_metatable(lua_State *L, const char *name, const luaL_Reg *metamethods) {
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, metamethods, 0);
    lua_pushliteral(L, "protected");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

int luaopen_moonflow__task(lua_State *L) {
    new_metatable(L, TASK, task_metamethods);
    luaL_getmetatable(L, TASK);
    luaL_newlib(L, task_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    new_metatable(L, JOIN, join_metamethods);
    new_metatable(L, WAITER, waiter_metamethods);
    /* Whoever loads the module again, as test runners do, gets the runtime that the others know. */
    if (lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_KEY) == LUA_TNIL) {
        runtime_open(L);
        coroutine_open(L);
    }
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
