/* moonflow._line: reads lines from a terminal with libedit. While it waits for a key the loop runs,
 * so tasks go on; what they print appears above the line. Loaded when a session at the terminal
 * begins. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/lib_line.h"
#include "lib/lib_line_editor.h"
#include "lib/modules.h"
#include "lib/task_api.h"

#define EDITOR "moonflow.line"

enum { HISTORY_MAX = 10000 };

/* One terminal, one editor that reads: signals and the buffers of stdout and stderr are the
 * process's. */
static struct line_editor *reading;
static volatile sig_atomic_t resized;
static volatile sig_atomic_t stopped;
static int wake_pipe[2] = {-1, -1};

/* Signals */

static void on_signal(int number) {
    int saved = errno;
    if (number == SIGTSTP) {
        stopped = 1;
    } else {
        resized = 1;
    }
    (void)!write(wake_pipe[1], "", 1);
    errno = saved;
}

static void set_handler(int number, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

/* Stops this process as Ctrl-Z does elsewhere, with the terminal as the shell wants it. */
static void stop(struct line_editor *e) {
    el_set(e->el, EL_PREP_TERM, 0);
    line_write(e, "\033[?2004l\r\n", 10);
    set_handler(SIGTSTP, SIG_DFL);
    kill(0, SIGTSTP);
    set_handler(SIGTSTP, on_signal);
    el_set(e->el, EL_PREP_TERM, 1);
    line_write(e, "\033[?2004h", 8);
    el_set(e->el, EL_REFRESH);
}

static void act_on_signals(struct line_editor *e) {
    if (resized) {
        resized = 0;
        line_hide(e);
        el_resize(e->el);
        el_set(e->el, EL_REFRESH);
    }
    if (stopped) {
        stopped = 0;
        stop(e);
    }
}

/* The source: standard input and signals */

static int source_fds(void *ctx, struct pollfd *fds, int max) {
    const struct line_editor *e = ctx;
    if (!e->waiting || max < 2) {
        return 0;
    }
    fds[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = wake_pipe[0], .events = POLLIN};
    return 2;
}

static int64_t source_deadline(void *ctx) {
    (void)ctx;
    return TASK_NEVER;
}

static bool is_readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static void source_dispatch(void *ctx) {
    struct line_editor *e = ctx;
    char drained[16];
    if (!e->waiting) {
        return;
    }
    if (is_readable(wake_pipe[0])) {
        (void)!read(wake_pipe[0], drained, sizeof drained);
        act_on_signals(e);
    }
    line_show_printed(e);
    if (is_readable(STDIN_FILENO)) {
        e->api->wake(&e->waiter);
    }
}

/* Waiting for keys. Below libedit's functions no error of Lua's may pass: what can raise runs in
 * lua_pcall. */

static int key_is_there(lua_State *L, int status, lua_KContext ctx) {
    (void)L;
    (void)status;
    (void)ctx;
    return 0;
}

static int protected_wait(lua_State *L) {
    struct line_editor *e = lua_touserdata(L, 1);
    return e->api->wait(L, &e->waiter, 0, key_is_there);
}

/* Runs the loop until a key can be read. False where an interrupt came first, or the time is over.
 */
static bool wait_for_key(struct line_editor *e, int64_t milliseconds) {
    lua_State *L = e->L;
    if (!lua_checkstack(L, 4)) {
        return false;
    }
    e->waiter.ready = false;
    e->waiter.timed_out = false;
    e->waiter.deadline = milliseconds < 0 ? TASK_NEVER : e->api->now() + milliseconds * 1000000;
    e->waiting = true;
    lua_pushcfunction(L, protected_wait);
    lua_pushlightuserdata(L, e);
    bool ok = lua_pcall(L, 1, 0, 0) == LUA_OK;
    e->waiting = false;
    if (!ok) {
        lua_pop(L, 1);
        e->is_ended = true;
    }
    return ok && !e->waiter.timed_out;
}

static bool read_byte(char *c) {
    ssize_t n;
    do {
        n = read(STDIN_FILENO, c, 1);
    } while (n < 0 && errno == EINTR);
    return n == 1;
}

int line_next_char(struct line_editor *e, wchar_t *c, int64_t milliseconds) {
    char bytes[MB_LEN_MAX];
    size_t n = 0;
    for (;;) {
        if (!is_readable(STDIN_FILENO) && !wait_for_key(e, milliseconds)) {
            return 0;
        }
        if (!read_byte(bytes + n)) {
            return 0;
        }
        n++;
        mbstate_t state;
        memset(&state, 0, sizeof state);
        size_t used = mbrtowc(c, bytes, n, &state);
        if (used == (size_t)-1 || (used == (size_t)-2 && n == sizeof bytes)) {
            *c = L'?';
        } else if (used == (size_t)-2) {
            continue;
        }
        return 1;
    }
}

/* Without Ctrl-C libedit would go on waiting where its own search reads keys. */
static int get_char(EditLine *el, wchar_t *c) {
    void *e = NULL;
    el_get(el, EL_CLIENTDATA, &e);
    return line_next_char(e, c, -1);
}

static char *get_prompt(EditLine *el) {
    void *e = NULL;
    el_get(el, EL_CLIENTDATA, &e);
    return ((struct line_editor *)e)->prompt;
}

/* Calling Lua from a key */

struct call {
    struct line_editor *e;
    int value;
    int results;
};

/* Arguments: a struct call and the editor. Returns what the function returns. */
static int protected_call(lua_State *L) {
    const struct call *call = lua_touserdata(L, 1);
    const LineInfo *line = el_line(call->e->el);
    lua_getiuservalue(L, 2, call->value);
    lua_pushlstring(L, line->buffer, (size_t)(line->lastchar - line->buffer));
    lua_pushinteger(L, (lua_Integer)(line->cursor - line->buffer));
    lua_call(L, 2, call->results);
    return call->results;
}

lua_State *line_call(struct line_editor *e, int value, int results, int *base) {
    lua_State *L = e->L;
    struct call call = {e, value, results};
    *base = lua_gettop(L);
    if (!lua_checkstack(L, results + 4)) {
        return NULL;
    }
    lua_pushcfunction(L, protected_call);
    lua_pushlightuserdata(L, &call);
    lua_pushvalue(L, 1); /* m_read keeps the editor there */
    if (lua_pcall(L, 2, results, 0) != LUA_OK) {
        lua_settop(L, *base);
        return NULL;
    }
    return L;
}

static void begin_reading(struct line_editor *e, lua_State *L) {
    line_hold_printed(e);
    e->L = L;
    e->is_ended = false;
    reading = e;
    resized = 0;
    stopped = 0;
    set_handler(SIGTSTP, on_signal);
    set_handler(SIGWINCH, on_signal);
    el_resize(e->el);
    el_set(e->el, EL_PREP_TERM, 1); /* before the prompt, behind which keys may come at once */
    line_write(e, "\033[?2004h", 8);
}

static void end_reading(struct line_editor *e) {
    set_handler(SIGTSTP, SIG_DFL);
    set_handler(SIGWINCH, SIG_DFL);
    line_write(e, "\033[?2004l", 8);
    reading = NULL;
    e->L = NULL;
    line_release_printed(e);
}

/* Where a task ends the program while a line is read, the terminal gets its usual mode. */
static void leave_terminal(void) {
    struct line_editor *e = reading;
    if (e != NULL) {
        end_reading(e);
        el_set(e->el, EL_PREP_TERM, 0);
    }
}

/* The object */

static struct line_editor *check_editor(lua_State *L) {
    struct line_editor *e = luaL_checkudata(L, 1, EDITOR);
    luaL_argcheck(L, e->el != NULL, 1, "the editor is closed");
    return e;
}

static int close_editor(lua_State *L) {
    struct line_editor *e = luaL_checkudata(L, 1, EDITOR);
    if (e->el != NULL) {
        e->api->remove_source(L, &e->source);
        el_end(e->el);
        e->el = NULL;
    }
    if (e->history != NULL) {
        history_end(e->history);
        e->history = NULL;
    }
    if (e->out != NULL) {
        fclose(e->out);
        e->out = NULL;
    }
    if (e->printed >= 0) {
        close(e->printed);
        e->printed = -1;
    }
    e->api->waiter_close(&e->waiter);
    return 0;
}

static FILE *open_terminal(void) {
    int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (f == NULL && fd >= 0) {
        close(fd);
    }
    return f;
}

static bool make_editor(struct line_editor *e) {
    HistEvent event;
    e->out = open_terminal();
    e->history = history_init();
    e->printed = memfd_create("moonflow", MFD_CLOEXEC);
    if (e->out == NULL || e->history == NULL || e->printed < 0 ||
        fcntl(e->printed, F_SETFL, O_APPEND) != 0) { /* it is written from its begin again */
        return false;
    }
    history(e->history, &event, H_SETSIZE, HISTORY_MAX);
    history(e->history, &event, H_SETUNIQUE, 1);
    e->el = el_init("moonflow", stdin, e->out, e->out);
    if (e->el == NULL) {
        return false;
    }
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_PROMPT_ESC, get_prompt, LINE_ESCAPE);
    el_set(e->el, EL_GETCFN, get_char);
    el_set(e->el, EL_HIST, history, e->history);
    el_set(e->el, EL_EDITOR, "emacs");
    el_set(e->el, EL_SIGNAL, 0);
    line_bind_keys(e->el);
    return true;
}

/*** Opens the editor of the terminal at standard input and output.
 * @param accept function(text): whether Enter runs this text, or begins a new line in it
 * @param complete function(text, bytes before the cursor): how many characters to delete before
 * the cursor and the text to insert there, or nil, nil and a list to show
 * @return an object with `read`, `add` and `close`; nil where there is no such terminal */
static int l_open(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return 0;
    }
    static bool leaves;
    if (!leaves) {
        leaves = true;
        atexit(leave_terminal);
    }
    if (wake_pipe[0] < 0 && pipe2(wake_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        return luaL_error(L, "cannot make a pipe: %s", strerror(errno));
    }
    const struct task_api *api = task_api(L);
    struct line_editor *e = lua_newuserdatauv(L, sizeof *e, LINE_VALUES);
    *e = (struct line_editor){.api = api, .printed = -1};
    api->waiter_init(L, &e->waiter);
    luaL_setmetatable(L, EDITOR);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, LINE_ACCEPT);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, LINE_COMPLETE);
    if (!make_editor(e)) {
        return luaL_error(L, "cannot open the line editor: %s", strerror(errno));
    }
    e->source = (struct source){
        .ctx = e, .fds = source_fds, .deadline = source_deadline, .dispatch = source_dispatch};
    api->add_source(L, &e->source);
    return 1;
}

/* Leaves the cursor below a line that was not ended by Enter. */
static void leave_line(struct line_editor *e) {
    int above, all;
    line_rows(e, &above, &all);
    for (int i = above; i <= all; i++) {
        line_write(e, "\r\n", 2);
    }
}

/*** Reads a text: one line, or several where they belong together. Other tasks run meanwhile. For
 * hosts, not from within a task.
 * @param prompt what stands before it; colours between two bytes "\1"
 * @return the text, without the last newline; or nil and "interrupted" or "end" */
static int m_read(lua_State *L) {
    struct line_editor *e = check_editor(L);
    size_t len;
    const char *prompt = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len < sizeof e->prompt, 2, "too long");
    luaL_argcheck(L, reading == NULL, 1, "a line is being read already");
    lua_settop(L, 2);
    luaL_checkstack(L, LUA_MINSTACK, NULL);
    memcpy(e->prompt, prompt, len + 1);
    int n = 0;
    begin_reading(e, L);
    const char *line = el_gets(e->el, &n);
    if (line == NULL || e->is_ended) {
        leave_line(e);
        el_set(e->el, EL_PREP_TERM, 0);
    }
    end_reading(e);
    if (line == NULL || e->is_ended) {
        lua_pushnil(L);
        lua_pushstring(L, e->is_ended ? "interrupted" : "end");
        return 2;
    }
    lua_pushlstring(L, line, (size_t)(n > 0 && line[n - 1] == '\n' ? n - 1 : n));
    return 1;
}

/*** Adds a text to the history that the arrows and Ctrl-R go through. */
static int m_add(lua_State *L) {
    struct line_editor *e = check_editor(L);
    HistEvent event;
    history(e->history, &event, H_ENTER, luaL_checkstring(L, 2));
    return 0;
}

/*** The columns of the terminal. */
static int l_width(lua_State *L) {
    lua_pushinteger(L, line_width());
    return 1;
}

/* Characters as the user's terminal writes them; numbers stay as Lua writes them. */
static void use_locale(void) {
    if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
}

static const luaL_Reg functions[] = {{"open", l_open},
                                     {"width", l_width},
                                     {"append", line_append},
                                     {"trim", line_trim},
                                     {NULL, NULL}};

static const luaL_Reg methods[] = {
    {"read", m_read}, {"add", m_add}, {"close", close_editor}, {NULL, NULL}};

int luaopen_moonflow__line(lua_State *L) {
    use_locale();
    luaL_newmetatable(L, EDITOR);
    lua_pushcfunction(L, close_editor);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close_editor);
    lua_setfield(L, -2, "__close");
    lua_pushliteral(L, "moonflow");
    lua_setfield(L, -2, "__metatable");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
