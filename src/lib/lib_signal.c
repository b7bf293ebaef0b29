/* moonflow._signal: signals that a task waits for. They are blocked and read from a descriptor, so
 * nothing runs at a moment of their choosing; programs that are started get the usual mask. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/modules.h"
#include "lib/task_api.h"

#define SIGNALS "moonflow.signals"

static const struct {
    const char *name;
    int number;
} known[] = {{"HUP", SIGHUP}, {"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}};

enum { KNOWN = sizeof known / sizeof known[0] };

struct signals {
    const struct task_api *api;
    struct source source;
    bool is_source;
    struct waiter waiter;
    sigset_t set;
    int fd;      /* -1 when closed */
    int arrived; /* the signal's number, 0 for none */
};

static void source_dispatch(void *ctx) {
    struct signals *s = ctx;
    struct signalfd_siginfo info;
    if (s->arrived == 0 && read(s->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        s->arrived = (int)info.ssi_signo;
        s->api->wake(&s->waiter);
    }
}

static int64_t source_deadline(void *ctx) {
    (void)ctx;
    return TASK_NEVER;
}

static int source_fds(void *ctx, struct pollfd *fds, int max) {
    const struct signals *s = ctx;
    if (max < 1 || s->arrived != 0) {
        return 0;
    }
    fds[0] = (struct pollfd){.fd = s->fd, .events = POLLIN};
    return 1;
}

static int close_signals(lua_State *L) {
    struct signals *s = luaL_checkudata(L, 1, SIGNALS);
    if (s->is_source) {
        s->api->remove_source(L, &s->source);
        s->is_source = false;
    }
    if (s->fd >= 0) {
        close(s->fd);
        s->fd = -1;
        sigprocmask(SIG_UNBLOCK, &s->set, NULL);
    }
    s->api->waiter_close(&s->waiter);
    return 0;
}

static int number_of(lua_State *L, int index) {
    const char *name = luaL_checkstring(L, index);
    for (int i = 0; i < KNOWN; i++) {
        if (strcmp(known[i].name, name) == 0) {
            return known[i].number;
        }
    }
    return luaL_argerror(L, index, "HUP, TERM, USR1 or USR2 expected");
}

/*** Takes signals out of this process's usual handling.
 * @param ... names: "HUP", "TERM", "USR1", "USR2"
 * @return an object with `next` and `close`; `close`, a `<close>` variable and the collector give
 * them back */
static int l_open(lua_State *L) {
    sigset_t set;
    int count = lua_gettop(L);
    sigemptyset(&set);
    for (int i = 1; i <= count; i++) {
        sigaddset(&set, number_of(L, i));
    }
    const struct task_api *api = task_api(L);
    struct signals *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct signals){.api = api, .fd = -1, .set = set};
    api->waiter_init(L, &s->waiter);
    luaL_setmetatable(L, SIGNALS);
    s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->fd < 0) {
        return luaL_error(L, "can not wait for signals: %s", strerror(errno));
    }
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->source = (struct source){
        .ctx = s, .fds = source_fds, .deadline = source_deadline, .dispatch = source_dispatch};
    api->add_source(L, &s->source);
    s->is_source = true;
    return 1;
}

static int push_arrived(lua_State *L, int status, lua_KContext ctx) {
    struct signals *s = luaL_checkudata(L, 1, SIGNALS);
    (void)status;
    (void)ctx;
    for (int i = 0; i < KNOWN; i++) {
        if (known[i].number == s->arrived) {
            s->arrived = 0;
            lua_pushstring(L, known[i].name);
            return 1;
        }
    }
    return 0;
}

/*** Waits, once, for the next signal.
 * @return its name; nothing where the object is closed */
static int m_next(lua_State *L) {
    struct signals *s = luaL_checkudata(L, 1, SIGNALS);
    lua_settop(L, 1);
    if (s->arrived != 0 || s->fd < 0) {
        return push_arrived(L, LUA_OK, 0);
    }
    if (s->waiter.task == NULL) {
        s->waiter.ready = false;
    }
    return s->api->wait(L, &s->waiter, 0, push_arrived);
}

static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};

static const luaL_Reg methods[] = {{"next", m_next}, {"close", close_signals}, {NULL, NULL}};

int luaopen_moonflow__signal(lua_State *L) {
    luaL_newmetatable(L, SIGNALS);
    lua_pushcfunction(L, close_signals);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close_signals);
    lua_setfield(L, -2, "__close");
    lua_pushliteral(L, "moonflow");
    lua_setfield(L, -2, "__metatable");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
