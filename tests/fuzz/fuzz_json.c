/* Fuzzes the JSON codec. Whatever the bytes are, decode gives a value or an error. A value encodes,
 * and from there decode and encode is a fixed point: with keys sorted, the text stays the same.
 * Build with Lua's own sources instrumented as well, so that misuse of its API shows. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/buf.h"
#include "core/error.h"
#include "lib/lib.h"
#include "lib/lib_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void stop(const char *why, const char *message) {
    fprintf(stderr, "%s: %s\n", why, message);
    abort();
}

/* Decodes the text and pushes the buffer with what it encodes to: [-0, +2, m]. NULL, and nothing
 * pushed, where the text is refused. */
static struct buf *recode(lua_State *L, const char *text, size_t len, struct error *err) {
    int top = lua_gettop(L);
    if (!json_decode(L, text, len, err)) {
        if (lua_gettop(L) != top) {
            stop("a refusal left something on the stack", err->message);
        }
        if (err->kind != ERROR_DECODE) {
            stop("a refusal of another kind", err->message);
        }
        return NULL;
    }
    if (lua_gettop(L) != top + 1) {
        stop("a value is not alone on the stack", "decode");
    }
    struct buf *out = lib_new_buf(L, JSON_ENCODE_MAX);
    if (!json_encode_sorted(L, top + 1, out, err)) {
        stop("can not encode what was decoded", err->message);
    }
    if (lua_gettop(L) != top + 2) {
        stop("something is left on the stack", "encode");
    }
    return out;
}

static int l_round(lua_State *L) {
    struct error err;
    const char *text = lua_touserdata(L, 1);
    struct buf *first = recode(L, text, (size_t)lua_tointeger(L, 2), &err);
    if (first == NULL) {
        return 0;
    }
    struct buf *second = recode(L, first->data, first->len, &err);
    if (second == NULL) {
        stop("can not decode what was encoded", err.message);
    }
    if (first->len != second->len || memcmp(first->data, second->data, first->len) != 0) {
        stop(first->data, second->data);
    }
    struct buf *unsorted = lib_new_buf(L, JSON_ENCODE_MAX);
    if (!json_encode(L, 3, unsorted, &err) || unsorted->len != first->len) {
        stop("sorted and unsorted differ", first->data);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        return 0;
    }
    /* A copy of the exact size: a read behind its end is seen. */
    char *text = malloc(size > 0 ? size : 1);
    if (text == NULL) {
        lua_close(L);
        return 0;
    }
    if (size > 0) {
        memcpy(text, data, size);
    }
    lua_pushcfunction(L, l_round);
    lua_pushlightuserdata(L, text);
    lua_pushinteger(L, (lua_Integer)size);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
        stop("an error was raised", lua_tostring(L, -1));
    }
    free(text);
    lua_close(L);
    return 0;
}
