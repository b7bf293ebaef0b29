/* moonflow._chat: the part of chat.lua and collector.lua that runs for every chunk of every stream,
 * and of gateway/whole.lua that reads every text.
 * It knows one kind of chunk, the one that most are: a piece of text for a choice that has begun.
 * All others it leaves to the Lua files, untouched. */
#include <stdbool.h>

#include <lauxlib.h>

#include "lib/lib.h"
#include "lib/modules.h"

/* Upvalues: names of fields. A string that is pushed by its bytes is looked up anew each time. */
enum { CHOICES = 1, INDEX, DELTA, CONTENT, MESSAGE, TEXTS, CREATED, EMPTY, NAME_COUNT = EMPTY };

/* Pushes the field of the table on top of the stack, or at `index`; without metamethods. */
static int get(lua_State *L, int index, int name) {
    lua_pushvalue(L, lua_upvalueindex(name));
    return lua_rawget(L, index < 0 ? index - 1 : index);
}

static bool is_name(lua_State *L, int index, int name) {
    return lua_rawequal(L, index, lua_upvalueindex(name));
}

static bool is_null(lua_State *L, int index) {
    return lua_type(L, index) == LUA_TLIGHTUSERDATA && lua_touserdata(L, index) == NULL;
}

/* Pushes the chunk's first choice. [-0, +2, -] */
static bool push_choice(lua_State *L, int chunk) {
    return lua_istable(L, chunk) && get(L, chunk, CHOICES) == LUA_TTABLE &&
           lua_rawgeti(L, -1, 1) == LUA_TTABLE;
}

/* text(chunk) -> the text of the first choice's delta; nil where it is not as simple as that */
static int l_text(lua_State *L) {
    lua_settop(L, 1);
    if (push_choice(L, 1) && get(L, -1, INDEX) == LUA_TNUMBER && lua_tonumber(L, -1) == 0 &&
        get(L, -2, DELTA) == LUA_TTABLE && get(L, -1, CONTENT) == LUA_TSTRING) {
        return 1;
    }
    return 0;
}

/* Whether a choice has nothing but an index and a delta; what is null says nothing. */
static bool is_plain_choice(lua_State *L, int choice) {
    lua_pushnil(L);
    while (lua_next(L, choice)) {
        if (!is_null(L, -1) && !is_name(L, -2, INDEX) && !is_name(L, -2, DELTA)) {
            lua_pop(L, 2);
            return false;
        }
        lua_pop(L, 1);
    }
    return true;
}

/* Whether a delta has nothing but strings that go on with those in `texts`. */
static bool is_plain_delta(lua_State *L, int delta, int texts) {
    lua_pushnil(L);
    while (lua_next(L, delta)) {
        bool plain = is_null(L, -1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            lua_pushvalue(L, -2);
            plain = lua_rawget(L, texts) == LUA_TTABLE;
            lua_pop(L, 1);
        }
        if (!plain) {
            lua_pop(L, 2);
            return false;
        }
        lua_pop(L, 1);
    }
    return true;
}

static void add_delta(lua_State *L, int delta, int texts) {
    lua_pushnil(L);
    while (lua_next(L, delta)) {
        if (!is_null(L, -1)) {
            lua_pushvalue(L, -2);
            lua_rawget(L, texts);
            lua_insert(L, -2);
            lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        }
        lua_pop(L, 1);
    }
}

/* As add_to_top in collector.lua. */
static bool says_something(lua_State *L, int name, int value) {
    if (is_null(L, value) || is_name(L, value, EMPTY)) {
        return false;
    }
    return lua_type(L, value) != LUA_TNUMBER || lua_tonumber(L, value) != 0 ||
           !is_name(L, name, CREATED);
}

static void add_top(lua_State *L, int chunk, int top) {
    lua_pushnil(L);
    while (lua_next(L, chunk)) {
        lua_pushvalue(L, -2);
        int old = lua_rawget(L, top);
        if (!lua_rawequal(L, -1, -2) && !is_name(L, -3, CHOICES) &&
            lua_type(L, -3) == LUA_TSTRING && (old == LUA_TNIL || says_something(L, -3, -2))) {
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, top);
        }
        lua_pop(L, 2);
    }
}

/* add(top, by_index, chunk) -> true where the chunk was one of those, and is added */
static int l_add(lua_State *L) {
    enum { TOP = 1, BY_INDEX, CHUNK, CHOICE = 5, THE_DELTA = 8, THE_TEXTS = 9 };
    lua_settop(L, CHUNK);
    luaL_checktype(L, TOP, LUA_TTABLE);
    luaL_checktype(L, BY_INDEX, LUA_TTABLE);
    if (!push_choice(L, CHUNK) || lua_rawlen(L, CHOICE - 1) != 1 ||
        get(L, CHOICE, INDEX) != LUA_TNUMBER || lua_rawget(L, BY_INDEX) != LUA_TTABLE ||
        get(L, -1, MESSAGE) != LUA_TTABLE || get(L, CHOICE, DELTA) != LUA_TTABLE ||
        get(L, -2, TEXTS) != LUA_TTABLE || !is_plain_choice(L, CHOICE) ||
        !is_plain_delta(L, THE_DELTA, THE_TEXTS)) {
        return 0;
    }
    add_top(L, CHUNK, TOP);
    add_delta(L, THE_DELTA, THE_TEXTS);
    lua_pushboolean(L, 1);
    return 1;
}

/* The white space of the C locale, whatever the process has. */
static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* words(text, in_word?) -> how many words begin in it; in_word: it goes on where one may not have
 * ended */
static int l_words(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    bool in_word = lua_toboolean(L, 2);
    lua_Integer count = 0;
    for (size_t i = 0; i < len; i++) {
        bool space = is_space(text[i]);
        count += !space && !in_word;
        in_word = !space;
    }
    lua_pushinteger(L, count);
    return 1;
}

static const luaL_Reg functions[] = {
    {"text", l_text}, {"add", l_add}, {"words", l_words}, {NULL, NULL}};

int luaopen_moonflow__chat(lua_State *L) {
    static const char *const NAMES[NAME_COUNT] = {"choices", "index", "delta",   "content",
                                                  "message", "texts", "created", ""};
    luaL_newlibtable(L, functions);
    for (int i = 0; i < NAME_COUNT; i++) {
        lua_pushstring(L, NAMES[i]);
    }
    luaL_setfuncs(L, functions, NAME_COUNT);
    return 1;
}
