/* JSON text to Lua values, in one pass and straight onto the stack (lib_json.h says what becomes
 * what). Strict: what RFC 8259 does not allow is an error that names the byte.
 *
 * The values of an array or object wait on the stack until it ends, so that its table is made once
 * and in the right size; where very many wait, they are moved into a table that grows. */
#include "lib/lib_json.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>

#include "lib/lib_json_text.h"

enum {
    WAITING_MAX = 8192, /* values on the stack, over all open arrays and objects */
    WAITING_STEP = 16,  /* so many values between two looks at the stack */
    STACK_STEP = 2 * WAITING_STEP + 8
};

struct decoder {
    lua_State *L;
    struct error *err;
    const char *text;
    const char *at;
    const char *end;
    int bottom; /* stack index of the arrays' metatable; everything above it is the decoder's */
    int depth;
};

static bool decode_value(struct decoder *d);

static bool fail(struct decoder *d, const char *at, const char *why) {
    return error_set(d->err, ERROR_DECODE, NULL, "invalid JSON at byte %zu: %s",
                     (size_t)(at - d->text) + 1, why);
}

/* Something else than `expected` stands at d->at. */
static bool unexpected(struct decoder *d, const char *expected) {
    char why[96];
    if (d->at == d->end) {
        snprintf(why, sizeof(why), "expected %s, found the end of the text", expected);
    } else if (*d->at > ' ' && *d->at < 0x7F) {
        snprintf(why, sizeof(why), "expected %s, found '%c'", expected, *d->at);
    } else {
        snprintf(why, sizeof(why), "expected %s, found byte 0x%02X", expected,
                 (unsigned)(unsigned char)*d->at);
    }
    return fail(d, d->at, why);
}

static void skip_space(struct decoder *d) {
    while (d->at < d->end &&
           (*d->at == ' ' || *d->at == '\n' || *d->at == '\r' || *d->at == '\t')) {
        d->at++;
    }
}

static bool next_is(const struct decoder *d, char c) {
    return d->at < d->end && *d->at == c;
}

static bool next_is_digit(const struct decoder *d) {
    return d->at < d->end && *d->at >= '0' && *d->at <= '9';
}

/* Strings */

/* The four hexadecimal digits of the \u at `at`, or -1. */
static int code_unit(const struct decoder *d, const char *at) {
    if (d->end - at < 6 || at[0] != '\\' || at[1] != 'u') {
        return -1;
    }
    int unit = 0;
    for (int i = 2; i < 6; i++) {
        char c = at[i];
        int digit;
        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if (c >= 'a' && c <= 'f') {
            digit = c - 'a' + 10;
        } else if (c >= 'A' && c <= 'F') {
            digit = c - 'A' + 10;
        } else {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    return unit;
}

static void add_utf8(luaL_Buffer *text, uint32_t c) {
    if (c < 0x80) {
        luaL_addchar(text, (char)c);
        return;
    }
    if (c < 0x800) {
        luaL_addchar(text, (char)(0xC0 | c >> 6));
    } else if (c < 0x10000) {
        luaL_addchar(text, (char)(0xE0 | c >> 12));
        luaL_addchar(text, (char)(0x80 | (c >> 6 & 0x3F)));
    } else {
        luaL_addchar(text, (char)(0xF0 | c >> 18));
        luaL_addchar(text, (char)(0x80 | (c >> 12 & 0x3F)));
        luaL_addchar(text, (char)(0x80 | (c >> 6 & 0x3F)));
    }
    luaL_addchar(text, (char)(0x80 | (c & 0x3F)));
}

/* Half a surrogate pair is no character and has no UTF-8, so no Lua string could stand for it. */
static bool decode_unicode(struct decoder *d, luaL_Buffer *text) {
    const char *start = d->at;
    int unit = code_unit(d, start);
    if (unit < 0) {
        return fail(d, start, "\\u needs four hexadecimal digits");
    }
    d->at += 6;
    if (unit < 0xD800 || unit > 0xDFFF) {
        add_utf8(text, (uint32_t)unit);
        return true;
    }
    int low = unit < 0xDC00 ? code_unit(d, d->at) : -1;
    if (low < 0xDC00 || low > 0xDFFF) {
        return fail(d, start, "a surrogate without its other half");
    }
    d->at += 6;
    add_utf8(text, 0x10000 + (((uint32_t)unit - 0xD800) << 10) + ((uint32_t)low - 0xDC00));
    return true;
}

static bool decode_escape(struct decoder *d, luaL_Buffer *text) {
    if (d->end - d->at < 2) {
        return fail(d, d->end, "the text ends inside a string");
    }
    char c = d->at[1];
    switch (c) {
    case '"':
    case '\\':
    case '/':
        break;
    case 'b':
        c = '\b';
        break;
    case 'f':
        c = '\f';
        break;
    case 'n':
        c = '\n';
        break;
    case 'r':
        c = '\r';
        break;
    case 't':
        c = '\t';
        break;
    case 'u':
        return decode_unicode(d, text);
    default:
        return fail(d, d->at, "an unknown escape in a string");
    }
    luaL_addchar(text, c);
    d->at += 2;
    return true;
}

/* A string whose bytes up to `stop` are plain and that goes on with something else than its closing
 * quote. Kept out of the recursion for the buffer's size. */
__attribute__((noinline)) static bool decode_long_way(struct decoder *d, const char *stop) {
    luaL_Buffer text;
    luaL_buffinit(d->L, &text);
    for (;;) {
        luaL_addlstring(&text, d->at, (size_t)(stop - d->at));
        d->at = stop;
        if (stop == d->end) {
            return fail(d, stop, "the text ends inside a string");
        }
        if (*stop == '"') {
            break;
        }
        if (*stop != '\\') {
            return fail(d, stop,
                        (unsigned char)*stop < 0x20 ? "a control character in a string"
                                                    : "a string is not valid UTF-8");
        }
        if (!decode_escape(d, &text)) {
            return false;
        }
        stop = json_plain(d->at, d->end);
    }
    d->at++;
    luaL_pushresult(&text);
    return true;
}

static bool decode_string(struct decoder *d) {
    d->at++;
    const char *stop = json_plain(d->at, d->end);
    if (stop == d->end || *stop != '"') {
        return decode_long_way(d, stop);
    }
    lua_pushlstring(d->L, d->at, (size_t)(stop - d->at));
    d->at = stop + 1;
    return true;
}

/* Numbers */

/* Steps over digits and adds them to `n`, which may wrap. */
static uint64_t add_digits(struct decoder *d, uint64_t n) {
    const char *at = d->at;
    uint64_t eight;
    while (d->end - at >= 8 && json_eight_digits(at, &eight)) {
        n = n * 100000000 + eight;
        at += 8;
    }
    for (; at < d->end && *at >= '0' && *at <= '9'; at++) {
        n = n * 10 + (uint64_t)(*at - '0');
    }
    d->at = at;
    return n;
}

/* The digits at `digits`, which have no '.' and no 'e'; d->at stands behind them. */
static void push_integer(struct decoder *d, const char *digits, uint64_t magnitude, bool negative) {
    size_t count = (size_t)(d->at - digits);
    if (negative && magnitude == 0 && count == 1) {
        lua_pushnumber(d->L, -0.0);
    } else if (count <= JSON_SCALE_DIGITS && magnitude <= (uint64_t)LUA_MAXINTEGER + negative) {
        lua_pushinteger(d->L, (lua_Integer)(negative ? 0 - magnitude : magnitude));
    } else {
        size_t len = count + negative;
        memcpy(lua_newuserdatauv(d->L, len, 0), digits - negative, len);
        json_push_number_metatable(d->L);
        lua_setmetatable(d->L, -2);
    }
}

/* What stands behind 'e', cut to a size that still says "out of range". */
static bool read_exponent(struct decoder *d, int64_t *exponent) {
    const int64_t enough = INT64_C(1000000000000);
    bool negative = next_is(d, '-');
    if (negative || next_is(d, '+')) {
        d->at++;
    }
    if (!next_is_digit(d)) {
        return unexpected(d, "a digit");
    }
    int64_t n = 0;
    for (; next_is_digit(d); d->at++) {
        n = n < enough ? n * 10 + (*d->at - '0') : n;
    }
    *exponent = negative ? -n : n;
    return true;
}

/* The rest of a number that goes on with '.' or 'e' behind its first digits. */
static bool decode_double(struct decoder *d, const char *digits, uint64_t mantissa, bool negative) {
    size_t significant = *digits == '0' ? 0 : (size_t)(d->at - digits);
    int64_t places = 0;
    int64_t exponent = 0;
    if (next_is(d, '.')) {
        d->at++;
        if (!next_is_digit(d)) {
            return unexpected(d, "a digit");
        }
        const char *first = d->at;
        while (significant == 0 && next_is(d, '0')) {
            d->at++;
        }
        const char *counted = d->at;
        mantissa = add_digits(d, mantissa);
        significant += (size_t)(d->at - counted);
        places = d->at - first;
    }
    size_t len = (size_t)(d->at - digits);
    if (next_is(d, 'e') || next_is(d, 'E')) {
        d->at++;
        if (!read_exponent(d, &exponent)) {
            return false;
        }
    }
    double value;
    if (significant > JSON_SCALE_DIGITS || !json_scale(mantissa, exponent - places, &value)) {
        value = json_read_double(digits, len, exponent);
        if (isinf(value)) {
            return fail(d, digits, "a number too large for a double");
        }
    }
    lua_pushnumber(d->L, negative ? -value : value);
    return true;
}

static bool decode_number(struct decoder *d) {
    bool negative = next_is(d, '-');
    if (negative) {
        d->at++;
    }
    if (!next_is_digit(d)) {
        return unexpected(d, "a digit");
    }
    const char *digits = d->at;
    uint64_t magnitude = add_digits(d, 0); /* not used where it may have wrapped */
    if (*digits == '0' && d->at - digits > 1) {
        return fail(d, digits, "a number with a zero before it");
    }
    if (next_is(d, '.') || next_is(d, 'e') || next_is(d, 'E')) {
        return decode_double(d, digits, magnitude, negative);
    }
    push_integer(d, digits, magnitude, negative);
    return true;
}

/* Arrays and objects */

/* Steps over the opening bracket, and leaves a nil where the table will be. */
static bool open_table(struct decoder *d) {
    if (d->depth == JSON_DEPTH_MAX) {
        char why[64];
        snprintf(why, sizeof(why), "nested deeper than %d levels", JSON_DEPTH_MAX);
        return fail(d, d->at, why);
    }
    d->depth++;
    d->at++;
    luaL_checkstack(d->L, STACK_STEP, "JSON");
    lua_pushnil(d->L);
    skip_space(d);
    return true;
}

static void close_table(struct decoder *d) {
    d->depth--;
    d->at++;
}

/* Keeps the stack from overflowing; true where the waiting values have to move into the table. */
static bool is_crowded(struct decoder *d) {
    luaL_checkstack(d->L, STACK_STEP, "JSON");
    return lua_gettop(d->L) - d->bottom > WAITING_MAX;
}

/* Moves the values above the table at index `table` to its elements behind the first `*stored`. */
static void store_elements(struct decoder *d, int table, lua_Integer *stored) {
    int waiting = lua_gettop(d->L) - table;
    if (lua_isnil(d->L, table)) {
        lua_createtable(d->L, waiting, 0);
        lua_replace(d->L, table);
    }
    for (int i = waiting; i > 0; i--) {
        lua_rawseti(d->L, table, *stored + i);
    }
    *stored += waiting;
}

static bool decode_array(struct decoder *d) {
    if (!open_table(d)) {
        return false;
    }
    lua_State *L = d->L;
    int table = lua_gettop(L);
    lua_Integer stored = 0;
    if (!next_is(d, ']')) {
        for (unsigned n = 1;; n++) {
            if (!decode_value(d)) {
                return false;
            }
            skip_space(d);
            if (next_is(d, ']')) {
                break;
            }
            if (!next_is(d, ',')) {
                return unexpected(d, "',' or ']'");
            }
            d->at++;
            skip_space(d);
            if (n % WAITING_STEP == 0 && is_crowded(d)) {
                store_elements(d, table, &stored);
            }
        }
    }
    store_elements(d, table, &stored);
    lua_pushvalue(L, d->bottom);
    lua_setmetatable(L, table);
    close_table(d);
    return true;
}

/* Moves the pairs above the table at index `table` into it, in their order: the last one counts. */
static void store_fields(struct decoder *d, int table) {
    int top = lua_gettop(d->L);
    if (lua_isnil(d->L, table)) {
        lua_createtable(d->L, 0, (top - table) / 2);
        lua_replace(d->L, table);
    }
    for (int i = table + 1; i < top; i += 2) {
        lua_pushvalue(d->L, i);
        lua_pushvalue(d->L, i + 1);
        lua_rawset(d->L, table);
    }
    lua_settop(d->L, table);
}

static bool decode_object(struct decoder *d) {
    if (!open_table(d)) {
        return false;
    }
    int table = lua_gettop(d->L);
    if (!next_is(d, '}')) {
        for (unsigned n = 1;; n++) {
            if (!next_is(d, '"')) {
                return unexpected(d, "a key in quotes");
            }
            if (!decode_string(d)) {
                return false;
            }
            skip_space(d);
            if (!next_is(d, ':')) {
                return unexpected(d, "':'");
            }
            d->at++;
            skip_space(d);
            if (!decode_value(d)) {
                return false;
            }
            skip_space(d);
            if (next_is(d, '}')) {
                break;
            }
            if (!next_is(d, ',')) {
                return unexpected(d, "',' or '}'");
            }
            d->at++;
            skip_space(d);
            if (n % WAITING_STEP == 0 && is_crowded(d)) {
                store_fields(d, table);
            }
        }
    }
    store_fields(d, table);
    close_table(d);
    return true;
}

/* Any value, and the text around it */

static bool skip_word(struct decoder *d, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(d->end - d->at) < len || memcmp(d->at, word, len) != 0) {
        return unexpected(d, "a value");
    }
    d->at += len;
    return true;
}

/* Pushes the value that starts at d->at and steps behind it. On failure, whatever was pushed stays
 * until json_decode clears the stack. */
static bool decode_value(struct decoder *d) {
    if (d->at == d->end) {
        return unexpected(d, "a value");
    }
    switch (*d->at) {
    case '"':
        return decode_string(d);
    case '{':
        return decode_object(d);
    case '[':
        return decode_array(d);
    case 't':
        lua_pushboolean(d->L, true);
        return skip_word(d, "true");
    case 'f':
        lua_pushboolean(d->L, false);
        return skip_word(d, "false");
    case 'n':
        lua_pushlightuserdata(d->L, NULL);
        return skip_word(d, "null");
    default:
        if (*d->at == '-' || next_is_digit(d)) {
            return decode_number(d);
        }
        return unexpected(d, "a value");
    }
}

static bool decode_text(struct decoder *d) {
    size_t len = (size_t)(d->end - d->text);
    if (len > JSON_DECODE_MAX) {
        return error_set(d->err, ERROR_DECODE, NULL, "JSON of %zu bytes: the limit is %d", len,
                         JSON_DECODE_MAX);
    }
    if (len >= 3 && memcmp(d->text, "\xEF\xBB\xBF", 3) == 0) {
        return fail(d, d->text, "a byte order mark, which JSON does not allow");
    }
    skip_space(d);
    if (d->at == d->end) {
        return fail(d, d->at, len == 0 ? "the text is empty" : "the text holds only white space");
    }
    if (!decode_value(d)) {
        return false;
    }
    skip_space(d);
    return d->at == d->end || unexpected(d, "the end of the text");
}

bool json_decode(lua_State *L, const char *text, size_t len, struct error *err) {
    int top = lua_gettop(L);
    luaL_checkstack(L, STACK_STEP, "JSON");
    json_push_array_metatable(L);
    struct decoder d = {L, err, text, text, text + len, top + 1, 0};
    if (!decode_text(&d)) {
        lua_settop(L, top);
        return false;
    }
    lua_replace(L, top + 1);
    return true;
}
