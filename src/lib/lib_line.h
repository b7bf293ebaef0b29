/* The inside of moonflow._line, shared by lib_line.c (the editor) and lib_line_file.c (the file of
 * its history). */
#ifndef MOONFLOW_LIB_LIB_LINE_H
#define MOONFLOW_LIB_LIB_LINE_H

#include <lua.h>

/* append(path, line [, max]): adds a line to a file that only its owner may read. */
int line_append(lua_State *L);

/* trim(path, max): keeps the last so many bytes of such a file, whole lines. */
int line_trim(lua_State *L);

#endif
