/* moonflow._process: runs a program and takes what it prints, while its task is parked. All waiting
 * is done by a source that collects the output and looks for the program's end; there is no SIGCHLD
 * handler, as the host of this module may be any Lua. What a program is run for is decided by the
 * Lua above. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/modules.h"
#include "lib/task_api.h"

#define PROCESS "moonflow.process"

enum {
    ARGV = 1, /* run()'s arguments */
    OPTIONS,
    ARGUMENT_MAX = 131072,   /* bytes of one argument or variable: the kernel's own limit */
    LIST_MAX = 65536,        /* arguments, or variables */
    OUTPUT_USUAL = 1048576,  /* bytes */
    OUTPUT_MAX = 1073741824, /* bytes */
    PIECE = 16384,           /* bytes of one read */
    KILLED_MS = 1000,        /* how long a killed program is waited for */
    ROUNDS = 16 /* reads of one turn, so that a flood does not keep the loop to itself */
};

/* Nanoseconds between two looks for the program's end: each time twice as long, up to the most. */
static const int64_t CHECK_FIRST = 1000000;
static const int64_t CHECK_MOST = 50000000;

static const char DEFAULT_PATH[] = "/usr/local/bin:/usr/bin:/bin";

enum outcome {
    RUNNING,
    ENDED,
    LOST, /* somebody else took its exit status */
    TIMED_OUT,
    TOO_MUCH
};

/* One of the two outputs. */
struct output {
    int fd; /* -1 when it is closed */
    struct buf bytes;
};

/* One running run(). */
struct process {
    const struct task_api *api;
    struct source source;
    bool is_source; /* known to the loop */
    struct waiter waiter;
    pid_t pid; /* 0: none, or reaped; as long as it is not, it and its group can not be others' */
    int status;
    enum outcome outcome;
    struct output out;
    struct output err;
    size_t max_output; /* of both together */
    double timeout;    /* seconds, for the message */
    int64_t deadline;
    int64_t check_at; /* when to look for the end */
    int64_t check_every;
};

/* What posix_spawn takes. */
struct command {
    const char *path;
    char **argv;
    char **envp;
};

/* The end of a program */

/* Takes the exit status where there is one. */
static void reap(struct process *p) {
    int status;
    pid_t pid = waitpid(p->pid, &status, WNOHANG);
    if (pid == p->pid) {
        p->pid = 0;
        p->status = status;
        p->outcome = ENDED;
    } else if (pid < 0 && errno != EINTR) {
        p->pid = 0;
        p->outcome = LOST;
    }
}

/* Ends the program and its process group now, and leaves no zombie. Only a program that the kernel
 * itself holds up outlasts the wait. */
static void kill_group(struct process *p) {
    if (p->pid == 0) {
        return;
    }
    kill(-p->pid, SIGKILL);
    for (int i = 0; p->pid != 0 && i < KILLED_MS; i++) {
        reap(p);
        if (p->pid != 0) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    p->pid = 0;
}

static void close_fd(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static int close_process(lua_State *L) {
    struct process *p = luaL_checkudata(L, 1, PROCESS);
    kill_group(p);
    if (p->is_source) {
        p->api->remove_source(L, &p->source);
        p->is_source = false;
    }
    close_fd(&p->out.fd);
    close_fd(&p->err.fd);
    buf_wipe(&p->out.bytes);
    buf_wipe(&p->err.bytes);
    p->api->waiter_close(&p->waiter);
    return 0;
}

/* The source: plain C */

/* Takes what an output has, in so many reads at most. False where the limit is passed. */
static bool take(struct process *p, struct output *output, int rounds) {
    char piece[PIECE];
    bool ok = true;
    while (ok && output->fd >= 0 && rounds-- > 0) {
        ssize_t n = read(output->fd, piece, sizeof piece);
        if (n > 0) {
            ok = p->out.bytes.len + p->err.bytes.len + (size_t)n <= p->max_output &&
                 buf_append(&output->bytes, piece, (size_t)n);
        } else if (n < 0 && errno == EAGAIN) {
            break;
        } else if (n == 0 || errno != EINTR) {
            close_fd(&output->fd);
        }
    }
    explicit_bzero(piece, sizeof piece);
    return ok;
}

static bool take_both(struct process *p, int rounds) {
    return take(p, &p->out, rounds) && take(p, &p->err, rounds);
}

static void give_up(struct process *p, enum outcome outcome) {
    kill_group(p);
    p->outcome = outcome;
    p->api->wake(&p->waiter);
}

/* Looks for the end of the program. The end of its outputs does not tell: it may live on without
 * them, and what it has started may keep them open. */
static void check_end(struct process *p, int64_t now) {
    reap(p);
    if (p->pid == 0) {
        if (!take_both(p, INT_MAX)) {
            p->outcome = TOO_MUCH;
        }
        p->api->wake(&p->waiter);
        return;
    }
    p->check_at = now + p->check_every;
    p->check_every = p->check_every < CHECK_MOST / 2 ? p->check_every * 2 : CHECK_MOST;
}

static void source_dispatch(void *ctx) {
    struct process *p = ctx;
    if (p->pid == 0) {
        return;
    }
    bool was_open = p->out.fd >= 0 || p->err.fd >= 0;
    if (!take_both(p, ROUNDS)) {
        give_up(p, TOO_MUCH);
        return;
    }
    int64_t now = p->api->now();
    if (was_open && p->out.fd < 0 && p->err.fd < 0) {
        p->check_at = now; /* most programs close their outputs by ending */
        p->check_every = CHECK_FIRST;
    }
    if (now >= p->check_at || now >= p->deadline) {
        check_end(p, now);
    }
    if (p->pid != 0 && now >= p->deadline) {
        give_up(p, TIMED_OUT);
    }
}

static int64_t source_deadline(void *ctx) {
    const struct process *p = ctx;
    if (p->pid == 0) {
        return TASK_NEVER;
    }
    return p->check_at < p->deadline ? p->check_at : p->deadline;
}

static int source_fds(void *ctx, struct pollfd *fds, int max) {
    const struct process *p = ctx;
    const int open[] = {p->out.fd, p->err.fd};
    int n = 0;
    for (int i = 0; i < 2 && p->pid != 0; i++) {
        if (open[i] >= 0 && n < max) {
            fds[n++] = (struct pollfd){.fd = open[i], .events = POLLIN};
        }
    }
    return n;
}

/* The start of a program */

/* Pushes a process that is closed as soon as run is left, however that happens. [-0, +1, m] */
static struct process *new_process(lua_State *L, const struct task_api *api) {
    struct process *p = lua_newuserdatauv(L, sizeof *p, 0);
    *p = (struct process){.api = api, .out.fd = -1, .err.fd = -1};
    p->source = (struct source){
        .ctx = p, .fds = source_fds, .deadline = source_deadline, .dispatch = source_dispatch};
    api->waiter_init(L, &p->waiter);
    luaL_setmetatable(L, PROCESS);
    lua_toclose(L, -1);
    return p;
}

/* A pipe whose reading end does not block. */
static bool open_pipe(int *reading, int *writing) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return false;
    }
    *reading = fds[0];
    *writing = fds[1];
    return fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0;
}

/* The descriptors of the program: nothing to read, the two pipes, and none of the host's. Where the
 * host has closed its own three, `out` may be one of these and `err` is above them, so this order
 * overwrites nothing that is still needed. */
static int add_actions(posix_spawn_file_actions_t *actions, int out, int err) {
    int failed =
        posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) != 0 ||
        posix_spawn_file_actions_adddup2(actions, out, STDOUT_FILENO) != 0 ||
        posix_spawn_file_actions_adddup2(actions, err, STDERR_FILENO) != 0;
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
    failed = failed || posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1) != 0;
#endif
    return failed ? ENOMEM : 0;
}

/* A session of its own, so that it gets no signal from the terminal and can ask nothing there, and
 * all of it can be killed; signals as a program finds them usually. */
static void set_attributes(posix_spawnattr_t *attributes) {
    sigset_t all;
    sigset_t none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setflags(attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

/* Starts the program with these as its outputs. Returns 0 or an errno. */
static int spawn(struct process *p, const struct command *command, int out, int err) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return ENOMEM;
    }
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    set_attributes(&attributes);
    int code = add_actions(&actions, out, err);
    if (code == 0) {
        code =
            posix_spawn(&pid, command->path, &actions, &attributes, command->argv, command->envp);
    }
    if (code == 0) {
        p->pid = pid;
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

static bool fail_start(struct error *err, const char *path, int code) {
    const char *name = code == ENOENT || code == ENOTDIR ? "RESOURCE_DOES_NOT_EXIST"
                       : code == EACCES || code == EPERM ? "PERMISSION_DENIED"
                       : code == EAGAIN || code == ENOMEM || code == EMFILE || code == ENFILE
                           ? "RESOURCE_EXHAUSTED"
                           : "INTERNAL_ERROR";
    return error_set(err, ERROR_CONFIG, name, "can not run %s: %s", path, strerror(code));
}

static bool start(struct process *p, const struct command *command, struct error *err) {
    int out = -1;
    int err_out = -1;
    int code = 0;
    if (!open_pipe(&p->out.fd, &out) || !open_pipe(&p->err.fd, &err_out)) {
        code = errno;
    } else {
        code = spawn(p, command, out, err_out);
    }
    close_fd(&out);
    close_fd(&err_out);
    if (code != 0) {
        return fail_start(err, command->path, code);
    }
    int64_t now = p->api->now();
    p->deadline = now + (int64_t)(p->timeout * 1e9);
    p->check_every = CHECK_FIRST;
    p->check_at = now + p->check_every;
    return true;
}

/* What run() is given */

/* The text at `index`, which must be one that C can hold. */
static const char *check_text(lua_State *L, int index, const char *what) {
    size_t len;
    if (lua_type(L, index) != LUA_TSTRING) {
        lib_misuse(L, "%s must be a string, not %s", what, luaL_typename(L, index));
    }
    const char *text = lua_tolstring(L, index, &len);
    if (strlen(text) != len || len > ARGUMENT_MAX) {
        lib_misuse(L, "%s has a NUL byte or is longer than %d bytes", what, ARGUMENT_MAX);
    }
    return text;
}

/* Pushes the texts of the list on top of the stack, which keeps them, as C has them: NULL behind
 * the last. [-0, +1, v] */
static char **push_c_list(lua_State *L) {
    lua_Unsigned count = lua_rawlen(L, -1);
    if (count > LIST_MAX) {
        lib_misuse(L, "more than %d arguments or variables", LIST_MAX);
    }
    char **list = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *list, 0);
    for (lua_Unsigned i = 0; i < count; i++) {
        lua_rawgeti(L, -2, (lua_Integer)i + 1);
        list[i] = (char *)lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    list[count] = NULL;
    return list;
}

/* Puts a copy in place of argv, which a finalizer might change while memory is asked for. */
static void copy_argv(lua_State *L) {
    lua_Unsigned count = lua_rawlen(L, ARGV);
    luaL_argcheck(L, count > 0, ARGV, "a program's name expected");
    lua_newtable(L);
    for (lua_Integer i = 1; i <= (lua_Integer)count; i++) {
        lua_rawgeti(L, ARGV, i);
        check_text(L, -1, "an argument of a program");
        lua_rawseti(L, -2, i);
    }
    lua_replace(L, ARGV);
}

/* Makes "NAME=value" of the key and value on top of the stack. [-0, +1, v] */
static void push_variable(lua_State *L) {
    const char *name = check_text(L, -2, "the name of a variable");
    const char *value = check_text(L, -1, "the value of a variable");
    if (*name == '\0' || strchr(name, '=') != NULL) {
        lib_misuse(L, "the name of a variable must not be empty or have a \"=\"");
    }
    lua_pushfstring(L, "%s=%s", name, value);
}

/* Pushes the list of the variables in the environment at `index`. [-0, +1, v] */
static void push_variables(lua_State *L, int index) {
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_Integer count = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        push_variable(L);
        lua_rawseti(L, list, ++count);
    }
}

static bool is_program(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* PATH as the environment at `index` has it, which is where the program's user looks. [-0, +1, -]
 */
static const char *push_path(lua_State *L, int index) {
    if (lua_isnil(L, index)) {
        lua_pushstring(L, getenv("PATH"));
    } else {
        lua_pushliteral(L, "PATH");
        lua_rawget(L, index);
    }
    return lua_isstring(L, -1) ? lua_tostring(L, -1) : DEFAULT_PATH;
}

/* Pushes where the program is, or nil. An empty directory in PATH means the current one, where
 * nothing is looked for. [-0, +1, m] */
static const char *push_program(lua_State *L, const char *name, int env) {
    const char *dir = push_path(L, env);
    for (const char *end; *dir != '\0'; dir = *end == ':' ? end + 1 : end) {
        end = strchrnul(dir, ':');
        if (end == dir) {
            continue;
        }
        lua_pushlstring(L, dir, (size_t)(end - dir));
        lua_pushfstring(L, "%s/%s", lua_tostring(L, -1), name);
        lua_remove(L, -2);
        if (is_program(lua_tostring(L, -1))) {
            return lua_tostring(L, -1);
        }
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    return NULL;
}

static double check_timeout(lua_State *L) {
    lua_getfield(L, OPTIONS, "timeout");
    lua_Number seconds = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || !(seconds > 0 && seconds < 1e9)) {
        lib_misuse(L, "the option timeout must be a number of seconds above 0");
    }
    lua_pop(L, 1);
    return seconds;
}

static size_t check_max_output(lua_State *L) {
    lua_Integer max = OUTPUT_USUAL;
    if (lua_getfield(L, OPTIONS, "max_output") != LUA_TNIL) {
        int is_integer;
        max = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer || max < 0 || max > OUTPUT_MAX) {
            lib_misuse(L, "the option max_output must be a number of bytes");
        }
    }
    lua_pop(L, 1);
    return (size_t)max;
}

/* Running */

static void push_bytes(lua_State *L, const struct buf *b, const char *field) {
    lua_pushlstring(L, b->len > 0 ? b->data : "", b->len);
    lua_setfield(L, -2, field);
}

static int push_result(lua_State *L, const struct process *p) {
    lua_createtable(L, 0, 3);
    bool signalled = WIFSIGNALED(p->status);
    lua_pushinteger(L, signalled ? WTERMSIG(p->status) : WEXITSTATUS(p->status));
    lua_setfield(L, -2, signalled ? "signal" : "code");
    push_bytes(L, &p->out.bytes, "stdout");
    push_bytes(L, &p->err.bytes, "stderr");
    return 1;
}

static int after_wait(lua_State *L, int status, lua_KContext ctx) {
    const struct process *p = (const struct process *)ctx;
    struct error err;
    (void)status;
    if (p->outcome == ENDED) {
        return push_result(L, p);
    }
    lua_rawgeti(L, ARGV, 1);
    const char *name = lua_tostring(L, -1);
    if (p->outcome == TIMED_OUT) {
        error_set(&err, ERROR_TIMEOUT, NULL, "%s was not done within %g s", name, p->timeout);
    } else if (p->outcome == TOO_MUCH) {
        error_set(&err, ERROR_DECODE, "RESOURCE_EXHAUSTED", "%s printed more than %zu bytes", name,
                  p->max_output);
    } else {
        error_set(&err, ERROR_CONFIG, "INTERNAL_ERROR",
                  "how %s ended is not known: this process ignores SIGCHLD, or waits for its "
                  "children elsewhere",
                  name);
    }
    return lib_fail(L, &err);
}

/* Reads what is to be run. Its texts live as long as what is left on the stack. False, with the
 * error, where there is no such program. [-0, +?, v] */
static bool read_command(lua_State *L, struct command *command, struct error *err) {
    int type = lua_getfield(L, OPTIONS, "env");
    if (type != LUA_TNIL && type != LUA_TTABLE) {
        return lib_misuse(L, "the option env must be a table, not %s", luaL_typename(L, -1));
    }
    int env = lua_gettop(L);
    copy_argv(L);
    lua_pushvalue(L, ARGV);
    command->argv = push_c_list(L);
    command->envp = environ;
    if (type == LUA_TTABLE) {
        push_variables(L, env);
        command->envp = push_c_list(L);
    }
    command->path = command->argv[0];
    if (strchr(command->path, '/') == NULL) {
        command->path = push_program(L, command->argv[0], env);
    }
    return command->path != NULL || error_set(err, ERROR_CONFIG, "RESOURCE_DOES_NOT_EXIST",
                                              "there is no program %s in PATH", command->argv[0]);
}

/*** Runs a program, and parks the task until it has ended. Its standard input is empty; it gets a
 * session of its own, which is killed where the wait ends before it.
 * @param argv list of strings: the program, looked for in PATH where it has no "/", and its
 * arguments
 * @param options timeout (seconds, required); max_output (bytes of both outputs together, default 1
 * MiB); env (its whole environment, from names to values; default this process's)
 * @return a table: code (its exit code) or signal (the number of the one that ended it), stdout,
 * stderr; or nil and an error: kind "config" where it can not be run (RESOURCE_DOES_NOT_EXIST:
 * there is no such program), "timeout", or "decode" for too much output. Raises where an argument
 * is not valid. */
static int l_run(lua_State *L) {
    struct command command = {0};
    struct error err;
    luaL_checktype(L, ARGV, LUA_TTABLE);
    luaL_checktype(L, OPTIONS, LUA_TTABLE);
    lua_settop(L, OPTIONS);
    double timeout = check_timeout(L);
    size_t max_output = check_max_output(L);
    if (!read_command(L, &command, &err)) {
        return lib_fail(L, &err);
    }
    const struct task_api *api = task_api(L);
    struct process *p = new_process(L, api);
    p->timeout = timeout;
    p->max_output = max_output;
    buf_init(&p->out.bytes, max_output);
    buf_init(&p->err.bytes, max_output);
    if (!start(p, &command, &err)) {
        return lib_fail(L, &err);
    }
    api->add_source(L, &p->source);
    p->is_source = true;
    return api->wait(L, &p->waiter, (lua_KContext)p, after_wait);
}

static const luaL_Reg functions[] = {
    {"run", l_run},
    {NULL, NULL},
};

int luaopen_moonflow__process(lua_State *L) {
    luaL_newmetatable(L, PROCESS);
    lua_pushcfunction(L, close_process);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close_process);
    lua_setfield(L, -2, "__close");
    lua_pushliteral(L, "moonflow");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
