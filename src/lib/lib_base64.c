/* moonflow.base64: bytes and vectors of numbers in text. */
#include <stdint.h>
#include <string.h>

#include "core/base64.h"
#include "lib/lib.h"
#include "lib/modules.h"

enum { TEXT_MAX = 256 << 20 }; /* bytes of a text that is read or written */

static const char *check_text(lua_State *L, size_t *len) {
    const char *text = luaL_checklstring(L, 1, len);
    luaL_argcheck(L, *len <= TEXT_MAX / 2, 1, "is too long");
    return text;
}

/* base64.encode(bytes) -> text, with padding */
static int l_encode(lua_State *L) {
    size_t len;
    const char *bytes = check_text(L, &len);
    struct buf *out = lib_new_buf(L, TEXT_MAX);
    if (!base64_encode(out, bytes, len)) {
        return luaL_error(L, "not enough memory");
    }
    lua_pushlstring(L, out->len > 0 ? out->data : "", out->len);
    buf_free(out);
    return 1;
}

static int fail_decode(lua_State *L, const char *what) {
    struct error err;
    error_set(&err, ERROR_DECODE, NULL, "not base64 of %s", what);
    return lib_fail(L, &err);
}

/* base64.decode(text) -> bytes | nil, err. The padding may be missing. */
static int l_decode(lua_State *L) {
    size_t len;
    const char *text = check_text(L, &len);
    struct buf *out = lib_new_buf(L, TEXT_MAX);
    if (!base64_decode(out, text, len)) {
        return fail_decode(L, "bytes");
    }
    lua_pushlstring(L, out->len > 0 ? out->data : "", out->len);
    buf_free(out);
    return 1;
}

/* The number in four bytes, the lowest first: IEEE 754 binary32 on every machine that runs this. */
static float read_float(const char *bytes) {
    const unsigned char *b = (const unsigned char *)bytes;
    uint32_t bits = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    float number;
    memcpy(&number, &bits, sizeof number);
    return number;
}

/* base64.floats(text) -> list of numbers | nil, err. The text stands for 32-bit numbers, the lowest
 * byte of each first: how OpenAI sends embeddings. */
static int l_floats(lua_State *L) {
    size_t len;
    const char *text = check_text(L, &len);
    struct buf *out = lib_new_buf(L, TEXT_MAX);
    if (!base64_decode(out, text, len) || out->len % sizeof(float) != 0) {
        return fail_decode(L, "32-bit numbers");
    }
    int count = (int)(out->len / sizeof(float));
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushnumber(L, (lua_Number)read_float(out->data + (size_t)i * sizeof(float)));
        lua_rawseti(L, -2, i + 1);
    }
    buf_free(out);
    return 1;
}

static const luaL_Reg functions[] = {
    {"encode", l_encode}, {"decode", l_decode}, {"floats", l_floats}, {NULL, NULL}};

int luaopen_moonflow_base64(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
