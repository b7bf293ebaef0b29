/* What the Lua modules share: error objects, byte buffers and secrets as Lua values. These are
 * reached by names in the registry, so modules that are loaded on their own understand each other.
 */
#ifndef MOONFLOW_LIB_LIB_H
#define MOONFLOW_LIB_LIB_H

#include <stdbool.h>
#include <stddef.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/buf.h"
#include "core/error.h"

#define LIB_ERROR "moonflow.error"   /* metatable of error objects (tables) */
#define LIB_BUF "moonflow.buf"       /* metatable of buffers: userdata, struct buf */
#define LIB_SECRET "moonflow.secret" /* metatable of secrets: userdata, struct lib_secret */

/* On each luaopen_ function: everything else stays inside its library. */
#define LIB_EXPORT __attribute__((visibility("default")))

/* Pushes the error object made of `err`: kind, error_code, message, and phase, request_sent, hint
 * where set. [-0, +1, m] */
void lib_push_error(lua_State *L, const struct error *err);

/* How a primitive fails: pushes nil and the error object, returns 2. [-0, +2, m] */
int lib_fail(lua_State *L, const struct error *err);

/* How misuse fails: raises the error object with `where` set to the first frame of the user's
 * code. Does not return. [-0, +0, v] */
int lib_raise(lua_State *L, const struct error *err);

/* Raises a usage error with this message, as lib_raise. [-0, +0, v] */
int lib_misuse(lua_State *L, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether the value is an error object. [-0, +0, m] */
bool lib_is_error(lua_State *L, int index);

/* Pushes a new, empty buffer that the collector (or __close) frees. `#buf` is its length and
 * tostring(buf) its bytes. [-0, +1, m] */
struct buf *lib_new_buf(lua_State *L, size_t max);

/* The buffer at `index`, or NULL. [-0, +0, m] */
struct buf *lib_test_buf(lua_State *L, int index);

/* A secret: bytes that print as <redacted>, can not be encoded, and are wiped when collected. */
struct lib_secret {
    size_t len;
    char *bytes;  /* NUL behind them, not counted */
    char *origin; /* the only origin it may be sent to, "https://host:443", or NULL for any */
};

/* Pushes a secret with a copy of the bytes, and tells the redactor of them. [-0, +1, m] */
void lib_push_secret(lua_State *L, const char *bytes, size_t len, const char *origin);

/* The secret at `index`, or NULL. [-0, +0, m] */
const struct lib_secret *lib_test_secret(lua_State *L, int index);

/* Pushes `text` with every secret known to this state replaced by <redacted>. [-0, +1, m] */
void lib_push_redacted(lua_State *L, const char *text, size_t len);

#endif
