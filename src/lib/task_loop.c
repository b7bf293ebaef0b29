/* The loop of the task runtime: waiters and their deadlines, interrupts, and the one place that
 * resumes a coroutine. What is yielded to it is private: the address PARKED and the waiter.
 *
 * Where the chain to a task's base can not yield (inside table.sort, in stock Lua's main program),
 * the loop runs in place, nested, and resumes only tasks that are not on the C stack. It knows
 * nothing of HTTP: what makes a waiter ready is a source (task_api.h). */
#include "lib/task_runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "lib/lib_task.h"

enum {
    NESTED_MAX = 50, /* loops within loops; Lua's own limit of C calls is 200 */
    FDS_MAX = 64     /* descriptors of sources that can not wait themselves */
};

/* Yielded before a waiter; only its address matters. */
static const char PARKED;

/* The runtime that signals concern: a signal handler has nothing else to reach it by. */
static struct runtime *volatile signalled_runtime;

struct runtime *runtime_get(lua_State *L) {
    lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_KEY);
    struct runtime *rt = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return rt;
}

int64_t runtime_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Deadlines: a binary heap of waiters, each of which knows its place. */

static void heap_place(struct runtime *rt, size_t i, struct waiter *w) {
    rt->heap[i] = w;
    w->heap_index = i;
}

static void heap_up(struct runtime *rt, size_t i, struct waiter *w) {
    while (i > 1 && rt->heap[i / 2]->deadline > w->deadline) {
        heap_place(rt, i, rt->heap[i / 2]);
        i /= 2;
    }
    heap_place(rt, i, w);
}

static void heap_down(struct runtime *rt, size_t i, struct waiter *w) {
    for (;;) {
        size_t child = 2 * i;
        if (child > rt->heap_len) {
            break;
        }
        if (child < rt->heap_len && rt->heap[child + 1]->deadline < rt->heap[child]->deadline) {
            child++;
        }
        if (rt->heap[child]->deadline >= w->deadline) {
            break;
        }
        heap_place(rt, i, rt->heap[child]);
        i = child;
    }
    heap_place(rt, i, w);
}

static void heap_add(lua_State *L, struct runtime *rt, struct waiter *w) {
    if (rt->heap_len + 1 >= rt->heap_cap) {
        size_t cap = rt->heap_cap > 0 ? rt->heap_cap * 2 : 16;
        struct waiter **heap = realloc(rt->heap, cap * sizeof(*heap));
        if (heap == NULL) {
            luaL_error(L, "not enough memory");
            return;
        }
        rt->heap = heap;
        rt->heap_cap = cap;
    }
    rt->heap_len++;
    heap_up(rt, rt->heap_len, w);
}

static void heap_remove(struct runtime *rt, struct waiter *w) {
    size_t i = w->heap_index;
    w->heap_index = 0;
    /* The heap is gone already where the runtime was finalised before the waiter. */
    if (i == 0 || rt->heap_len == 0) {
        return;
    }
    struct waiter *last = rt->heap[rt->heap_len--];
    if (last == w) {
        return;
    }
    heap_up(rt, i, last);
    heap_down(rt, last->heap_index, last);
}

/* Waiters */

void runtime_push_ready(struct runtime *rt, struct task *t) {
    t->state = TASK_READY;
    t->next = NULL;
    if (rt->last_ready != NULL) {
        rt->last_ready->next = t;
    } else {
        rt->first_ready = t;
    }
    rt->last_ready = t;
}

static struct task *pop_ready(struct runtime *rt) {
    struct task *t = rt->first_ready;
    if (t != NULL) {
        rt->first_ready = t->next;
        if (rt->first_ready == NULL) {
            rt->last_ready = NULL;
        }
    }
    return t;
}

void runtime_remove_ready(struct runtime *rt, struct task *t) {
    struct task *previous = NULL;
    for (struct task *p = rt->first_ready; p != NULL; previous = p, p = p->next) {
        if (p != t) {
            continue;
        }
        if (previous != NULL) {
            previous->next = t->next;
        } else {
            rt->first_ready = t->next;
        }
        if (rt->last_ready == t) {
            rt->last_ready = previous;
        }
        return;
    }
}

void waiter_init(lua_State *L, struct waiter *w) {
    *w = (struct waiter){.runtime = runtime_get(L), .deadline = TASK_NEVER};
}

void runtime_detach(struct waiter *w) {
    heap_remove(w->runtime, w);
    if (w->task != NULL) {
        w->task->waiting = NULL;
        w->task = NULL;
    }
}

void waiter_wake(struct waiter *w) {
    struct task *t = w->task;
    w->ready = true;
    runtime_detach(w);
    if (t != NULL) {
        runtime_push_ready(w->runtime, t);
    }
}

void waiter_close(struct waiter *w) {
    if (w->runtime != NULL) {
        waiter_wake(w);
    }
}

/* Interrupts */

static void raise_cancelled(lua_State *L, const char *message) {
    struct error err;
    error_set(&err, ERROR_CANCELLED, NULL, "%s", message);
    lib_raise(L, &err);
}

static void on_hook(lua_State *L, lua_Debug *ar);

/* Whether code of this run that was told to end goes on all the same. */
static bool is_stubborn(const struct runtime *rt) {
    enum { TICKS = 2 };
    return rt->holds >= TICKS;
}

/* Makes the hook fire in `L`: at once for the first time, then after ever fewer instructions. That
 * is enough at first for code that cleans up, and too little in the end for a loop round pcall. The
 * main thread is left alone: what runs there is the host, which has to go on. */
static void arm(struct runtime *rt, lua_State *L) {
    static const int patience[] = {1, 1000, 100, 10, 1};
    enum { LAST = sizeof(patience) / sizeof(patience[0]) - 1 };
    if (L == rt->main) {
        return;
    }
    int raised = rt->interrupts > 0 ? rt->deliveries : rt->holds - 1;
    bool hurry = rt->interrupts > 1 || raised > LAST;
    lua_sethook(L, on_hook, LUA_MASKCOUNT, patience[hurry ? LAST : raised]);
}

/* As arm, for a thread about to run: one that is armed goes on counting. */
static void keep_armed(struct runtime *rt, lua_State *L) {
    if ((rt->interrupts > 0 || is_stubborn(rt)) && lua_gethook(L) != on_hook) {
        arm(rt, L);
    }
}

/* Raises the interrupt. Code that catches it meets it again, until it is acknowledged. */
static void deliver_interrupt(lua_State *L, struct runtime *rt) {
    rt->deliveries++;
    arm(rt, L);
    raise_cancelled(L, "interrupted");
}

/* Raises what the watch found. Whoever catches it has another tick to end; after that it is raised
 * again and again, as the interrupt is. */
static void deliver_hold(lua_State *L, struct runtime *rt) {
    struct error err;
    rt->is_held = 0;
    rt->holds++;
    if (is_stubborn(rt)) {
        arm(rt, L);
    }
    error_set(&err, ERROR_TIMEOUT, NULL, "this code computes for too long without a wait");
    lib_raise(L, &err);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
    struct runtime *rt = runtime_get(L);
    (void)ar;
    if (rt->interrupts > 0) {
        deliver_interrupt(L, rt);
        return;
    }
    lua_sethook(L, NULL, 0, 0);
    if (rt->is_held || is_stubborn(rt)) {
        deliver_hold(L, rt);
    }
}

void runtime_release(lua_State *L, struct runtime *rt) {
    rt->is_held = 0;
    rt->holds = 0;
    if (rt->interrupts == 0 && lua_gethook(L) == on_hook) {
        lua_sethook(L, NULL, 0, 0);
    }
}

/* A tick of the watch, under the rules of on_interrupt. */
static void on_tick(int signal_number) {
    struct runtime *rt = signalled_runtime;
    (void)signal_number;
    if (rt->running != NULL && rt->watched_run == rt->runs) {
        rt->is_held = 1;
        if (rt->current != rt->main) {
            lua_sethook(rt->current, on_hook, LUA_MASKCOUNT, 1);
        }
    }
    rt->watched_run = rt->runs;
}

void runtime_watch(struct runtime *rt, double seconds) {
    struct timeval tick = {.tv_sec = (time_t)seconds,
                           .tv_usec = (suseconds_t)(fmod(seconds, 1) * 1e6)};
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    signalled_runtime = rt;
    sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &(struct itimerval){.it_interval = tick, .it_value = tick}, NULL);
}

/* Only what a signal handler may do: lua_sethook is such a function by Lua's own use of it. */
static void on_interrupt(int signal_number) {
    struct runtime *rt = signalled_runtime;
    int saved = errno;
    (void)signal_number;
    if (rt->interrupts >= 2) {
        _exit(130);
    }
    rt->interrupts = rt->interrupts + 1;
    arm(rt, rt->current);
    (void)!write(rt->wake_pipe[1], "", 1);
    errno = saved;
}

void task_catch_interrupts(lua_State *L) {
    task_api(L);
    signalled_runtime = runtime_get(L);
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

/* Resuming: the only place in the program that calls lua_resume. */

int runtime_resume(struct runtime *rt, lua_State *co, lua_State *from, int arguments,
                   int *results) {
    lua_State *previous = rt->current;
    rt->current = co;
    keep_armed(rt, co);
    int status = lua_resume(co, from, arguments, results);
    rt->current = previous;
    keep_armed(rt, previous);
    return status;
}

/* The waiter that `co` yielded, popped with its mark; NULL where it yielded something else. */
struct waiter *runtime_parked_on(lua_State *co, int results) {
    if (results != 2 || lua_touserdata(co, -2) != &PARKED) {
        return NULL;
    }
    struct waiter *w = lua_touserdata(co, -1);
    lua_pop(co, 2);
    return w;
}

/* Whether what this thread yields reaches the loop: whoever resumed it passes PARKED on. */
bool runtime_can_park(struct runtime *rt, lua_State *L) {
    return L == rt->current && lua_isyieldable(L);
}

int runtime_park(lua_State *L, struct waiter *w, lua_KContext ctx, lua_KFunction k) {
    luaL_checkstack(L, 2, NULL);
    lua_pushlightuserdata(L, (void *)&PARKED);
    lua_pushlightuserdata(L, w);
    return lua_yieldk(L, 2, ctx, k);
}

/* The loop */

static void expire(struct runtime *rt) {
    int64_t time = runtime_now();
    while (rt->heap_len > 0 && rt->heap[1]->deadline <= time) {
        rt->heap[1]->timed_out = true;
        waiter_wake(rt->heap[1]);
    }
}

static int64_t next_deadline(struct runtime *rt) {
    int64_t deadline = rt->heap_len > 0 ? rt->heap[1]->deadline : TASK_NEVER;
    for (struct source *s = rt->sources; s != NULL; s = s->next) {
        int64_t d = s->deadline(s->ctx);
        deadline = d < deadline ? d : deadline;
    }
    return deadline;
}

static int milliseconds_until(int64_t deadline) {
    enum { LONGEST = 60 * 1000 };
    if (deadline == TASK_NEVER) {
        return LONGEST;
    }
    int64_t ms = (deadline - runtime_now() + 999999) / 1000000;
    if (ms < 0) {
        return 0;
    }
    return ms < LONGEST ? (int)ms : LONGEST;
}

/* Waits for one thing to happen and lets the sources act on it. False where nothing can happen. */
static bool wait_for_events(struct runtime *rt, bool at_once) {
    struct pollfd fds[FDS_MAX] = {{.fd = rt->wake_pipe[0], .events = POLLIN}};
    struct source *waiting_source = NULL;
    int n = 1;
    for (struct source *s = rt->sources; s != NULL; s = s->next) {
        if (s->wait != NULL) {
            waiting_source = s;
        } else if (s->fds != NULL) {
            n += s->fds(s->ctx, fds + n, FDS_MAX - n);
        }
    }
    int64_t deadline = next_deadline(rt);
    if (deadline == TASK_NEVER && n == 1 && !at_once) {
        return false;
    }
    int ms = at_once ? 0 : milliseconds_until(deadline);
    if (waiting_source != NULL) {
        waiting_source->wait(waiting_source->ctx, fds, n, ms);
    } else {
        poll(fds, (nfds_t)n, ms);
    }
    if (fds[0].revents != 0) {
        char drained[16];
        (void)!read(rt->wake_pipe[0], drained, sizeof(drained));
    }
    for (struct source *s = rt->sources; s != NULL; s = s->next) {
        s->dispatch(s->ctx);
    }
    expire(rt);
    return true;
}

static void run_task(lua_State *L, struct task *t) {
    struct runtime *rt = t->runtime;
    struct task *previous = rt->running;
    int results = 0;
    rt->running = t;
    rt->runs++;
    rt->is_held = 0;
    rt->holds = 0;
    t->state = TASK_RUNNING;
    int status = runtime_resume(rt, t->co, L, t->arguments, &results);
    t->arguments = 0;
    rt->running = previous;
    if (status == LUA_YIELD) {
        struct waiter *w = runtime_parked_on(t->co, results);
        if (w == NULL) {
            lua_resetthread(t->co);
            lua_pushliteral(t->co, "a task can not yield: nothing resumes it with values");
            task_finish(L, t, TASK_FAILED);
            return;
        }
        t->state = TASK_WAITING;
        t->waiting = w;
        w->task = t;
        if (w->ready || rt->interrupts > 0 || t->cancelled) {
            runtime_detach(w);
            runtime_push_ready(rt, t);
        }
        return;
    }
    task_finish(L, t, status == LUA_OK ? TASK_DONE : TASK_FAILED);
}

/* Runs what is ready now, once each. */
static void run_ready(lua_State *L, struct runtime *rt) {
    struct task *last = rt->last_ready;
    struct task *t;
    do {
        t = pop_ready(rt);
        if (t != NULL) {
            run_task(L, t);
        }
    } while (t != NULL && t != last);
}

/* One turn of the loop. False where every task waits and nothing can wake one. */
bool runtime_turn(lua_State *L, struct runtime *rt) {
    if (rt->first_ready != NULL) {
        run_ready(L, rt);
        return wait_for_events(rt, true);
    }
    return wait_for_events(rt, false);
}

static void raise_deadlock(lua_State *L) {
    lib_misuse(L, "deadlock: every task waits for another one");
}

/* The loop in a place that can not yield, until `w` is ready or the running task must stop. */
void runtime_run_nested(lua_State *L, struct runtime *rt, struct waiter *w) {
    struct task *t = rt->running;
    if (rt->depth >= NESTED_MAX) {
        lib_misuse(L, "more than %d waits within one another where Lua can not yield", NESTED_MAX);
    }
    rt->depth++;
    bool alive = true;
    while (alive && !w->ready && rt->interrupts == 0 && !(t != NULL && t->cancelled)) {
        alive = runtime_turn(L, rt);
    }
    rt->depth--;
    if (!alive) {
        raise_deadlock(L);
    }
}

/* Waiting, as modules see it */

static int wait_over(lua_State *L, int status, lua_KContext ctx) {
    struct waiter *w = (struct waiter *)ctx;
    struct runtime *rt = w->runtime;
    (void)status;
    heap_remove(rt, w);
    if (rt->interrupts > 0) {
        deliver_interrupt(L, rt);
    }
    if (rt->running != NULL && rt->running->cancelled) {
        raise_cancelled(L, "cancelled");
    }
    return w->k(L, LUA_YIELD, w->ctx);
}

int waiter_wait(lua_State *L, struct waiter *w, lua_KContext ctx, lua_KFunction k) {
    struct runtime *rt = w->runtime;
    if (w->task != NULL || w->heap_index != 0) {
        return lib_misuse(L, "another task is waiting for this already");
    }
    w->ctx = ctx;
    w->k = k;
    if (!w->ready) {
        if (w->deadline != TASK_NEVER) {
            heap_add(L, rt, w);
        }
        if (runtime_can_park(rt, L)) {
            return runtime_park(L, w, (lua_KContext)w, wait_over);
        }
        runtime_run_nested(L, rt, w);
    }
    return wait_over(L, LUA_OK, (lua_KContext)w);
}

static void api_add_source(lua_State *L, struct source *source) {
    struct runtime *rt = runtime_get(L);
    source->next = rt->sources;
    rt->sources = source;
}

static void api_remove_source(lua_State *L, struct source *source) {
    struct runtime *rt = runtime_get(L);
    for (struct source **p = &rt->sources; *p != NULL; p = &(*p)->next) {
        if (*p == source) {
            *p = source->next;
            return;
        }
    }
}

static const struct task_api API = {api_add_source, api_remove_source, waiter_init, waiter_wait,
                                    waiter_wake,    waiter_close,      runtime_now};

static int m_runtime_gc(lua_State *L) {
    struct runtime *rt = lua_touserdata(L, 1);
    if (signalled_runtime == rt) {
        setitimer(ITIMER_VIRTUAL, &(struct itimerval){0}, NULL);
        signal(SIGINT, SIG_DFL);
        signalled_runtime = NULL;
    }
    free(rt->heap);
    rt->heap = NULL;
    rt->heap_len = 0;
    rt->heap_cap = 0;
    for (int i = 0; i < 2; i++) {
        if (rt->wake_pipe[i] >= 0) {
            close(rt->wake_pipe[i]);
            rt->wake_pipe[i] = -1;
        }
    }
    return 0;
}

void runtime_open(lua_State *L) {
    struct runtime *rt = lua_newuserdatauv(L, sizeof(*rt), RUNTIME_VALUES);
    *rt = (struct runtime){.wake_pipe = {-1, -1}};
    lua_newtable(L);
    lua_pushcfunction(L, m_runtime_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    if (pipe2(rt->wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        luaL_error(L, "cannot make a pipe: %s", strerror(errno));
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    rt->main = lua_tothread(L, -1);
    rt->current = rt->main;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_setiuservalue(L, -2, RUNTIME_LIVE);
    lua_newtable(L);
    lua_newtable(L);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_setiuservalue(L, -2, RUNTIME_CHAIN);
    lua_setfield(L, LUA_REGISTRYINDEX, RUNTIME_KEY);
    lua_pushlightuserdata(L, (void *)&API);
    lua_setfield(L, LUA_REGISTRYINDEX, TASK_API_KEY);
}
