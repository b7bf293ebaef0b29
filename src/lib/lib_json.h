/* JSON (RFC 8259) to Lua values and back, for the other C files: moonflow.json is made of this.
 *
 *   null            light userdata NULL, the same value as cjson.null
 *   1, -7           integer; beyond int64 a userdata that holds the digits and encodes as them
 *   1.0, 1e3, -0    float; encoded so that it reads back as the same float
 *   "text"          string, valid UTF-8 in both directions
 *   [...]           table with the metatable JSON_ARRAY, so that [] stays []
 *   {...}           table; of a repeated key the last one counts
 *
 * A table without that metatable is an array where its keys are 1..n and n > 0, else an object.
 * Metamethods are not called. */
#ifndef MOONFLOW_LIB_JSON_H
#define MOONFLOW_LIB_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

#include "core/buf.h"
#include "core/error.h"

#define JSON_ARRAY "moonflow.json.array"   /* metatable of tables that are arrays */
#define JSON_NUMBER "moonflow.json.number" /* metatable of integers beyond int64: their digits */

enum {
    JSON_DEPTH_MAX = 200,       /* arrays and objects within each other, both ways */
    JSON_DECODE_MAX = 64 << 20, /* bytes that json_decode accepts */
    JSON_ENCODE_MAX = 256 << 20 /* bytes that moonflow.json's encode writes */
};

/* Pushes the value that the text stands for. Where it is no JSON: pushes nothing, sets `err`, kind
 * decode, with the offset of the byte (the first is 1) in the message. The text is only read, and
 * must stay where it is meanwhile. [-0, +(0|1), m] */
bool json_decode(lua_State *L, const char *text, size_t len, struct error *err);

/* Appends the value at `index` to `out`, which a Lua error must not leak: see lib_new_buf. False
 * where the value has no JSON form or `out` can not hold it: `err`, kind usage, names the place
 * ("$.messages[2].content: ..."), and `out` holds a part. [-0, +0, m] */
bool json_encode(lua_State *L, int index, struct buf *out, struct error *err);

/* As json_encode, with the keys of every object in the order of their bytes. [-0, +0, m] */
bool json_encode_sorted(lua_State *L, int index, struct buf *out, struct error *err);

/* Pushes these metatables, made at the first use in this state. [-0, +1, m] */
void json_push_array_metatable(lua_State *L);
void json_push_number_metatable(lua_State *L);

#endif
