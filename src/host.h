/* The host: moonflow's modules and search paths in a Lua state, and what runs in it. */
#ifndef MOONFLOW_HOST_H
#define MOONFLOW_HOST_H

#include <lua.h>

/* Opens Lua's and moonflow's libraries. Expects a new state. [-0, +0, e] */
void host_open(lua_State *L);

/* Adds a directory that --plugin-dir names. [-0, +0, m] */
void host_add_plugin_dir(lua_State *L, const char *path);

/* Runs the function on top of the stack as the main task with the arguments argv[0..argc-1], then
 * all tasks it left; reports an error on stderr. Returns the exit code. [-1, +0, e] */
int host_run(lua_State *L, int argc, char **argv);

/* Lets require find modules beside a script. [-0, +0, m] */
void host_add_script_dir(lua_State *L, const char *script);

/* Reports the error value on top of the stack on stderr. Returns the exit code. [-1, +0, e] */
int host_report(lua_State *L);

/* The read-eval-print loop. Returns the exit code. [-0, +0, e] */
int host_repl(lua_State *L);

/* The exit code of a program that would end with `code`: another where its output was lost. */
int host_finish_output(int code);

#endif
