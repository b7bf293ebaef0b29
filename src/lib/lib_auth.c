/* moonflow.auth: secrets as Lua values, the header values made of them, the ini files that hold
 * some, and the one redactor of a Lua state. Lua never sees a secret's bytes; lib_http.c takes them
 * when it builds headers. Which source a credential is taken from is not decided here. */
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/base64.h"
#include "core/files.h"
#include "core/ini.h"
#include "core/redact.h"
#include "core/url.h"
#include "lib/lib.h"
#include "lib/modules.h"

#define REDACTOR "moonflow.redactor" /* registry field: userdata, struct redact */
#define INI "moonflow.ini"           /* metatable: userdata, struct ini */

enum { SECRET_MAX = 1048576 };

/* Bytes given as a string or inside a secret, and the origin that the secret is bound to. */
struct given {
    const char *bytes;
    size_t len;
    const char *origin;
};

static int m_redactor_gc(lua_State *L) {
    redact_free(lua_touserdata(L, 1));
    return 0;
}

static int m_tostring(lua_State *L) {
    lua_pushliteral(L, REDACT_MARK);
    return 1;
}

static void wipe(struct lib_secret *secret) {
    if (secret->bytes != NULL) {
        explicit_bzero(secret->bytes, secret->len);
    }
    secret->len = 0;
}

/* A secret that is closed early stays a valid, empty one. */
static int m_close(lua_State *L) {
    wipe(luaL_checkudata(L, 1, LIB_SECRET));
    return 0;
}

static int m_gc(lua_State *L) {
    struct lib_secret *secret = luaL_checkudata(L, 1, LIB_SECRET);
    wipe(secret);
    free(secret->bytes);
    free(secret->origin);
    *secret = (struct lib_secret){0};
    return 0;
}

static const luaL_Reg secret_metamethods[] = {
    {"__tostring", m_tostring},
    {"__gc", m_gc},
    {"__close", m_close},
    {NULL, NULL},
};

/* This state's redactor, made at the first call. [-0, +0, m] */
static struct redact *redactor(lua_State *L) {
    if (lua_getfield(L, LUA_REGISTRYINDEX, REDACTOR) == LUA_TUSERDATA) {
        struct redact *known = lua_touserdata(L, -1);
        lua_pop(L, 1);
        return known;
    }
    struct redact *r = lua_newuserdatauv(L, sizeof *r, 0);
    redact_init(r);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, m_redactor_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, REDACTOR);
    lua_pop(L, 1);
    return r;
}

static void learn(lua_State *L, const char *bytes, size_t len) {
    if (!redact_add(redactor(L), bytes, len)) {
        luaL_error(L, "not enough memory");
    }
}

/* Pushes a secret of `len` bytes that are still to be written. [-0, +1, m] */
static struct lib_secret *new_secret(lua_State *L, size_t len, const char *origin) {
    struct lib_secret *secret = lua_newuserdatauv(L, sizeof *secret, 0);
    *secret = (struct lib_secret){0};
    if (luaL_newmetatable(L, LIB_SECRET)) {
        luaL_setfuncs(L, secret_metamethods, 0);
        lua_pushliteral(L, LIB_SECRET);
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    secret->bytes = calloc(len + 1, 1);
    secret->len = len;
    secret->origin = origin != NULL ? strdup(origin) : NULL;
    if (secret->bytes == NULL || (origin != NULL && secret->origin == NULL)) {
        secret->len = 0;
        luaL_error(L, "not enough memory");
    }
    return secret;
}

void lib_push_secret(lua_State *L, const char *bytes, size_t len, const char *origin) {
    struct lib_secret *secret = new_secret(L, len, origin);
    memcpy(secret->bytes, bytes, len);
    learn(L, bytes, len);
}

const struct lib_secret *lib_test_secret(lua_State *L, int index) {
    return luaL_testudata(L, index, LIB_SECRET);
}

void lib_push_redacted(lua_State *L, const char *text, size_t len) {
    /* Whatever is replaced has at least 8 bytes, its mark has 10. */
    struct buf *out = lib_new_buf(L, len * 2 + sizeof REDACT_MARK);
    if (!redact_text(redactor(L), text, len, out)) {
        luaL_error(L, "not enough memory");
    }
    lua_pushlstring(L, out->data, out->len);
    buf_free(out);
    lua_remove(L, -2);
}

static int raise_auth(lua_State *L, const char *what, const char *why) {
    struct error err;
    error_set(&err, ERROR_AUTH, NULL, "%s %s", what, why);
    return lib_raise(L, &err);
}

static struct given check_given(lua_State *L, int arg) {
    const struct lib_secret *secret = lib_test_secret(L, arg);
    if (secret != NULL) {
        return (struct given){secret->bytes, secret->len, secret->origin};
    }
    if (lua_type(L, arg) != LUA_TSTRING) {
        luaL_typeerror(L, arg, "string or secret");
    }
    struct given given = {0};
    given.bytes = lua_tolstring(L, arg, &given.len);
    luaL_argcheck(L, given.len <= SECRET_MAX, arg, "is too long");
    return given;
}

/* The origin at `arg` in its one form, written into `out`; without one, or where the secret has
 * one already, the secret's. A secret can not move to another origin. NULL: any. */
static const char *check_origin(lua_State *L, int arg, const char *bound,
                                char out[URL_ORIGIN_SIZE]) {
    if (lua_isnoneornil(L, arg)) {
        return bound;
    }
    size_t len;
    const char *text = luaL_checklstring(L, arg, &len);
    struct url url;
    struct error err;
    if (!url_parse(&url, text, len, &err)) {
        lib_raise(L, &err);
    }
    url_origin(&url, out);
    if (bound != NULL && strcmp(bound, out) != 0) {
        error_set(&err, ERROR_AUTH, NULL, "this credential is for %s and cannot be sent to %s",
                  bound, out);
        lib_raise(L, &err);
    }
    return out;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct given trim(struct given given) {
    while (given.len > 0 && is_space(given.bytes[0])) {
        given.bytes++;
        given.len--;
    }
    while (given.len > 0 && is_space(given.bytes[given.len - 1])) {
        given.len--;
    }
    return given;
}

/* A header can not carry it, and whoever put it there may want to add a header of his own. */
static void refuse_control(lua_State *L, struct given given, const char *what) {
    for (size_t i = 0; i < given.len; i++) {
        if ((unsigned char)given.bytes[i] < 0x20 || given.bytes[i] == 0x7F) {
            raise_auth(L, what, "holds a control byte, such as a line break");
        }
    }
}

/* auth.secret(text [, origin]) -> secret */
static int l_secret(lua_State *L) {
    struct given given = check_given(L, 1);
    char origin[URL_ORIGIN_SIZE];
    lib_push_secret(L, given.bytes, given.len, check_origin(L, 2, given.origin, origin));
    return 1;
}

/* auth.remember(secret): tells the redactor of it again, which forgets the oldest of very many. A
 * header's value is told with and without its scheme. */
static int l_remember(lua_State *L) {
    const struct lib_secret *secret = luaL_checkudata(L, 1, LIB_SECRET);
    const char *space = memchr(secret->bytes, ' ', secret->len);
    size_t scheme = space != NULL ? (size_t)(space - secret->bytes) + 1 : 0;
    learn(L, secret->bytes, secret->len);
    learn(L, secret->bytes + scheme, secret->len - scheme);
    return 0;
}

/* The bytes of a header's value behind its scheme. */
static struct given without_scheme(const struct lib_secret *secret, size_t *scheme_len) {
    static const char *const SCHEMES[] = {"Bearer", "Basic"};
    *scheme_len = 0;
    for (size_t i = 0; i < sizeof SCHEMES / sizeof *SCHEMES; i++) {
        size_t len = strlen(SCHEMES[i]);
        if (secret->len > len + 1 && memcmp(secret->bytes, SCHEMES[i], len) == 0 &&
            secret->bytes[len] == ' ') {
            *scheme_len = len;
            return (struct given){secret->bytes + len + 1, secret->len - len - 1, NULL};
        }
    }
    return (struct given){secret->bytes, secret->len, NULL};
}

/* auth.scheme(secret) -> "Bearer", "Basic" or nil: what its value as a header begins with */
static int l_scheme(lua_State *L) {
    const struct lib_secret *secret = luaL_checkudata(L, 1, LIB_SECRET);
    size_t len;
    without_scheme(secret, &len);
    if (len == 0) {
        lua_pushnil(L);
    } else {
        lua_pushlstring(L, secret->bytes, len);
    }
    return 1;
}

/* auth.holds(secret, text) -> boolean: whether the secret, without its scheme, is this text.
 * Whoever asks knows the text already, such as the value of a variable. */
static int l_holds(lua_State *L) {
    const struct lib_secret *secret = luaL_checkudata(L, 1, LIB_SECRET);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    size_t scheme_len;
    struct given value = without_scheme(secret, &scheme_len);
    lua_pushboolean(L, len > 0 && len == value.len && memcmp(text, value.bytes, len) == 0);
    return 1;
}

/* auth.is_secret(value) -> boolean */
static int l_is_secret(lua_State *L) {
    lua_pushboolean(L, lib_test_secret(L, 1) != NULL);
    return 1;
}

/* auth.bearer(token [, origin]) -> secret "Bearer TOKEN". White space around the token is dropped.
 */
static int l_bearer(lua_State *L) {
    static const char scheme[] = "Bearer ";
    const size_t scheme_len = sizeof scheme - 1;
    struct given token = check_given(L, 1);
    char origin_text[URL_ORIGIN_SIZE];
    const char *origin = check_origin(L, 2, token.origin, origin_text);
    token = trim(token);
    if (token.len == 0) {
        raise_auth(L, "the token", "is empty");
    }
    refuse_control(L, token, "the token");
    learn(L, token.bytes, token.len);
    struct lib_secret *secret = new_secret(L, scheme_len + token.len, origin);
    memcpy(secret->bytes, scheme, scheme_len);
    memcpy(secret->bytes + scheme_len, token.bytes, token.len);
    return 1;
}

/* "Basic " and the base64 of "user:password", into the bytes of a secret that has room for it. */
static void write_basic(struct lib_secret *secret, struct lib_secret *pair) {
    struct buf value = {.data = secret->bytes, .cap = secret->len + 1, .max = secret->len};
    buf_puts(&value, "Basic ");
    base64_encode(&value, pair->bytes, pair->len);
}

/* auth.basic(user, password [, origin]) -> secret "Basic ..." */
static int l_basic(lua_State *L) {
    struct given user = check_given(L, 1);
    struct given password = check_given(L, 2);
    char origin_text[URL_ORIGIN_SIZE];
    const char *origin = check_origin(L, 3, password.origin, origin_text);
    refuse_control(L, user, "the user name");
    refuse_control(L, password, "the password");
    if (memchr(user.bytes, ':', user.len) != NULL) {
        raise_auth(L, "the user name", "holds a colon, which Basic credentials cannot carry");
    }
    struct lib_secret *pair = new_secret(L, user.len + 1 + password.len, origin);
    memcpy(pair->bytes, user.bytes, user.len);
    pair->bytes[user.len] = ':';
    memcpy(pair->bytes + user.len + 1, password.bytes, password.len);
    learn(L, pair->bytes, pair->len);
    learn(L, password.bytes, password.len);
    struct lib_secret *secret = new_secret(L, strlen("Basic ") + base64_length(pair->len), origin);
    write_basic(secret, pair);
    wipe(pair);
    return 1;
}

/* auth.redact(text) -> text */
static int l_redact(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    lib_push_redacted(L, text, len);
    return 1;
}

static int m_ini_gc(lua_State *L) {
    ini_free(luaL_checkudata(L, 1, INI));
    return 0;
}

/* Pushes an empty document that the collector frees. [-0, +1, m] */
static struct ini *new_ini(lua_State *L) {
    struct ini *ini = lua_newuserdatauv(L, sizeof *ini, 0);
    *ini = (struct ini){0};
    if (luaL_newmetatable(L, INI)) {
        lua_pushcfunction(L, m_ini_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return ini;
}

/* Reads and parses the file into `ini`; the raw text does not outlive the call. */
static bool load_ini(struct ini *ini, const char *path, bool databricks, struct error *err) {
    struct buf text;
    buf_init(&text, INI_MAX);
    bool ok = files_read(path, &text, err);
    if (ok) {
        struct error why;
        ok = (databricks ? ini_parse_databricks
                         : ini_parse)(ini, text.data != NULL ? text.data : "", text.len, &why);
        if (!ok) {
            error_set(err, why.kind, why.code, "%s, %s", path, why.message);
            error_hint(err, "%s", why.hint);
        }
    }
    buf_wipe(&text);
    return ok;
}

/* auth.read_ini(path, section, is_secret [, databricks]) -> values, lines | nil, err. `values`
 * holds the section's keys in lower case, those that are true in the table `is_secret` as secrets,
 * the others as strings; `lines` the line of each. A section that is not there:
 * RESOURCE_DOES_NOT_EXIST. With `databricks` in Databricks' dialect, where the keys of [DEFAULT]
 * are only its own. */
static int l_read_ini(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    const char *section = luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    bool databricks = lua_toboolean(L, 4);
    lua_settop(L, 3);
    struct error err;
    struct ini *ini = new_ini(L);
    if (!load_ini(ini, path, databricks, &err)) {
        return lib_fail(L, &err);
    }
    if (!ini_has_section(ini, section)) {
        error_set(&err, ERROR_CONFIG, "RESOURCE_DOES_NOT_EXIST", "%s has no section [%s]", path,
                  section);
        return lib_fail(L, &err);
    }
    lua_newtable(L);
    lua_newtable(L);
    for (size_t i = 0; i < ini->count; i++) {
        const struct ini_entry *entry = &ini->entries[i];
        if (entry->key == NULL ||
            (databricks ? ini_own : ini_get)(ini, section, entry->key) != entry) {
            continue;
        }
        lua_getfield(L, 3, entry->key);
        if (lua_toboolean(L, -1)) {
            lib_push_secret(L, entry->value, strlen(entry->value), NULL);
        } else {
            lua_pushstring(L, entry->value);
        }
        lua_setfield(L, 5, entry->key);
        lua_pop(L, 1);
        lua_pushinteger(L, entry->line);
        lua_setfield(L, 6, entry->key);
    }
    ini_free(ini);
    return 2;
}

/* auth.ini_sections(path [, databricks]) -> names in the file's order | nil, err */
static int l_ini_sections(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    struct error err;
    struct ini *ini = new_ini(L);
    if (!load_ini(ini, path, lua_toboolean(L, 2), &err)) {
        return lib_fail(L, &err);
    }
    lua_newtable(L);
    lua_Integer count = 0;
    for (size_t i = 0; i < ini->count; i++) {
        if (ini->entries[i].key == NULL) {
            lua_pushstring(L, ini->entries[i].section);
            lua_seti(L, -2, ++count);
        }
    }
    ini_free(ini);
    return 1;
}

static const luaL_Reg functions[] = {
    {"secret", l_secret},
    {"is_secret", l_is_secret},
    {"scheme", l_scheme},
    {"holds", l_holds},
    {"remember", l_remember},
    {"bearer", l_bearer},
    {"basic", l_basic},
    {"redact", l_redact},
    {"read_ini", l_read_ini},
    {"ini_sections", l_ini_sections},
    {NULL, NULL},
};

int luaopen_moonflow_auth(lua_State *L) {
    luaL_newlib(L, functions);
    return 1;
}
