/* The inside of the task runtime, shared by task_loop.c (the loop and its waits), task_coroutine.c
 * (a script's own coroutines inside tasks) and lib_task.c (tasks, and the Lua face). Other modules
 * see task_api.h only. */
#ifndef MOONFLOW_LIB_TASK_RUNTIME_H
#define MOONFLOW_LIB_TASK_RUNTIME_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "lib/lib.h"
#include "lib/task_api.h"

#define RUNTIME_KEY "moonflow.runtime" /* registry field: userdata, struct runtime */

enum {
    RUNTIME_LIVE = 1,  /* user value: task address -> task, of all that must not be collected */
    RUNTIME_CHAIN = 2, /* user value: thread -> the thread it waits for, of parked threads */
    RUNTIME_VALUES = 2
};

enum task_state { TASK_READY, TASK_RUNNING, TASK_WAITING, TASK_DONE, TASK_FAILED };

struct joiner;

struct task {
    struct runtime *runtime;
    lua_State *co;
    enum task_state state;
    struct task *next; /* in the ready list */
    struct waiter *waiting;
    struct joiner *joiners; /* whom its end concerns */
    int arguments;          /* for its first resume */
    bool cancelled; /* while on the C stack, where it can not be closed: its next wait raises */
    bool observed;  /* somebody waits or has waited for it, so its failure is told */
};

struct runtime {
    struct task *running; /* the task whose code runs now, or NULL */
    lua_State *main;      /* the main thread */
    lua_State *current;   /* the thread that runtime_resume resumed last, else the main thread */
    struct task *first_ready;
    struct task *last_ready;
    struct source *sources;
    struct waiter **heap; /* waiters with a deadline, earliest first; 1-based */
    size_t heap_len;
    size_t heap_cap;
    int depth; /* of nested loops */
    int wake_pipe[2];
    volatile sig_atomic_t interrupts; /* SIGINTs since the last acknowledge */
    int deliveries;                   /* how often the interrupt was raised */
    volatile unsigned runs;           /* how often a task was resumed */
    volatile unsigned watched_run;    /* the run that the last tick of the watch has seen */
    volatile sig_atomic_t is_held;    /* a task has run for a whole tick without a wait */
    int holds;                        /* how often that was raised in this run */
};

/* The runtime of this state, which is open. [-0, +0, -] */
struct runtime *runtime_get(lua_State *L);

/* Puts the runtime and its API into the registry. [-0, +0, e] */
void runtime_open(lua_State *L);

/* The monotonic clock, nanoseconds. */
int64_t runtime_now(void);

/* Ends code that computes for so many seconds of CPU time, up to twice as many, without a wait: an
 * error is raised in it. Where it goes on for as long again, each further call that catches the
 * error meets it anew, until the task waits or ends, or the call of runtime_release. For servers,
 * where one handler would stop all others. [-0, +0, -] */
void runtime_watch(struct runtime *rt, double seconds);

/* What the watch raised is dealt with: the code that runs now is not to be stopped. [-0, +0, -] */
void runtime_release(lua_State *L, struct runtime *rt);

/* One turn of the loop: runs what is ready, moves bytes, and waits where nothing is ready. False
 * where every task waits and nothing can wake one. [-0, +0, m] */
bool runtime_turn(lua_State *L, struct runtime *rt);

/* The loop in a place that can not yield, until `w` is ready or the running task has to stop.
 * [-0, +0, e] */
void runtime_run_nested(lua_State *L, struct runtime *rt, struct waiter *w);

/* Resumes `co`; the only place in the program that calls lua_resume. Leaves `*results` values, or
 * the error value, on top of co's stack. */
int runtime_resume(struct runtime *rt, lua_State *co, lua_State *from, int arguments, int *results);

/* The waiter that `co` yielded, popped; NULL where it yielded something else. */
struct waiter *runtime_parked_on(lua_State *co, int results);

/* Whether what this thread yields reaches the loop: each thread below passes it on. */
bool runtime_can_park(struct runtime *rt, lua_State *L);

/* Yields to the loop until `w` is ready, then goes on with k; the caller returns what this returns.
 */
int runtime_park(lua_State *L, struct waiter *w, lua_KContext ctx, lua_KFunction k);

/* What task_api.h says of the members of the same names. */
void waiter_init(lua_State *L, struct waiter *w);
int waiter_wait(lua_State *L, struct waiter *w, lua_KContext ctx, lua_KFunction k);
void waiter_wake(struct waiter *w);
void waiter_close(struct waiter *w);

/* Takes the task that is parked on `w` off it, and `w` out of the deadlines. */
void runtime_detach(struct waiter *w);

void runtime_push_ready(struct runtime *rt, struct task *t);
void runtime_remove_ready(struct runtime *rt, struct task *t);

/* lib_task.c: ends a task, whose results or error value are on top of its stack. [-0, +0, m] */
void task_finish(lua_State *L, struct task *t, enum task_state state);

/* task_coroutine.c: replaces resume, wrap and yield in the table `coroutine`. [-0, +0, m] */
void coroutine_open(lua_State *L);

/* task_coroutine.c: closes a thread and, before it, the threads that it waits for. [-0, +0, m] */
void coroutine_close_chain(lua_State *L, lua_State *co);

#endif
