/* moonflow.error: the one kind of error object (DESIGN section 5). C modules make theirs from a
 * struct error, Lua modules from a table of fields; both end up here. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/modules.h"

bool lib_is_error(lua_State *L, int index) {
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index)) {
        return false;
    }
    luaL_getmetatable(L, LIB_ERROR);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* The string field of the table at `index`, or NULL; it lives as long as the table keeps it. */
static const char *string_field(lua_State *L, int index, const char *name) {
    const char *value = NULL;
    if (lua_getfield(L, index, name) == LUA_TSTRING) {
        value = lua_tostring(L, -1);
    }
    lua_pop(L, 1);
    return value;
}

/* Adds text whose lines after the first stand under the first one's column. */
static void add_indented(luaL_Buffer *b, const char *text, size_t len) {
    while (len > 0 && text[len - 1] == '\n') {
        len--;
    }
    for (const char *end = text + len; text < end;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline != NULL ? newline : end;
        luaL_addlstring(b, text, (size_t)(line_end - text));
        if (newline != NULL) {
            luaL_addstring(b, "\n       ");
            line_end++;
        }
        text = line_end;
    }
}

/* Pushes what a person reads: the place and the first line of the message, the rest of the message
 * as the reason, the hint as what to try. [-0, +1, e] */
static void push_text(lua_State *L, int index) {
    const char *where = string_field(L, index, "where");
    const char *message = string_field(L, index, "message");
    const char *hint = string_field(L, index, "hint");
    message = message != NULL ? message : "(no message)";
    const char *newline = strchr(message, '\n');
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    if (where != NULL) {
        luaL_addstring(&b, where);
        luaL_addstring(&b, ": ");
    }
    luaL_addlstring(&b, message, newline != NULL ? (size_t)(newline - message) : strlen(message));
    if (newline != NULL) {
        luaL_addstring(&b, "\n  why: ");
        add_indented(&b, newline + 1, strlen(newline + 1));
    }
    if (hint != NULL) {
        luaL_addstring(&b, "\n  try: ");
        add_indented(&b, hint, strlen(hint));
    }
    luaL_pushresult(&b);
}

static int m_tostring(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    push_text(L, 1);
    return 1;
}

/* Sets the metatable of error objects on the table on top of the stack. [-0, +0, m] */
static void set_metatable(lua_State *L) {
    if (luaL_newmetatable(L, LIB_ERROR)) {
        lua_pushcfunction(L, m_tostring);
        lua_setfield(L, -2, "__tostring");
    }
    lua_setmetatable(L, -2);
}

/* Whether a frame is moonflow's own: a C function, a module compiled in, or one run from disk. */
static bool is_own(const lua_Debug *ar) {
    return *ar->what == 'C' || strncmp(ar->source, "=moonflow/", 10) == 0 ||
           strstr(ar->source, "lua/moonflow/") != NULL;
}

/* Pushes "file:line" of the first frame of the user's code, or nil. [-0, +1, m] */
static void push_where(lua_State *L) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (!is_own(&ar) && ar.currentline > 0) {
            lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushnil(L);
}

void lib_push_error(lua_State *L, const struct error *err) {
    lua_createtable(L, 0, 6);
    lua_pushstring(L, error_kind_name(err->kind));
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, err->code);
    lua_setfield(L, -2, "error_code");
    lua_pushstring(L, err->message);
    lua_setfield(L, -2, "message");
    if (err->hint[0] != '\0') {
        lua_pushstring(L, err->hint);
        lua_setfield(L, -2, "hint");
    }
    if (err->phase != NULL) {
        lua_pushstring(L, err->phase);
        lua_setfield(L, -2, "phase");
    }
    if (err->sent) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "request_sent");
    }
    set_metatable(L);
}

int lib_fail(lua_State *L, const struct error *err) {
    lua_pushnil(L);
    lib_push_error(L, err);
    return 2;
}

/* Raises the error object on top of the stack from the user's code. */
static int raise_top(lua_State *L) {
    if (string_field(L, -1, "where") == NULL) {
        push_where(L);
        lua_setfield(L, -2, "where");
    }
    return lua_error(L);
}

int lib_raise(lua_State *L, const struct error *err) {
    lib_push_error(L, err);
    return raise_top(L);
}

int lib_misuse(lua_State *L, const char *format, ...) {
    struct error err;
    char message[ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    error_set(&err, ERROR_USAGE, NULL, "%s", message);
    return lib_raise(L, &err);
}

/* The kind that the error object at `index` says it is of. */
static enum error_kind check_kind(lua_State *L, int index) {
    enum error_kind kind = ERROR_USAGE;
    const char *name = string_field(L, index, "kind");
    if (name == NULL || !error_kind_from_name(name, &kind)) {
        lib_misuse(L, "an error's kind can not be \"%s\"", name != NULL ? name : "(none)");
    }
    return kind;
}

static int status_field(lua_State *L, int index) {
    lua_getfield(L, index, "http_status");
    int status = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return status;
}

/* Makes the table at stack index 1 an error object and leaves it alone on the stack. */
static void make_error(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lib_is_error(L, 1)) {
        return;
    }
    struct error usual;
    error_set(&usual, check_kind(L, 1), NULL, "%s", "");
    if (string_field(L, 1, "error_code") == NULL) {
        int status = status_field(L, 1);
        lua_pushstring(L, status != 0 ? error_code_from_status(status) : usual.code);
        lua_setfield(L, 1, "error_code");
    }
    set_metatable(L);
}

/*** Makes an error object of a table of fields (the same table is returned).
 * @param fields kind (closed set) and message are required; error_code follows from http_status or
 * kind where it is missing
 * @return the error object */
static int l_new(lua_State *L) {
    make_error(L);
    return 1;
}

/*** Raises an error object, or the one made of these fields, as an error of the user's code. */
static int l_raise(lua_State *L) {
    make_error(L);
    return raise_top(L);
}

/*** Whether a value is an error object. */
static int l_is(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, lib_is_error(L, 1));
    return 1;
}

/*** "file:line" of the first frame of the user's code, or nil. */
static int l_where(lua_State *L) {
    push_where(L);
    return 1;
}

/*** The error code that MLflow chooses from an HTTP status. */
static int l_code_from_status(lua_State *L) {
    lua_pushstring(L, error_code_from_status((int)luaL_checkinteger(L, 1)));
    return 1;
}

/*** The HTTP status that MLflow maps an error code to. */
static int l_status_from_code(lua_State *L) {
    lua_pushinteger(L, error_status_from_code(luaL_checkstring(L, 1)));
    return 1;
}

/*** The exit code of the program where this value is raised and nothing catches it. */
static int l_exit_code(lua_State *L) {
    luaL_checkany(L, 1);
    int code = 1;
    enum error_kind kind;
    const char *name = lib_is_error(L, 1) ? string_field(L, 1, "kind") : NULL;
    if (name != NULL && error_kind_from_name(name, &kind)) {
        code = error_exit_code(kind, status_field(L, 1));
    }
    lua_pushinteger(L, code);
    return 1;
}

/* Adds the lines of a traceback that are the user's. */
static void add_frames(luaL_Buffer *b, const char *traceback) {
    const char *label = "\n  at:  ";
    for (const char *line = strchr(traceback, '\n'); line != NULL;) {
        line += strspn(line, "\n\t");
        const char *end = strchr(line, '\n');
        size_t len = end != NULL ? (size_t)(end - line) : strlen(line);
        if (strncmp(line, "[C]", 3) != 0 && strncmp(line, "moonflow/", 9) != 0 &&
            strncmp(line, "(...tail", 8) != 0) {
            luaL_addstring(b, label);
            luaL_addlstring(b, line, len);
            label = "\n       ";
        }
        line = end;
    }
}

static int to_text(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* Pushes the value at `index` as text, whatever its own __tostring does. [-0, +1, m] */
static const char *push_shown(lua_State *L, int index) {
    lua_pushcfunction(L, to_text);
    lua_pushvalue(L, index);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        const char *why = lua_tostring(L, -1);
        lua_pushfstring(L, "a %s that can not be shown: %s", luaL_typename(L, index),
                        why != NULL ? why : "its __tostring fails");
        lua_remove(L, -2);
    }
    return lua_tostring(L, -1);
}

/*** The text of an uncaught error, for people: "error: ...", then why, what to try, and where.
 * @param value what was raised
 * @param traceback of the failed task, or nil: told for values that are no error objects */
static int l_format(lua_State *L) {
    luaL_checkany(L, 1);
    const char *traceback = luaL_optstring(L, 2, NULL);
    bool is_error = lib_is_error(L, 1);
    const char *text = push_shown(L, 1);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "error: ");
    luaL_addstring(&b, text);
    if (!is_error && traceback != NULL) {
        add_frames(&b, traceback);
    }
    luaL_pushresult(&b);
    return 1;
}

static const luaL_Reg functions[] = {
    {"new", l_new},
    {"raise", l_raise},
    {"is", l_is},
    {"where", l_where},
    {"code_from_status", l_code_from_status},
    {"status_from_code", l_status_from_code},
    {"exit_code", l_exit_code},
    {"format", l_format},
    {NULL, NULL},
};

int luaopen_moonflow_error(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
