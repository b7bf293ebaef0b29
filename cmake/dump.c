/* Compiles a Lua file for cmake/embed.cmake: the program then need not parse it at each start.
 *     dump SOURCE CHUNK-NAME OUT
 * Runs at build time, with the very Lua that the program carries. */
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>

enum { SOURCE_MAX = 1024 * 1024 };

static int write_bytes(lua_State *L, const void *bytes, size_t size, void *file) {
    (void)L;
    return fwrite(bytes, 1, size, file) != size;
}

static int fail(const char *file, const char *message) {
    fprintf(stderr, "error: %s: %s\n", file, message);
    return EXIT_FAILURE;
}

int main(int argc, char **argv) {
    static char source[SOURCE_MAX];
    if (argc != 4) {
        return fail("dump", "needs SOURCE, CHUNK-NAME and OUT");
    }
    FILE *in = fopen(argv[1], "rb");
    if (in == NULL) {
        return fail(argv[1], "can not be read");
    }
    size_t size = fread(source, 1, sizeof(source), in);
    fclose(in);
    lua_State *L = luaL_newstate();
    if (L == NULL || size == sizeof(source)) {
        return fail(argv[1], "is too large");
    }
    if (luaL_loadbufferx(L, source, size, argv[2], "t") != LUA_OK) {
        return fail(argv[1], lua_tostring(L, -1));
    }
    FILE *out = fopen(argv[3], "wb");
    /* Lines and names are kept: errors show them. */
    if (out == NULL || lua_dump(L, write_bytes, out, 0) != 0 || fclose(out) != 0) {
        return fail(argv[3], "can not be written");
    }
    lua_close(L);
    return EXIT_SUCCESS;
}
