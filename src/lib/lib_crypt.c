/* moonflow._crypt: recognising a secret again without keeping it. What is kept is a salted hash
 * that is slow on purpose, made by the system's own library for passwords. */
#include <crypt.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "lib/lib.h"
#include "lib/modules.h"

#define METHOD "$5$" /* SHA-256, the library's usual number of rounds */

/* The secret's bytes as the library takes them, or NULL where it can not: it takes no NUL, and no
 * more than its maximum. */
static const char *check_phrase(lua_State *L, int arg) {
    size_t len;
    const char *bytes;
    const struct lib_secret *secret = lib_test_secret(L, arg);
    if (secret != NULL) {
        bytes = secret->bytes;
        len = secret->len;
    } else {
        bytes = luaL_checklstring(L, arg, &len);
    }
    return bytes != NULL && len > 0 && len < CRYPT_MAX_PASSPHRASE_SIZE && strlen(bytes) == len
               ? bytes
               : NULL;
}

/* Pushes the hash of a phrase with the salt of a setting. False where there is none. [-0, +(0|1),
 * m]
 */
static bool push_hash(lua_State *L, const char *phrase, const char *setting) {
    struct crypt_data *state = lua_newuserdatauv(L, sizeof *state, 0);
    memset(state, 0, sizeof *state);
    /* Not crypt_r: the address sanitizer's own does not find a library that is loaded late. */
    const char *hash = crypt_rn(phrase, setting, state, sizeof *state);
    bool ok = hash != NULL;
    if (ok) {
        lua_pushstring(L, hash);
    }
    explicit_bzero(state, sizeof *state);
    lua_remove(L, ok ? -2 : -1);
    return ok;
}

/* _crypt.hash(secret) -> text without white space, another one each time | nil where the secret has
 * none: it is empty, holds a NUL or is very long */
static int l_hash(lua_State *L) {
    const char *phrase = check_phrase(L, 1);
    char setting[CRYPT_GENSALT_OUTPUT_SIZE];
    if (phrase == NULL || crypt_gensalt_rn(METHOD, 0, NULL, 0, setting, sizeof setting) == NULL ||
        !push_hash(L, phrase, setting)) {
        lua_pushnil(L);
    }
    return 1;
}

/* _crypt.matches(secret, hash) -> boolean: whether the hash is one of the secret's */
static int l_matches(lua_State *L) {
    const char *phrase = check_phrase(L, 1);
    const char *hash = luaL_checkstring(L, 2);
    /* Of our own method only, and with no number of rounds that would take for ever. */
    bool is_ours = strncmp(hash, METHOD, strlen(METHOD)) == 0 && strchr(hash, '=') == NULL;
    bool same = false;
    if (phrase != NULL && is_ours && push_hash(L, phrase, hash)) {
        same = strcmp(lua_tostring(L, -1), hash) == 0;
    }
    lua_pushboolean(L, same);
    return 1;
}

static const luaL_Reg functions[] = {
    {"hash", l_hash},
    {"matches", l_matches},
    {NULL, NULL},
};

int luaopen_moonflow__crypt(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
