/* moonflow._server: an HTTP server in the loop of the task runtime, so that one process serves and
 * calls out at once. What requests mean is the business of the Lua above (moonflow.server). A
 * module of its own, as libmicrohttpd is loaded only where something is served. */
#include "lib/lib_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/lib.h"
#include "lib/modules.h"

#define SERVER "moonflow.server"

enum {
    BACKLOG = 1024,
    BODY_USUAL = 16 << 20,     /* bytes */
    BODY_MOST = 1 << 30,       /* bytes */
    HEADER_USUAL = 32 << 10,   /* bytes; the daemon's memory of one connection */
    HEADER_LEAST = 1 << 10,    /* bytes */
    HEADER_MOST = 1 << 20,     /* bytes */
    CONNECTIONS_USUAL = 1000,  /* at once */
    CONNECTIONS_MOST = 100000, /* at once */
    REQUEST_TIMEOUT = 60,      /* seconds */
    HANDLER_TIMEOUT = 600,     /* seconds */
    FILES_BESIDE = 200         /* descriptors that are no connections */
};

/* Options */

static lua_Number option(lua_State *L, const char *name, lua_Number usual, lua_Number least,
                         lua_Number most) {
    lua_Number value = usual;
    if (lua_getfield(L, 1, name) != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TNUMBER) {
            lib_misuse(L, "the option %s must be a number, not %s", name, luaL_typename(L, -1));
        }
        value = lua_tonumber(L, -1);
        if (!(value >= least && value <= most)) {
            lib_misuse(L, "the option %s must be from %f to %f", name, least, most);
        }
    }
    lua_pop(L, 1);
    return value;
}

static lua_Integer whole_option(lua_State *L, const char *name, lua_Integer usual,
                                lua_Integer least, lua_Integer most) {
    lua_Number value = option(L, name, (lua_Number)usual, (lua_Number)least, (lua_Number)most);
    if (value != (lua_Number)(lua_Integer)value) {
        lib_misuse(L, "the option %s must be a whole number", name);
    }
    return (lua_Integer)value;
}

static int64_t time_option(lua_State *L, const char *name, lua_Number usual) {
    static const lua_Number SHORTEST = 0.001; /* seconds */
    static const lua_Number LONGEST = 1e6;
    return (int64_t)(option(L, name, usual, SHORTEST, LONGEST) * 1e9);
}

static struct server_limits check_limits(lua_State *L) {
    return (struct server_limits){
        .max_body = (uint64_t)whole_option(L, "max_body", BODY_USUAL, 0, BODY_MOST),
        .max_header =
            (unsigned)whole_option(L, "max_header", HEADER_USUAL, HEADER_LEAST, HEADER_MOST),
        .connections =
            (unsigned)whole_option(L, "max_connections", CONNECTIONS_USUAL, 1, CONNECTIONS_MOST),
        .request_timeout = time_option(L, "request_timeout", REQUEST_TIMEOUT),
        .handler_timeout = time_option(L, "handler_timeout", HANDLER_TIMEOUT),
    };
}

static const char *check_host(lua_State *L) {
    size_t len = 0;
    if (lua_getfield(L, 1, "host") == LUA_TNIL) {
        lua_pushliteral(L, "127.0.0.1");
    }
    const char *host = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
    if (host == NULL || strlen(host) != len) {
        lib_misuse(L, "the option host must be a string without NUL");
    }
    return host;
}

/* The socket */

static bool is_loopback(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static bool fail_listen(struct error *err, const char *host, const char *port, const char *why) {
    error_set(err, ERROR_CONFIG, "RESOURCE_CONFLICT", "can not listen on %s:%s: %s", host, port,
              why);
    return false;
}

/* A socket that listens on the first address of the name. */
static bool open_socket(struct server *s, const char *host, int port, int *fd, struct error *err) {
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char service[16];
    int on = 1;
    snprintf(service, sizeof service, "%d", port);
    int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0) {
        return fail_listen(err, host, service, gai_strerror(code));
    }
    s->loopback_only = is_loopback(found->ai_addr);
    snprintf(s->name, sizeof s->name, strchr(host, ':') != NULL ? "[%s]" : "%s", host);
    *fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = *fd >= 0 && setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
              bind(*fd, found->ai_addr, found->ai_addrlen) == 0 && listen(*fd, BACKLOG) == 0;
    code = errno;
    freeaddrinfo(found);
    if (!ok) {
        fail_listen(err, host, service, strerror(code));
        if (code == EADDRINUSE) {
            error_hint(err, "another program serves there: end it, or choose another port");
        } else if (code == EACCES) {
            error_hint(err, "ports below 1024 need rights: choose a higher one");
        }
    }
    return ok;
}

static void read_port(struct server *s, int fd) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    char port[8];
    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 &&
        getnameinfo((struct sockaddr *)&address, len, NULL, 0, port, sizeof port, NI_NUMERICSERV) ==
            0) {
        s->port = (int)strtol(port, NULL, 10);
    }
}

/* Room for the descriptors of all connections, as far as this process may. */
static void raise_file_limit(unsigned connections) {
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + FILES_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Servers */

static struct server *check_server(lua_State *L) {
    return luaL_checkudata(L, 1, SERVER);
}

static int close_server(lua_State *L) {
    struct server *s = check_server(L);
    if (s->is_source) {
        s->api->remove_source(L, &s->source);
        s->is_source = false;
    }
    server_stop(s);
    s->api->waiter_close(&s->arrived);
    return 0;
}

/*** Opens a socket and serves on it.
 * @param options host (an address or a name, default "127.0.0.1"), port (default 0: any), max_body
 * (bytes, default 16 MiB), max_header (bytes, default 32 KiB), max_connections (default 1000; one
 * more ends the one that has been idle longest), request_timeout (seconds, default 60: until a
 * request has come, and until a client reads on), handler_timeout (seconds, default 600: until an
 * answer has begun)
 * @return the server, closed by `close`, as a `<close>` variable and by the collector; or nil and
 * an error of kind "config". Raises where an option is not valid. */
static int l_listen(lua_State *L) {
    struct error err;
    int fd = -1;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct server_limits limits = check_limits(L);
    int port = (int)whole_option(L, "port", 0, 0, 65535);
    const char *host = check_host(L);
    const struct task_api *api = task_api(L);
    struct server *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct server){.api = api, .poll_fd = -1, .listen_fd = -1, .limits = limits};
    api->waiter_init(L, &s->arrived);
    luaL_setmetatable(L, SERVER);
    raise_file_limit(limits.connections);
    if (!open_socket(s, host, port, &fd, &err)) {
        if (fd >= 0) {
            close(fd);
        }
        return lib_fail(L, &err);
    }
    read_port(s, fd);
    if (!server_start(s, fd, &err)) {
        return lib_fail(L, &err);
    }
    api->add_source(L, &s->source);
    s->is_source = true;
    return 1;
}

/*** @return the port it listens on */
static int m_port(lua_State *L) {
    lua_pushinteger(L, check_server(L)->port);
    return 1;
}

/*** @return whether it can be reached from this machine only */
static int m_is_local(lua_State *L) {
    lua_pushboolean(L, check_server(L)->loopback_only);
    return 1;
}

/*** Takes no more connections; requests that are here go on. */
static int m_stop_listening(lua_State *L) {
    server_stop_listening(check_server(L));
    return 0;
}

static int push_next(lua_State *L, int status, lua_KContext ctx);

static int wait_for_next(lua_State *L, struct server *s) {
    if (s->arrived.task == NULL) {
        s->arrived.ready = false;
    }
    return s->api->wait(L, &s->arrived, 0, push_next);
}

static int push_next(lua_State *L, int status, lua_KContext ctx) {
    struct server *s = check_server(L);
    (void)status;
    (void)ctx;
    for (;;) {
        struct exchange *x = server_next(s);
        if (x == NULL) {
            break;
        }
        lua_pushinteger(L, x->id);
        if (x->in_lua) {
            lua_pushstring(L, x->gone ? "gone" : "late");
            return 2;
        }
        server_push_exchange(L, x);
        if (!x->gone) {
            return 2;
        }
        lua_settop(L, 1); /* its client left before anybody looked */
    }
    if (s->daemon == NULL) {
        return 0;
    }
    if (status == LUA_OK) {
        return wait_for_next(L, s);
    }
    lua_pushboolean(L, 0);
    return 1;
}

/*** Waits, once, for something to do.
 * @return the number of a request and its exchange; or a number and "gone" (its client left) or
 * "late" (its answer should have begun); false (ask again); nothing where the server is closed */
static int m_next(lua_State *L) {
    check_server(L);
    lua_settop(L, 1);
    return push_next(L, LUA_OK, 0);
}

static const luaL_Reg functions[] = {{"listen", l_listen}, {NULL, NULL}};

static const luaL_Reg server_methods[] = {
    {"port", m_port},        {"is_local", m_is_local},
    {"next", m_next},        {"stop_listening", m_stop_listening},
    {"close", close_server}, {NULL, NULL},
};

void server_new_class(lua_State *L, const char *name, const luaL_Reg *methods,
                      lua_CFunction close) {
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pushliteral(L, "moonflow");
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

int luaopen_moonflow__server(lua_State *L) {
    server_new_class(L, SERVER, server_methods, close_server);
    server_open_exchanges(L);
    luaL_newlib(L, functions);
    return 1;
}
