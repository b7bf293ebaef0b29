/* The inside of the line editor, shared by lib_line.c (reading), lib_line_keys.c (what keys do) and
 * lib_line_screen.c (what is shown where). */
#ifndef MOONFLOW_LIB_LIB_LINE_EDITOR_H
#define MOONFLOW_LIB_LIB_LINE_EDITOR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <wchar.h>

#include <histedit.h>

#include "lib/lib.h"
#include "lib/task_api.h"

#define LINE_ESCAPE '\1' /* round the colours in a prompt */

enum {
    LINE_ACCEPT = 1,   /* user value of an editor: function(text) -> whether Enter runs it */
    LINE_COMPLETE = 2, /* function(text, bytes before the cursor) -> delete, insert, list */
    LINE_VALUES = 2,
    LINE_PROMPT_MAX = 200 /* bytes, colours and all */
};

struct line_editor {
    const struct task_api *api;
    struct source source;
    struct waiter waiter;
    EditLine *el;
    History *history;
    FILE *out;     /* the terminal: standard output is not while a line is read */
    int printed;   /* what standard output is then: a file in memory, or -1 */
    lua_State *L;  /* who reads a line now, or NULL */
    bool waiting;  /* for a key */
    bool is_ended; /* an interrupt or another error has ended the reading */
    char prompt[LINE_PROMPT_MAX];
};

/* Binds the keys of an editor. */
void line_bind_keys(EditLine *el);

/* The next character, for at most so many milliseconds (-1: without end), while tasks run. 1, or 0
 * at the end of input or an interrupt, or where the time is over. */
int line_next_char(struct line_editor *e, wchar_t *c, int64_t milliseconds);

/* Calls a function of the editor's user values with the text of the line; its results, at most
 * `results`, are on the stack of the state that this returns. NULL where it fails. The caller takes
 * them off with lua_settop(L, *base). */
lua_State *line_call(struct line_editor *e, int value, int results, int *base);

/* Where the line's text is shown: the rows above the cursor, and those of the whole. */
void line_rows(struct line_editor *e, int *above_cursor, int *all);

/* The columns of the terminal. */
int line_width(void);

/* Takes the line off the screen; EL_REFRESH draws it again. */
void line_hide(struct line_editor *e);

/* Keeps what is printed while a line is read: standard output, which print flushes, in a file, and
 * standard error in its buffer, so that a crash is still told. */
void line_hold_printed(struct line_editor *e);

/* Shows what tasks have printed above the line, whole lines of it. */
void line_show_printed(struct line_editor *e);

/* Shows the rest, and gives the streams back. */
void line_release_printed(struct line_editor *e);

/* Writes to the terminal, past the editor. */
void line_write(struct line_editor *e, const char *text, size_t len);

#endif
