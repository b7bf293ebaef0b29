/* moonflow.sys: what Lua needs from the operating system and its own library lacks. Decides
 * nothing. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

#include "core/files.h"
#include "core/httpdate.h"
#include "lib/lib.h"
#include "lib/modules.h"

#define LOCK "moonflow.lock" /* metatable: userdata, int: a descriptor, -1 when closed */

enum {
    PRIVATE_MAX = 1048576,  /* bytes of a file that is written */
    LIST_MAX = 8388608,     /* bytes of all names in a directory */
    READ_DEFAULT = 16777216 /* bytes of a file where the caller names no other maximum */
};

/* A path or a name that C can hold: without a NUL. */
static const char *check_c_string(lua_State *L, int arg) {
    size_t len;
    const char *text = luaL_checklstring(L, arg, &len);
    luaL_argcheck(L, strlen(text) == len, arg, "holds a NUL byte");
    return text;
}

static int push_clock(lua_State *L, clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* sys.monotonic() -> seconds since some point in the past */
static int l_monotonic(lua_State *L) {
    return push_clock(L, CLOCK_MONOTONIC);
}

/* sys.time() -> seconds since 1970, with a fraction */
static int l_time(lua_State *L) {
    return push_clock(L, CLOCK_REALTIME);
}

/* sys.environ() -> {name = value}; of a name that is there twice the first, as getenv finds it */
static int l_environ(lua_State *L) {
    lua_newtable(L);
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        const char *sign = strchr(*variable, '=');
        if (sign == NULL) {
            continue;
        }
        lua_pushlstring(L, *variable, (size_t)(sign - *variable));
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) != LUA_TNIL) {
            lua_pop(L, 2);
            continue;
        }
        lua_pop(L, 1);
        lua_pushstring(L, sign + 1);
        lua_rawset(L, -3);
    }
    return 1;
}

/* sys.getenv(name) -> value | nil */
static int l_getenv(lua_State *L) {
    lua_pushstring(L, getenv(check_c_string(L, 1)));
    return 1;
}

/* sys.list_dir(path) -> names in the order of their bytes | nil, err */
static int l_list_dir(lua_State *L) {
    const char *path = check_c_string(L, 1);
    struct error err;
    struct buf *names = lib_new_buf(L, LIST_MAX);
    if (!files_list(path, names, &err)) {
        return lib_fail(L, &err);
    }
    lua_newtable(L);
    lua_Integer count = 0;
    for (size_t at = 0; at < names->len;) {
        lua_pushstring(L, names->data + at);
        at += lua_rawlen(L, -1) + 1;
        lua_rawseti(L, -2, ++count);
    }
    buf_free(names);
    return 1;
}

static const char *type_name(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    default:
        return "device";
    }
}

/* sys.stat(path) -> {type, mode, uid, size} | nil, err. Follows symbolic links; `mode` is the
 * permission bits, `type` one of "file", "directory", "fifo", "socket", "device". */
static int l_stat(lua_State *L) {
    const char *path = check_c_string(L, 1);
    struct stat st;
    struct error err;
    if (stat(path, &st) != 0) {
        files_fail(path, errno, &err);
        return lib_fail(L, &err);
    }
    lua_createtable(L, 0, 4);
    lua_pushstring(L, type_name(st.st_mode));
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, (lua_Integer)(st.st_mode & 07777));
    lua_setfield(L, -2, "mode");
    lua_pushinteger(L, (lua_Integer)st.st_uid);
    lua_setfield(L, -2, "uid");
    lua_pushinteger(L, (lua_Integer)st.st_size);
    lua_setfield(L, -2, "size");
    return 1;
}

static int read_with(lua_State *L, bool (*read)(const char *, struct buf *, struct error *)) {
    const char *path = check_c_string(L, 1);
    lua_Integer max = luaL_optinteger(L, 2, READ_DEFAULT);
    luaL_argcheck(L, max >= 0, 2, "must not be negative");
    struct error err;
    struct buf *content = lib_new_buf(L, (size_t)max);
    if (!read(path, content, &err)) {
        return lib_fail(L, &err);
    }
    lua_pushlstring(L, content->data, content->len);
    buf_wipe(content);
    return 1;
}

/* sys.read_file(path [, max]) -> text | nil, err. Regular files only; `max` in bytes. */
static int l_read_file(lua_State *L) {
    return read_with(L, files_read);
}

/* sys.read_private(path [, max]) -> text | nil, err. Only what is this user's alone. */
static int l_read_private(lua_State *L) {
    return read_with(L, files_read_private);
}

/* The bytes of the string or secret at `index`, or NULL. */
static const char *piece_at(lua_State *L, int index, size_t *len) {
    const struct lib_secret *secret = lib_test_secret(L, index);
    if (secret != NULL) {
        *len = secret->len;
        return secret->bytes;
    }
    return lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, len) : NULL;
}

/* Appends what the arguments from `first` to `last` hold. Raises where that is too much. */
static void join_pieces(lua_State *L, int first, int last, struct buf *out) {
    size_t total = 0;
    for (int i = first; i <= last; i++) {
        size_t len = 0;
        if (piece_at(L, i, &len) == NULL) {
            luaL_typeerror(L, i, "string or secret");
        }
        total += len;
    }
    luaL_argcheck(L, total <= PRIVATE_MAX, first, "is too long");
    if (!buf_reserve(out, total)) {
        luaL_error(L, "not enough memory");
    }
    for (int i = first; i <= last; i++) {
        size_t len = 0;
        const char *bytes = piece_at(L, i, &len);
        buf_append(out, bytes, len);
    }
}

/* sys.write_private(path, piece, ...) -> true | nil, err. A file of strings and secrets, which
 * nobody else can read at any time, and which replaces another one at once. */
static int l_write_private(lua_State *L) {
    const char *path = check_c_string(L, 1);
    int last = lua_gettop(L);
    struct error err;
    struct buf *content = lib_new_buf(L, PRIVATE_MAX);
    join_pieces(L, 2, last, content);
    bool ok =
        files_write_private(path, content->data != NULL ? content->data : "", content->len, &err);
    buf_wipe(content);
    if (!ok) {
        return lib_fail(L, &err);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* sys.make_private_dir(path) -> true | nil, err. For this user alone; one that is there stays. */
static int l_make_private_dir(lua_State *L) {
    const char *path = check_c_string(L, 1);
    struct error err;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        files_fail(path, errno, &err);
        return lib_fail(L, &err);
    }
    lua_pushboolean(L, true);
    return 1;
}

static int m_lock_close(lua_State *L) {
    int *fd = luaL_checkudata(L, 1, LOCK);
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return 0;
}

static const luaL_Reg lock_metamethods[] = {
    {"__gc", m_lock_close},
    {"__close", m_lock_close},
    {NULL, NULL},
};

/* sys.lock(path) -> lock | nil, err. Among processes and within one; to be closed. Does not wait:
 * RESOURCE_CONFLICT where somebody else has it. */
static int l_lock(lua_State *L) {
    const char *path = check_c_string(L, 1);
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
    *fd = -1;
    if (luaL_newmetatable(L, LOCK)) {
        luaL_setfuncs(L, lock_metamethods, 0);
    }
    lua_setmetatable(L, -2);
    struct error err;
    *fd = files_lock(path, &err);
    return *fd >= 0 ? 1 : lib_fail(L, &err);
}

/* sys.isatty(fd) -> boolean */
static int l_isatty(lua_State *L) {
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* sys.columns(fd) -> characters of a line of the terminal | nil where that is not known */
static int l_columns(lua_State *L) {
    struct winsize size;
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        lua_pushnil(L);
    } else {
        lua_pushinteger(L, (lua_Integer)size.ws_col);
    }
    return 1;
}

/* sys.random() -> a number in [0, 1), from the kernel, so that no two processes agree */
static int l_random(lua_State *L) {
    uint64_t bits;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits) {
        return luaL_error(L, "the kernel gives no random bytes: %s", strerror(errno));
    }
    lua_pushnumber(L, (lua_Number)(bits >> 11) * 0x1p-53);
    return 1;
}

/* sys.http_date(text) -> seconds since 1970 | nil where it is no date */
static int l_http_date(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    int64_t epoch;
    if (!httpdate_parse(text, len, (int64_t)time(NULL), &epoch)) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, (lua_Integer)epoch);
    return 1;
}

/* sys.euid() -> the effective user's number */
static int l_euid(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)geteuid());
    return 1;
}

static const luaL_Reg functions[] = {
    {"monotonic", l_monotonic},
    {"time", l_time},
    {"environ", l_environ},
    {"getenv", l_getenv},
    {"list_dir", l_list_dir},
    {"stat", l_stat},
    {"read_file", l_read_file},
    {"isatty", l_isatty},
    {"random", l_random},
    {"http_date", l_http_date},
    {"columns", l_columns},
    {"euid", l_euid},
    {"read_private", l_read_private},
    {"write_private", l_write_private},
    {"make_private_dir", l_make_private_dir},
    {"lock", l_lock},
    {NULL, NULL},
};

int luaopen_moonflow_sys(lua_State *L) {
    luaL_newlib(L, functions);
    lua_pushliteral(L, MOONFLOW_VERSION);
    lua_setfield(L, -2, "version");
    return 1;
}
