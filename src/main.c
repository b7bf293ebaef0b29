/* The program: reads the command line, makes a Lua state, runs one thing in it protected, and ends
 * with its exit code. */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "host.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct command {
    int argc;
    char **argv;
    int exit_code;
};

static int fail_usage(const char *format, const char *word) {
    fputs("error: ", stderr);
    fprintf(stderr, format, word);
    fputs("\n  try: moonflow --help\n", stderr);
    return EXIT_USAGE;
}

/* Sets the global `arg` as lua does: the script at 0, its arguments from 1, the rest below. */
static void set_arg(lua_State *L, char **argv, int argc, int script) {
    lua_createtable(L, argc, script + 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

static int run_loaded(lua_State *L, int load_status, struct command *c, int script) {
    if (load_status != LUA_OK) {
        return host_report(L);
    }
    set_arg(L, c->argv, c->argc, script);
    return host_run(L, c->argc - script - 1, c->argv + script + 1);
}

static int run_script(lua_State *L, struct command *c, int script) {
    const char *file = c->argv[script];
    if (strcmp(file, "-") == 0) {
        return run_loaded(L, luaL_loadfilex(L, NULL, "t"), c, script);
    }
    host_add_script_dir(L, file);
    return run_loaded(L, luaL_loadfilex(L, file, "t"), c, script);
}

/* Pushes a function of a Lua module, or what went wrong. [-0, +1, -] */
static int push_function(lua_State *L, const char *module, const char *name) {
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    int status = lua_pcall(L, 1, 1, 0);
    if (status == LUA_OK) {
        lua_getfield(L, -1, name);
        lua_remove(L, -2);
    }
    return status;
}

/* Runs a command that is a function of a Lua module, with the words behind the one at `word`. */
static int run_module(lua_State *L, struct command *c, const char *module, const char *name,
                      int word) {
    int status = push_function(L, module, name);
    return run_loaded(L, status, c, word);
}

/* Has the Lua half take the options in front of a script, -e or -p that are not known here. `place`
 * becomes the place of that word, or 0 where the words are a command of the Lua half. */
static int take_options(lua_State *L, struct command *c, int *place) {
    int status = push_function(L, "moonflow.cli", "lead");
    if (status == LUA_OK) {
        luaL_checkstack(L, c->argc, "too many arguments");
        for (int i = 1; i < c->argc; i++) {
            lua_pushstring(L, c->argv[i]);
        }
        status = lua_pcall(L, c->argc - 1, 1, 0);
    }
    if (status != LUA_OK) {
        return host_report(L);
    }
    *place = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return 0;
}

static int run_code(lua_State *L, struct command *c, int code) {
    const char *text = c->argv[code];
    int status = luaL_loadbufferx(L, text, strlen(text), "=(command line)", "t");
    return run_loaded(L, status, c, code);
}

static int run_without_words(lua_State *L, struct command *c) {
    if (isatty(STDIN_FILENO)) {
        set_arg(L, c->argv, c->argc, 0);
        return host_repl(L);
    }
    return run_loaded(L, luaL_loadfilex(L, NULL, "t"), c, c->argc - 1);
}

static bool is_script(const char *word) {
    size_t len = strlen(word);
    return strchr(word, '/') != NULL || strcmp(word, "-") == 0 ||
           (len > 4 && strcmp(word + len - 4, ".lua") == 0);
}

/* Runs what the first word that is no option says. */
static int run_word(lua_State *L, struct command *c, int i) {
    if (strcmp(c->argv[i], "run") == 0) {
        return i + 1 < c->argc ? run_script(L, c, i + 1)
                               : fail_usage("\"%s\" needs a script", "run");
    }
    if (strcmp(c->argv[i], "serve") == 0) {
        return run_module(L, c, "moonflow.serve", "main", i);
    }
    if (is_script(c->argv[i])) {
        return run_script(L, c, i);
    }
    return run_module(L, c, "moonflow.cli", "main", 0);
}

static int run_command(lua_State *L, struct command *c) {
    int i = 1;
    for (; i < c->argc && c->argv[i][0] == '-' && c->argv[i][1] != '\0'; i++) {
        const char *option = c->argv[i];
        bool has_value = i + 1 < c->argc;
        if (strcmp(option, "--version") == 0) {
            printf("moonflow %s (%s)\n", MOONFLOW_VERSION, LUA_RELEASE);
            return 0;
        }
        if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
            return run_module(L, c, "moonflow.cli", "help", i);
        }
        if (strncmp(option, "--plugin-dir=", 13) == 0) {
            host_add_plugin_dir(L, option + 13);
            continue;
        }
        bool is_code = strcmp(option, "-e") == 0 || strcmp(option, "-p") == 0;
        if (!is_code && strcmp(option, "--plugin-dir") != 0) {
            int place = 0;
            int code = take_options(L, c, &place);
            if (code != 0 || place == 0) {
                return code != 0 ? code : run_module(L, c, "moonflow.cli", "main", 0);
            }
            i = place - 1;
            continue;
        }
        if (!has_value) {
            return fail_usage("option \"%s\" needs a value", option);
        }
        if (is_code) {
            return option[1] == 'e' ? run_code(L, c, i + 1)
                                    : run_module(L, c, "moonflow.cli", "evaluate", i);
        }
        host_add_plugin_dir(L, c->argv[++i]);
    }
    if (i == c->argc) {
        return run_without_words(L, c);
    }
    return run_word(L, c, i);
}

/* What runs protected: the light userdata at 1 is the command. */
static int protected_main(lua_State *L) {
    struct command *c = lua_touserdata(L, 1);
    host_open(L);
    c->exit_code = run_command(L, c);
    return 0;
}

/* Descriptors 0 to 2 that were closed at the start would go to a socket or file opened later, and
 * what is printed with them. */
static void fill_standard_descriptors(void) {
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) {
        close(fd);
    }
}

/* A peer that closes its end is an error of the write, not the end of the program. A handler, as
 * SIG_IGN would be inherited by programs that a script starts. */
static void survive(int signal_number) {
    (void)signal_number;
}

int main(int argc, char **argv) {
    struct command c = {argc, argv, EXIT_FAILED};
    fill_standard_descriptors();
    signal(SIGPIPE, survive);
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fputs("error: not enough memory\n", stderr);
        return EXIT_FAILED;
    }
    lua_pushcfunction(L, protected_main);
    lua_pushlightuserdata(L, &c);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
        fprintf(stderr, "error: %s\n", luaL_tolstring(L, -1, NULL));
    }
    lua_close(L);
    return host_finish_output(c.exit_code);
}
