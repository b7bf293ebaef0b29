/* Lua values to JSON text (lib_json.h says what becomes what). Writes UTF-8 as it is and escapes
 * only what JSON forbids in a string. What has no JSON form is refused, never guessed: the error
 * names the place, as Lua would: array elements count from 1. */
#include "lib/lib_json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "lib/lib.h"
#include "lib/lib_json_text.h"

enum {
    STACK_STEP = 12, /* slots that one level of the recursion needs */
    PATH_SIZE = 256  /* bytes of a place in an error message */
};

#define MIXED_KEYS "a table with both names and numbers as keys"

/* The way to a value: one step for each table that it is in, on the C stack. */
struct step {
    const struct step *up;
    const char *key; /* NULL in an array */
    size_t key_len;
    lua_Integer element;
};

struct encoder {
    lua_State *L;
    struct buf *out;
    struct error *err;
    const void *array_metatable;
    bool sorted;
    int depth;
};

static bool encode_value(struct encoder *e, const struct step *at);

/* Errors */

struct path {
    size_t len;
    bool cut;
    char text[PATH_SIZE];
};

static void add(struct path *path, const char *text, size_t len) {
    path->cut = path->cut || len > sizeof(path->text) - path->len;
    if (!path->cut) {
        memcpy(path->text + path->len, text, len);
        path->len += len;
    }
}

static bool is_name(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9')) {
            return false;
        }
    }
    return len > 0;
}

/* Adds ".key", "["odd key"]" or "[3]" for each step, the outermost first. */
static void add_steps(struct path *path, const struct step *at) {
    if (at == NULL) {
        add(path, "$", 1);
        return;
    }
    add_steps(path, at->up);
    if (at->key == NULL) {
        char element[32];
        int len = snprintf(element, sizeof(element), "[%lld]", (long long)at->element);
        add(path, element, (size_t)len);
    } else if (is_name(at->key, at->key_len)) {
        add(path, ".", 1);
        add(path, at->key, at->key_len);
    } else {
        add(path, "[\"", 2);
        for (size_t i = 0; i < at->key_len; i++) {
            bool shown = at->key[i] >= 0x20 && at->key[i] < 0x7F;
            add(path, shown ? &at->key[i] : "?", 1);
        }
        add(path, "\"]", 2);
    }
}

__attribute__((format(printf, 3, 4))) static bool refuse(struct encoder *e, const struct step *at,
                                                         const char *format, ...) {
    char why[128];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    struct path path = {0};
    add_steps(&path, at);
    return error_set(e->err, ERROR_USAGE, NULL, "%.*s%s: %s", (int)path.len, path.text,
                     path.cut ? "..." : "", why);
}

/* Output */

/* Most of what is written is a few bytes, so the usual case is inline. */
static inline bool put(struct encoder *e, const char *bytes, size_t len) {
    struct buf *out = e->out;
    if (out->cap - out->len <= len && !buf_reserve(out, len)) {
        return error_set(e->err, ERROR_USAGE, NULL,
                         "the JSON passes the limit of %zu bytes, or memory ran out", out->max);
    }
    memcpy(out->data + out->len, bytes, len);
    out->len += len;
    out->data[out->len] = '\0';
    return true;
}

static bool put_escaped(struct encoder *e, char c) {
    static const char HEX[] = "0123456789abcdef";
    static const char LETTERS[] = "\"\\\b\f\n\r\t";
    static const char MEANINGS[] = "\"\\bfnrt";
    const char *letter = memchr(LETTERS, c, sizeof(LETTERS) - 1);
    if (letter != NULL) {
        return put(e, (char[]){'\\', MEANINGS[letter - LETTERS]}, 2);
    }
    return put(e, (char[]){'\\', 'u', '0', '0', HEX[c >> 4], HEX[c & 15]}, 6);
}

/* `what` is "string" or "key", for the error. */
static bool put_string(struct encoder *e, const struct step *at, const char *what, const char *text,
                       size_t len) {
    const char *run = text;
    const char *end = text + len;
    if (!put(e, "\"", 1)) {
        return false;
    }
    for (;;) {
        const char *stop = json_plain(run, end);
        if (!put(e, run, (size_t)(stop - run))) {
            return false;
        }
        if (stop == end) {
            return put(e, "\"", 1);
        }
        if ((unsigned char)*stop >= 0x80) {
            return refuse(e, at, "a %s that is not valid UTF-8 at its byte %zu", what,
                          (size_t)(stop - text) + 1);
        }
        if (!put_escaped(e, *stop)) {
            return false;
        }
        run = stop + 1;
    }
}

static bool put_number(struct encoder *e, const struct step *at) {
    char text[JSON_NUMBER_SIZE];
    if (lua_isinteger(e->L, -1)) {
        return put(e, text, json_write_integer(text, lua_tointeger(e->L, -1)));
    }
    double value = lua_tonumber(e->L, -1);
    if (!isfinite(value)) {
        return refuse(e, at, "%s has no JSON form", isnan(value) ? "NaN" : "infinity");
    }
    return put(e, text, json_write_double(text, value));
}

/* Tables: each function has the table at index `table` and the first key and value above it. */

/* Counts the elements of a table whose keys do not come in the order 1, 2, 3... */
static bool count_elements(struct encoder *e, const struct step *at, int table,
                           lua_Integer *count) {
    lua_Integer last = 0;
    *count = 0;
    lua_pushnil(e->L);
    while (lua_next(e->L, table)) {
        lua_pop(e->L, 1);
        lua_Integer key = lua_isinteger(e->L, -1) ? lua_tointeger(e->L, -1) : 0;
        if (lua_type(e->L, -1) == LUA_TSTRING) {
            return refuse(e, at, MIXED_KEYS);
        }
        if (key < 1) {
            return refuse(e, at, "an array with a key that is not one of 1, 2, 3...");
        }
        last = key > last ? key : last;
        ++*count;
    }
    return last == *count || refuse(e, at, "an array with holes: %lld elements, the last is [%lld]",
                                    (long long)*count, (long long)last);
}

static bool put_element(struct encoder *e, struct step *here) {
    here->element++;
    return (here->element == 1 || put(e, ",", 1)) && encode_value(e, here);
}

/* The usual table yields its elements in their order, so one pass checks and writes. */
static bool encode_array(struct encoder *e, const struct step *at, int table) {
    lua_State *L = e->L;
    struct step here = {.up = at};
    if (!put(e, "[", 1)) {
        return false;
    }
    bool more = true;
    while (more && lua_isinteger(L, -2) && lua_tointeger(L, -2) == here.element + 1) {
        if (!put_element(e, &here)) {
            return false;
        }
        lua_pop(L, 1);
        more = lua_next(L, table);
    }
    if (more) {
        lua_Integer count;
        lua_pop(L, 2);
        if (!count_elements(e, at, table, &count)) {
            return false;
        }
        while (here.element < count) {
            lua_rawgeti(L, table, here.element + 1);
            if (!put_element(e, &here)) {
                return false;
            }
            lua_pop(L, 1);
        }
    }
    return put(e, "]", 1);
}

static bool check_key(struct encoder *e, const struct step *at, int index) {
    if (lua_type(e->L, index) == LUA_TSTRING) {
        return true;
    }
    if (lua_isinteger(e->L, index)) {
        return refuse(e, at, MIXED_KEYS);
    }
    return refuse(e, at, "a key that is a %s: an object's keys are strings",
                  luaL_typename(e->L, index));
}

/* The value is on top of the stack. */
static bool put_field(struct encoder *e, const struct step *here, bool first) {
    return (first || put(e, ",", 1)) && put_string(e, here->up, "key", here->key, here->key_len) &&
           put(e, ":", 1) && encode_value(e, here);
}

static bool encode_object(struct encoder *e, const struct step *at, int table) {
    struct step here = {.up = at};
    if (!put(e, "{", 1)) {
        return false;
    }
    bool first = true;
    do {
        if (!check_key(e, at, -2)) {
            return false;
        }
        here.key = lua_tolstring(e->L, -2, &here.key_len);
        if (!put_field(e, &here, first)) {
            return false;
        }
        lua_pop(e->L, 1);
        first = false;
    } while (lua_next(e->L, table));
    return put(e, "}", 1);
}

struct key {
    const char *text; /* owned by the table */
    size_t len;
};

static int compare_keys(const void *left, const void *right) {
    const struct key *a = left;
    const struct key *b = right;
    int order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

static bool encode_object_sorted(struct encoder *e, const struct step *at, int table) {
    lua_State *L = e->L;
    size_t count = 0;
    do {
        if (!check_key(e, at, -2)) {
            return false;
        }
        lua_pop(L, 1);
        count++;
    } while (lua_next(L, table));
    struct key *keys = lua_newuserdatauv(L, count * sizeof(*keys), 0);
    lua_pushnil(L);
    for (size_t i = 0; lua_next(L, table); i++) {
        lua_pop(L, 1);
        keys[i].text = lua_tolstring(L, -1, &keys[i].len);
    }
    qsort(keys, count, sizeof(*keys), compare_keys);
    if (!put(e, "{", 1)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct step here = {.up = at, .key = keys[i].text, .key_len = keys[i].len};
        lua_pushlstring(L, here.key, here.key_len);
        lua_rawget(L, table);
        if (!put_field(e, &here, i == 0)) {
            return false;
        }
        lua_pop(L, 1);
    }
    return put(e, "}", 1);
}

static bool is_marked(struct encoder *e) {
    bool marked = false;
    if (lua_getmetatable(e->L, -1)) {
        marked = lua_topointer(e->L, -1) == e->array_metatable;
        lua_pop(e->L, 1);
    }
    return marked;
}

static bool encode_table(struct encoder *e, const struct step *at) {
    lua_State *L = e->L;
    if (e->depth == JSON_DEPTH_MAX) {
        return refuse(e, at, "nested deeper than %d levels, or a table that contains itself",
                      JSON_DEPTH_MAX);
    }
    luaL_checkstack(L, STACK_STEP, "JSON");
    int table = lua_gettop(L);
    bool marked = is_marked(e);
    e->depth++;
    bool done;
    lua_pushnil(L);
    if (!lua_next(L, table)) {
        done = put(e, marked ? "[]" : "{}", 2);
    } else if (marked || lua_isinteger(L, -2)) {
        done = encode_array(e, at, table);
    } else if (e->sorted) {
        done = encode_object_sorted(e, at, table);
    } else {
        done = encode_object(e, at, table);
    }
    e->depth--;
    lua_settop(L, table);
    return done;
}

/* Any value */

static bool encode_userdata(struct encoder *e, const struct step *at) {
    const char *digits = luaL_testudata(e->L, -1, JSON_NUMBER);
    if (digits != NULL) {
        return put(e, digits, lua_rawlen(e->L, -1));
    }
    if (lib_test_secret(e->L, -1) != NULL) {
        return refuse(e, at, "a secret is not to be written");
    }
    return refuse(e, at, "a userdata has no JSON form");
}

/* Writes the value on top of the stack and leaves it there. */
static bool encode_value(struct encoder *e, const struct step *at) {
    lua_State *L = e->L;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        return put_string(e, at, "string", text, len);
    }
    case LUA_TNUMBER:
        return put_number(e, at);
    case LUA_TTABLE:
        return encode_table(e, at);
    case LUA_TBOOLEAN:
        return lua_toboolean(L, -1) ? put(e, "true", 4) : put(e, "false", 5);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL) {
            return put(e, "null", 4);
        }
        return refuse(e, at, "a light userdata that is not null has no JSON form");
    case LUA_TUSERDATA:
        return encode_userdata(e, at);
    case LUA_TNIL:
        return refuse(e, at, "nil has no JSON form; write null");
    default:
        return refuse(e, at, "a %s has no JSON form", luaL_typename(L, -1));
    }
}

static bool encode(lua_State *L, int index, struct buf *out, struct error *err, bool sorted) {
    int top = lua_gettop(L);
    luaL_checkstack(L, STACK_STEP, "JSON");
    lua_pushvalue(L, index);
    json_push_array_metatable(L);
    struct encoder e = {
        .L = L, .out = out, .err = err, .array_metatable = lua_topointer(L, -1), .sorted = sorted};
    lua_pop(L, 1);
    bool done = encode_value(&e, NULL);
    lua_settop(L, top);
    return done;
}

bool json_encode(lua_State *L, int index, struct buf *out, struct error *err) {
    return encode(L, index, out, err, false);
}

bool json_encode_sorted(lua_State *L, int index, struct buf *out, struct error *err) {
    return encode(L, index, out, err, true);
}
