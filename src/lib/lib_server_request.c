/* An exchange as Lua sees it: the request as a table, and the answer as a whole or in pieces. */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "lib/lib.h"
#include "lib/lib_server.h"

#define EXCHANGE "moonflow.server.exchange"

/* The userdata of an exchange: what it points to outlives neither of its two holders. */
struct handle {
    struct exchange *exchange;
};

void server_push_exchange(lua_State *L, struct exchange *x) {
    struct handle *handle = lua_newuserdatauv(L, sizeof *handle, 1);
    handle->exchange = NULL;
    luaL_setmetatable(L, EXCHANGE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); /* the server stays where it is */
    handle->exchange = x;
    x->in_lua = true;
    x->server->api->waiter_init(L, &x->room);
}

static struct exchange *check_exchange(lua_State *L) {
    const struct handle *handle = luaL_checkudata(L, 1, EXCHANGE);
    if (handle->exchange == NULL) {
        lib_misuse(L, "this exchange is closed");
    }
    return handle->exchange;
}

static int close_exchange(lua_State *L) {
    struct handle *handle = luaL_checkudata(L, 1, EXCHANGE);
    struct exchange *x = handle->exchange;
    if (x != NULL) {
        handle->exchange = NULL;
        x->server->api->waiter_close(&x->room);
        exchange_release(x);
    }
    return 0;
}

/* The lines of a request's head, copied out of the daemon before Lua is called. */
struct header_list {
    int count;
    struct {
        const char *name, *value;
    } lines[SERVER_HEADERS_MAX];
};

static enum MHD_Result collect_header(void *ctx, enum MHD_ValueKind kind, const char *name,
                                      const char *value) {
    struct header_list *list = ctx;
    (void)kind;
    if (list->count == SERVER_HEADERS_MAX) {
        return MHD_NO;
    }
    list->lines[list->count].name = name;
    list->lines[list->count].value = value != NULL ? value : "";
    list->count++;
    return MHD_YES;
}

static void push_lower(lua_State *L, const char *name) {
    luaL_Buffer b;
    size_t len = strlen(name);
    char *to = luaL_buffinitsize(L, &b, len);
    for (size_t i = 0; i < len; i++) {
        to[i] = (char)tolower((unsigned char)name[i]);
    }
    luaL_pushresultsize(&b, len);
}

/* Pushes a header's value without the white space behind it, which the daemon leaves. */
static void push_value(lua_State *L, const char *value) {
    size_t len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) {
        len--;
    }
    lua_pushlstring(L, value, len);
}

/* Pushes the table of headers; lines of one name are one value. */
static void push_headers(lua_State *L, const struct exchange *x) {
    struct header_list list = {0};
    MHD_get_connection_values(x->connection->mhd, MHD_HEADER_KIND, collect_header, &list);
    lua_createtable(L, 0, list.count);
    for (int i = 0; i < list.count; i++) {
        push_lower(L, list.lines[i].name);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pop(L, 1);
            push_value(L, list.lines[i].value);
        } else {
            lua_pushliteral(L, ", ");
            push_value(L, list.lines[i].value);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

static void push_peer(lua_State *L, const struct exchange *x) {
    char name[INET6_ADDRSTRLEN] = "";
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info != NULL && info->client_addr != NULL) {
        const struct sockaddr *address = info->client_addr;
        const void *bytes =
            address->sa_family == AF_INET
                ? (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr
                : (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        inet_ntop(address->sa_family, bytes, name, sizeof name);
    }
    lua_pushstring(L, name);
}

/*** The request.
 * @return a table: method, path (percent-encoded as it came), query (without "?"; nil where there
 * is none), headers (from lower-case names), body, peer (the client's address); nil where its
 * client has left */
static int m_request(lua_State *L) {
    struct exchange *x = check_exchange(L);
    if (x->connection == NULL) {
        return 0;
    }
    lua_createtable(L, 0, 6);
    lua_pushstring(L, x->method);
    lua_setfield(L, -2, "method");
    size_t path = strcspn(x->target, "?");
    lua_pushlstring(L, x->target, path);
    lua_setfield(L, -2, "path");
    if (x->target[path] == '?') {
        lua_pushstring(L, x->target + path + 1);
        lua_setfield(L, -2, "query");
    }
    push_headers(L, x);
    lua_setfield(L, -2, "headers");
    lua_pushlstring(L, x->body.len > 0 ? x->body.data : "", x->body.len);
    lua_setfield(L, -2, "body");
    push_peer(L, x);
    lua_setfield(L, -2, "peer");
    buf_free(&x->body);
    return 1;
}

static unsigned check_status(lua_State *L) {
    lua_Integer status = luaL_checkinteger(L, 2);
    luaL_argcheck(L, status >= 200 && status <= 599, 2, "a status from 200 to 599 expected");
    return (unsigned)status;
}

/* A header that the server sets itself, or that its framing depends on. */
static bool is_own(const char *name) {
    static const char *const names[] = {"connection", "content-length", "date",
                                        "transfer-encoding"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Reads the table of headers at 3, before anything is acquired. */
static void check_headers(lua_State *L) {
    static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (lua_isnoneornil(L, 3)) {
        return;
    }
    luaL_checktype(L, 3, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) {
            lib_misuse(L, "a header's name and value must be strings");
        }
        const char *name = lua_tostring(L, -2);
        size_t name_len = lua_rawlen(L, -2);
        const char *value = lua_tostring(L, -1);
        size_t value_len = lua_rawlen(L, -1);
        if (name_len == 0 || strspn(name, token) != name_len || is_own(name)) {
            lib_misuse(L, "a header's name is not valid, or the server's own");
        }
        for (size_t i = 0; i < value_len; i++) {
            unsigned char c = (unsigned char)value[i];
            if ((c < 0x20 && c != '\t') || c == 0x7F) {
                lib_misuse(L, "the value of the header %s has a control character", name);
            }
        }
    }
}

/* Adds the headers at 3, which were checked. Calls nothing that raises. */
static bool add_headers(lua_State *L, struct MHD_Response *response) {
    bool ok = true;
    if (lua_isnoneornil(L, 3)) {
        return true;
    }
    lua_pushnil(L);
    while (lua_next(L, 3)) {
        const char *value = lua_tostring(L, -1);
        ok = ok && (*value == '\0' ||
                    MHD_add_response_header(response, lua_tostring(L, -2), value) == MHD_YES);
        lua_pop(L, 1);
    }
    return ok;
}

static int push_done(lua_State *L, const struct exchange *x) {
    lua_pushboolean(L, !x->gone);
    return 1;
}

static struct exchange *check_unanswered(lua_State *L) {
    struct exchange *x = check_exchange(L);
    if (x->state != EXCHANGE_WAITING) {
        lib_misuse(L, "this request has an answer already");
    }
    return x;
}

/*** Answers as a whole.
 * @param status 200 to 599
 * @param headers nil, or a table from names to values, without those of the framing
 * @param body a string, default ""
 * @return false where the client has left */
static int m_respond(lua_State *L) {
    size_t len;
    struct exchange *x = check_unanswered(L);
    unsigned status = check_status(L);
    check_headers(L);
    const char *body = luaL_optlstring(L, 4, "", &len);
    luaL_checkstack(L, 3, NULL);
    if (!x->gone) {
        struct MHD_Response *response =
            MHD_create_response_from_buffer(len, (void *)body, MHD_RESPMEM_MUST_COPY);
        if (response == NULL || !add_headers(L, response)) {
            MHD_destroy_response(response);
            return luaL_error(L, "not enough memory");
        }
        exchange_answer(x, status, response);
    }
    return push_done(L, x);
}

/*** Begins an answer whose body `write` gives.
 * @param status as for respond
 * @param headers as for respond
 * @return false where the client has left */
static int m_start(lua_State *L) {
    struct exchange *x = check_unanswered(L);
    unsigned status = check_status(L);
    check_headers(L);
    luaL_checkstack(L, 3, NULL);
    if (!x->gone) {
        struct MHD_Response *response = exchange_new_stream(x);
        if (response == NULL || !add_headers(L, response)) {
            return luaL_error(L, "not enough memory");
        }
        exchange_stream(x, status);
    }
    return push_done(L, x);
}

static int after_room(lua_State *L, int status, lua_KContext ctx) {
    (void)status;
    (void)ctx;
    return push_done(L, check_exchange(L));
}

/*** Writes a piece of the body, which is sent at once. Waits, once, where the client reads too
 * slowly for what is there already.
 * @param bytes a string
 * @return false where the client has left */
static int m_write(lua_State *L) {
    size_t len;
    struct exchange *x = check_exchange(L);
    const char *bytes = luaL_checklstring(L, 2, &len);
    if (x->gone || len == 0) {
        return push_done(L, x);
    }
    if (x->state != EXCHANGE_STREAM) {
        lib_misuse(L, "this answer has not begun, or has ended");
    }
    if (x->taken > 0 && x->taken >= x->out.len / 2) {
        buf_consume(&x->out, x->taken);
        x->taken = 0;
    }
    if (!buf_append(&x->out, bytes, len)) {
        return luaL_error(L, "not enough memory");
    }
    exchange_wrote(x);
    if (x->out.len - x->taken <= SERVER_WINDOW) {
        return push_done(L, x);
    }
    if (x->room.task == NULL) {
        x->room.ready = false;
    }
    return x->server->api->wait(L, &x->room, 0, after_room);
}

/*** Ends the body that `write` gave. */
static int m_finish(lua_State *L) {
    struct exchange *x = check_exchange(L);
    if (x->state == EXCHANGE_STREAM) {
        exchange_finish(x, false);
    }
    return 0;
}

/*** Closes the connection: without an answer, or in the middle of one once the client has all that
 * was written. */
static int m_cut(lua_State *L) {
    struct exchange *x = check_exchange(L);
    if (x->state == EXCHANGE_WAITING || x->state == EXCHANGE_STREAM) {
        exchange_finish(x, true);
    }
    return 0;
}

/*** @return "waiting" (no answer yet), "stream" or "ended" */
static int m_state(lua_State *L) {
    const struct exchange *x = check_exchange(L);
    lua_pushstring(L, x->state == EXCHANGE_WAITING  ? "waiting"
                      : x->state == EXCHANGE_STREAM ? "stream"
                                                    : "ended");
    return 1;
}

static const luaL_Reg exchange_methods[] = {
    {"request", m_request}, {"respond", m_respond},    {"start", m_start},
    {"write", m_write},     {"finish", m_finish},      {"cut", m_cut},
    {"state", m_state},     {"close", close_exchange}, {NULL, NULL},
};

void server_open_exchanges(lua_State *L) {
    server_new_class(L, EXCHANGE, exchange_methods, close_exchange);
}
