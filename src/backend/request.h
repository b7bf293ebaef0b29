/* What the built-in backends share: requests out of a method's arguments. A method is
 * function(self, args); sending, retrying and paging are the pipeline's, which self:send,
 * self:stream and self:pages lead to. */
#ifndef MOONFLOW_BACKEND_REQUEST_H
#define MOONFLOW_BACKEND_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

/* The stack of each method. */
enum { REQUEST_SELF = 1, REQUEST_ARGS = 2, REQUEST_RESULT = 3 };

/* A name: inside a Lua string that stays on the stack, or in a table there. */
struct request_name {
    const char *text;
    size_t len;
};

/* An argument that is a name, which the arguments keep. Raises where it is missing, with `why`.
 * [-0, +0, e] */
struct request_name request_argument(lua_State *L, const char *operation, const char *field,
                                     const char *why);

/* The argument `endpoint`; see request_argument. [-0, +0, e] */
struct request_name request_endpoint(lua_State *L, const char *operation, const char *why);

/* Pops a URL and pushes it with `path` behind it, then `name` as one segment where it is not NULL,
 * then `tail`. Raises where the name can be no segment. [-1, +1, e] */
void request_extend_url(lua_State *L, const char *path, const struct request_name *name,
                        const char *tail);

/* Turns the URL on top of the stack into a call of self:`sender` that is ready to be made: the
 * function, self, and a request for the URL with the call's options and the hints at `hints`, to
 * which more fields may be added. [-1, +3, e] */
void request_push(lua_State *L, const char *sender, const char *method, int hints);

/* Sets a field of the request on top of the stack. [-0, +0, e] */
void request_set(lua_State *L, const char *field, const char *value);

/* Pushes a copy of the argument `inputs`, which must be a table with names. [-0, +1, e] */
void request_push_inputs(lua_State *L, const char *operation);

/* Queries the endpoint at the URL on top of the stack: the argument `inputs` is the body, with
 * "stream": true for a stream. A method's last step. [-1, +n, e] */
int request_query(lua_State *L, const char *operation, int hints, bool stream);

/* Makes the call that request_push began, and returns all that it returns: a method's last step.
 * [-3, +n, e] */
int request_call(lua_State *L);

/* Pushes the function `name` of a module. [-0, +1, e] */
void request_push_function(lua_State *L, const char *module, const char *name);

/* Pushes settings.place(self): where the client's requests go. Returns its index. [-0, +1, e] */
int request_push_place(lua_State *L);

/* Raises an error of kind decode. [-0, +0, v] */
int request_raise_decode(lua_State *L, const char *message);

/* Puts what the Lua half of a backend, a module, has of a class's definition into the one on top of
 * the stack: init, options, signatures, and how the place and the credential are found. [-0, +0, e]
 */
void request_set_lua_half(lua_State *L, const char *module);

/* Pushes a backend's table, whose class BaseDeploymentClient:extend makes of the definition on top
 * of the stack. [-1, +1, e] */
void request_push_backend(lua_State *L, const char *name, const char *description,
                          const char *help);

#endif
