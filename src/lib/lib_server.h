/* The HTTP server under moonflow._server: libmicrohttpd in the loop of the task runtime. Plain C
 * that never touches Lua (lib_server_daemon.c, lib_server_exchange.c, lib_server_head.c), and its
 * Lua face (lib_server.c, lib_server_request.c).
 *
 * An exchange is one request and its answer. It is made when the request's first line is there,
 * belongs to the daemon until its connection is done with it, and to Lua from when it is handed out
 * until its userdata is collected; whoever lets go last frees it. While Lua works on it the
 * connection is suspended, which libmicrohttpd does not watch then: a descriptor of ours does. */
#ifndef MOONFLOW_LIB_LIB_SERVER_H
#define MOONFLOW_LIB_LIB_SERVER_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/error.h"
#include "core/guard.h"
#include "lib/task_api.h"

enum {
    SERVER_METHOD_MAX = 15,   /* bytes of a method's name */
    SERVER_HEADERS_MAX = 100, /* lines of a request's head */
    SERVER_WINDOW = 64 * 1024 /* bytes of a streamed body that wait before their writer does */
};

enum exchange_state {
    EXCHANGE_READING, /* the request is coming */
    EXCHANGE_WAITING, /* the request is whole; nobody has answered */
    EXCHANGE_STREAM,  /* its answer's body is being written */
    EXCHANGE_ENDED    /* the whole answer is with the daemon, or there will be none */
};

struct server;
struct connection;

struct exchange {
    struct server *server;
    struct connection *connection; /* NULL when the daemon is done with it */
    struct exchange *next;         /* in the server's queue */
    lua_Integer id;
    enum exchange_state state;
    bool in_daemon; /* who holds it */
    bool in_lua;
    bool queued;
    bool suspended;
    bool gone;       /* its client left, or its server closed: nobody reads an answer */
    bool is_late;    /* told to Lua that it took too long */
    bool is_chunked; /* the request's body */
    bool cut;        /* the connection ends without the end of the answer */
    int64_t started;
    char method[SERVER_METHOD_MAX + 1];
    char *target; /* as it came: path and query, percent-encoded */
    struct buf body;
    size_t dropped; /* bytes of the body beyond the limit */
    struct MHD_Response *response;
    unsigned status;
    const struct guard_refusal *refusal;
    struct buf out; /* of a streamed body: what the daemon has not taken yet */
    size_t taken;
    struct waiter room; /* the writer's */
};

struct connection {
    struct connection *next;
    struct connection *previous;
    struct server *server;
    struct MHD_Connection *mhd;
    struct exchange *exchange; /* the one under way, or NULL */
    int fd;
    int64_t since; /* when it began to wait for a request */
    bool finished; /* its client has closed its side */
    bool left;     /* we have ended it */
};

struct server_limits {
    uint64_t max_body;       /* bytes */
    unsigned max_header;     /* bytes of a request's head */
    unsigned connections;    /* at once */
    int64_t request_timeout; /* nanoseconds until a request has come, and until a client reads on */
    int64_t handler_timeout; /* nanoseconds until an answer begins */
};

struct server {
    const struct task_api *api;
    struct source source;
    bool is_source;
    struct MHD_Daemon *daemon;
    int poll_fd;   /* epoll: the daemon's own descriptor, and each connection's end */
    int listen_fd; /* -1 when it takes no more */
    bool loopback_only;
    char name[256]; /* of its host, as it was told; in brackets where that is an IPv6 address */
    int port;
    struct server_limits limits;
    struct connection *first; /* newest first */
    unsigned connections;
    bool must_run; /* something was resumed */
    int64_t sweep_at;
    struct exchange *first_queued; /* what Lua is to be told of */
    struct exchange *last_queued;
    lua_Integer last_id;
    struct waiter arrived;
};

/* Starts to serve on a bound socket, which it takes over. False with `err` set where it can not. */
bool server_start(struct server *s, int listen_fd, struct error *err);

/* Takes no more connections; those that are there go on. */
void server_stop_listening(struct server *s);

/* Ends everything, at any time and any number of times. Exchanges that Lua holds are gone then. */
void server_stop(struct server *s);

/* The next exchange that Lua has to look at: new, gone or late. NULL where there is none. */
struct exchange *server_next(struct server *s);

/* Answers with a whole response, or begins a stream; takes the response over. */
void exchange_answer(struct exchange *x, unsigned status, struct MHD_Response *response);
void exchange_stream(struct exchange *x, unsigned status);

/* The response whose body the exchange's writer gives. NULL without memory. */
struct MHD_Response *exchange_new_stream(struct exchange *x);

/* Lets the daemon go on with what was written. */
void exchange_wrote(struct exchange *x);

/* The body is complete; or, with `cut`, the connection ends here. */
void exchange_finish(struct exchange *x, bool cut);

/* Whether libmicrohttpd is of before 1.0, which reads requests in ways that we must look at. */
bool server_is_lax(void);

/* Why a request is refused, before its body is read; NULL where it is fine (lib_server_head.c). */
const struct guard_refusal *server_check_head(struct exchange *x, struct MHD_Connection *mhd,
                                              const char *url, const char *method,
                                              const char *version);

/* Lua lets go of it. */
void exchange_release(struct exchange *x);

/* For the daemon (lib_server_daemon.c). Frees it where nobody holds it any more. */
void exchange_free(struct exchange *x);

/* Puts it where Lua looks, once. */
void exchange_enqueue(struct exchange *x);

/* Nobody will read more of the answer. */
void exchange_lose(struct exchange *x);

/* The daemon leaves its connection alone, and goes on with it. */
void exchange_suspend(struct exchange *x);
void exchange_resume(struct exchange *x);

/* The Lua face. The class of exchanges, whose methods are in lib_server_request.c; the userdata of
 * a new one, which keeps the server that is at stack index 1; and a class as all of them are. */
void server_open_exchanges(lua_State *L);
void server_push_exchange(lua_State *L, struct exchange *x);
void server_new_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close);

#endif
