/* The host's half of the program: the one list of modules, Lua files that are compiled in, where
 * the installed parts are, and how a script runs as the main task. */
#include "host.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "embedded.h"
#include "lib/lib_task.h"
#include "lib/modules.h"

int luaopen_cjson(lua_State *L);
int luaopen_cjson_safe(lua_State *L);
static int open_crypt(lua_State *L);
static int open_http(lua_State *L);
static int open_line(lua_State *L);
static int open_server(lua_State *L);
static int open_host(lua_State *L);

static const luaL_Reg modules[] = {
    {"cjson", luaopen_cjson},
    {"cjson.safe", luaopen_cjson_safe},
    {"moonflow._chat", luaopen_moonflow__chat},
    {"moonflow._crypt", open_crypt},
    {"moonflow._http", open_http},
    {"moonflow._line", open_line},
    {"moonflow._process", luaopen_moonflow__process},
    {"moonflow._server", open_server},
    {"moonflow._signal", luaopen_moonflow__signal},
    {"moonflow._task", luaopen_moonflow__task},
    {"moonflow.auth", luaopen_moonflow_auth},
    {"moonflow.backend.databricks", luaopen_moonflow_backend_databricks},
    {"moonflow.backend.mlflow", luaopen_moonflow_backend_mlflow},
    {"moonflow.backend.openai", luaopen_moonflow_backend_openai},
    {"moonflow.base64", luaopen_moonflow_base64},
    {"moonflow.error", luaopen_moonflow_error},
    {"moonflow.host", open_host},
    {"moonflow.json", luaopen_moonflow_json},
    {"moonflow.sys", luaopen_moonflow_sys},
    {"moonflow.target", luaopen_moonflow_target},
    {"moonflow.url", luaopen_moonflow_url},
    {NULL, NULL},
};

#define PREFIX_KEY "moonflow.prefix"           /* registry: where the program is installed */
#define PLUGIN_DIRS_KEY "moonflow.plugin_dirs" /* registry: list of --plugin-dir */

/* Pushes PREFIX/`relative`. [-0, +1, m] */
static const char *push_installed(lua_State *L, const char *relative) {
    lua_getfield(L, LUA_REGISTRYINDEX, PREFIX_KEY);
    lua_pushfstring(L, "%s/%s", lua_tostring(L, -1), relative);
    lua_remove(L, -2);
    return lua_tostring(L, -1);
}

/* Loads a module that is a library of its own, because loading the libraries it needs takes longer
 * than all else at the start of a script that does not use it. Lazily, which package.loadlib can
 * not: to bind all of their functions at once takes as long again as most of them are never called.
 */
static int open_library(lua_State *L, const char *file, const char *function, const char *what) {
    void *library = dlopen(push_installed(L, file), RTLD_LAZY | RTLD_LOCAL);
    lua_CFunction open = NULL;
    if (library != NULL) {
        *(void **)&open = dlsym(library, function);
    }
    if (open == NULL) {
        return luaL_error(L, "cannot load moonflow's %s: %s", what, dlerror());
    }
    lua_pushcfunction(L, open);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int open_crypt(lua_State *L) {
    return open_library(L, "lib/moonflow/_crypt.so", "luaopen_moonflow__crypt",
                        "hashes (they are built where libcrypt is)");
}

static int open_http(lua_State *L) {
    return open_library(L, "lib/moonflow/_http.so", "luaopen_moonflow__http", "transport");
}

static int open_line(lua_State *L) {
    return open_library(L, "lib/moonflow/_line.so", "luaopen_moonflow__line",
                        "line editor (it is built where libedit is)");
}

static int open_server(lua_State *L) {
    return open_library(L, "lib/moonflow/_server.so", "luaopen_moonflow__server",
                        "server (it is built where libmicrohttpd is)");
}

/* moonflow.host: what only the program knows. plugin_dirs: list of the directories that
 * --plugin-dir names; installed_plugins: where the shipped ones are. */
static int open_host(lua_State *L) {
    lua_createtable(L, 0, 3);
    lua_pushliteral(L, MOONFLOW_VERSION);
    lua_setfield(L, -2, "version");
    lua_getfield(L, LUA_REGISTRYINDEX, PLUGIN_DIRS_KEY);
    lua_setfield(L, -2, "plugin_dirs");
    push_installed(L, "share/moonflow/plugins");
    lua_setfield(L, -2, "installed_plugins");
    return 1;
}

/* Loads a moonflow module from $MOONFLOW_LUA_DIR, for development. [-0, +(0|1), e] */
static bool load_from_disk(lua_State *L, const char *name) {
    const char *dir = getenv("MOONFLOW_LUA_DIR");
    if (dir == NULL || *dir == '\0' || strncmp(name, "moonflow", 8) != 0) {
        return false;
    }
    lua_getglobal(L, LUA_LOADLIBNAME);
    lua_getfield(L, -1, "searchpath");
    lua_pushstring(L, name);
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", dir, dir);
    lua_call(L, 2, 1);
    const char *file = lua_tostring(L, -1);
    if (file == NULL) {
        lua_pop(L, 2);
        return false;
    }
    if (luaL_loadfilex(L, file, "t") != LUA_OK) {
        lua_error(L);
    }
    return true;
}

/* A searcher of package.searchers: modules of the list above and Lua files that are compiled in. */
static int search_own(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    if (load_from_disk(L, name)) {
        return 1;
    }
    for (const luaL_Reg *m = modules; m->name != NULL; m++) {
        if (strcmp(m->name, name) == 0) {
            lua_pushcfunction(L, m->func);
            return 1;
        }
    }
    for (const struct embedded_file *f = embedded_files; f->name != NULL; f++) {
        if (strcmp(f->name, name) == 0) {
            if (luaL_loadbufferx(L, (const char *)f->data, f->size, f->chunk_name, "b") != LUA_OK) {
                return lua_error(L);
            }
            return 1;
        }
    }
    lua_pushfstring(L, "no module '%s' in moonflow", name);
    return 1;
}

static void add_searcher(lua_State *L) {
    lua_getglobal(L, LUA_LOADLIBNAME);
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) {
        lua_geti(L, -1, i);
        lua_seti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search_own);
    lua_seti(L, -2, 2);
    lua_pop(L, 2);
}

/* Takes the templates out of package.path or package.cpath that depend on the working directory:
 * code must not be loaded from wherever the user happens to be. */
static void drop_relative_paths(lua_State *L, const char *field) {
    lua_getglobal(L, LUA_LOADLIBNAME);
    lua_getfield(L, -1, field);
    const char *path = luaL_checkstring(L, -1);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (const char *p = path; *p != '\0';) {
        size_t len = strcspn(p, ";");
        if (*p == '/') {
            luaL_addlstring(&b, p, len);
            luaL_addchar(&b, ';');
        }
        p += len + (p[len] == ';');
    }
    luaL_pushresult(&b);
    lua_setfield(L, -3, field);
    lua_pop(L, 2);
}

void host_add_script_dir(lua_State *L, const char *script) {
    char real[PATH_MAX];
    if (realpath(script, real) == NULL) {
        return;
    }
    *strrchr(real, '/') = '\0';
    lua_getglobal(L, LUA_LOADLIBNAME);
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", real, real, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

/* Notes the directory above the executable's: the root of a build tree or of an installation. */
static void set_prefix(lua_State *L) {
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(path, '/');
        if (slash != NULL) {
            *slash = '\0';
        }
    }
    lua_pushstring(L, path);
    lua_setfield(L, LUA_REGISTRYINDEX, PREFIX_KEY);
}

static bool has_reader_left(void) {
    struct pollfd out = {STDOUT_FILENO, POLLOUT, 0};
    return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

/* Lua's print does not look whether it succeeded: a full disk must not end in success. */
int host_finish_output(int code) {
    int reason = errno; /* of a write that failed before, as far as it is still known */
    if (fflush(stdout) != 0) {
        reason = errno;
    } else if (!ferror(stdout)) {
        return code;
    }
    if (reason == 0 && !has_reader_left()) {
        fputs("error: cannot write to standard output\n", stderr);
    } else if (reason != 0 && reason != EPIPE) {
        fprintf(stderr, "error: cannot write to standard output: %s\n", strerror(reason));
    }
    return code != 0 ? code : EXIT_FAILURE;
}

/* os.exit as Lua's, but it does not end in success either where output is lost. */
static int l_exit(lua_State *L) {
    int code =
        lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
    if (lua_toboolean(L, 2)) {
        lua_close(L);
    }
    exit(host_finish_output(code));
}

static void replace_exit(lua_State *L) {
    lua_getglobal(L, LUA_OSLIBNAME);
    lua_pushcfunction(L, l_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
}

void host_open(lua_State *L) {
    luaL_openlibs(L);
    replace_exit(L);
    set_prefix(L);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, PLUGIN_DIRS_KEY);
    drop_relative_paths(L, "path");
    drop_relative_paths(L, "cpath");
    add_searcher(L);
    luaL_requiref(L, "moonflow._task", luaopen_moonflow__task, 0);
    luaL_requiref(L, "moonflow.error", luaopen_moonflow_error, 0);
    lua_pop(L, 2);
    task_catch_interrupts(L);
}

void host_add_plugin_dir(lua_State *L, const char *path) {
    lua_getfield(L, LUA_REGISTRYINDEX, PLUGIN_DIRS_KEY);
    lua_pushstring(L, path);
    lua_seti(L, -2, luaL_len(L, -2) + 1);
    lua_pop(L, 1);
}

/* Pushes a function of a loaded module. [-0, +1, e] */
static void push_function(lua_State *L, const char *module, const char *name) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, module);
    lua_getfield(L, -1, name);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* Reports the error value and its traceback, on top of the stack. [-2, +0, e] */
static int report(lua_State *L) {
    push_function(L, "moonflow.error", "format");
    lua_pushvalue(L, -3);
    lua_pushvalue(L, -3);
    lua_call(L, 2, 1);
    fflush(stdout);
    lua_writestringerror("%s\n", lua_tostring(L, -1));
    push_function(L, "moonflow.error", "exit_code");
    lua_pushvalue(L, -4);
    lua_call(L, 1, 1);
    int code = (int)lua_tointeger(L, -1);
    lua_pop(L, 4);
    return code;
}

int host_report(lua_State *L) {
    lua_pushnil(L);
    return report(L);
}

/* Calls a function that returns true, or false, an error value and a traceback. Reports the error.
 * [-(arguments + 1), +0, e] */
static int call_and_report(lua_State *L, int arguments) {
    int base = lua_gettop(L) - arguments - 1;
    lua_call(L, arguments, LUA_MULTRET);
    int code = 0;
    if (!lua_toboolean(L, base + 1)) {
        lua_settop(L, base + 3);
        code = report(L);
    }
    lua_settop(L, base);
    return code;
}

/* Runs a session at the terminal, with the options on top of the stack. [-1, +0, e] */
static void run_repl(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moonflow.repl");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "run");
    lua_pushvalue(L, -3);
    lua_call(L, 1, 0);
    lua_pop(L, 2);
}

/* The command `repl` runs as a task, as all commands do; the session that it asks for can not. */
static void run_requested_repl(lua_State *L) {
    int base = lua_gettop(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, -1, "moonflow.repl");
    if (lua_istable(L, -1) && lua_getfield(L, -1, "requested") == LUA_TTABLE) {
        run_repl(L);
    }
    lua_settop(L, base);
}

int host_run(lua_State *L, int argc, char **argv) {
    enum { INTERRUPTED = 130 };
    push_function(L, "moonflow._task", "run");
    lua_insert(L, -2);
    luaL_checkstack(L, argc, "too many arguments");
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
    }
    int code = call_and_report(L, argc + 1);
    if (code == 0) {
        push_function(L, "moonflow._task", "drain");
        code = call_and_report(L, 0);
    }
    if (code == 0) {
        run_requested_repl(L);
    }
    push_function(L, "moonflow._task", "close");
    lua_call(L, 0, 0);
    push_function(L, "moonflow._task", "acknowledge");
    lua_call(L, 0, 1);
    bool interrupted = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return interrupted ? INTERRUPTED : code;
}

int host_repl(lua_State *L) {
    lua_newtable(L);
    run_repl(L);
    return 0;
}
