/* One kind of error, whatever failed (DESIGN section 5). Plain C: the Lua object is made from it in
 * src/lib/lib_error.c. Codes and their HTTP statuses are MLflow's (spec/mlflow.md 1.5). */
#ifndef MOONFLOW_CORE_ERROR_H
#define MOONFLOW_CORE_ERROR_H

#include <stdbool.h>

enum error_kind {
    ERROR_USAGE,
    ERROR_CONFIG,
    ERROR_AUTH,
    ERROR_NETWORK,
    ERROR_TIMEOUT,
    ERROR_HTTP,
    ERROR_DECODE,
    ERROR_UNSUPPORTED,
    ERROR_PLUGIN,
    ERROR_CANCELLED
};

enum { ERROR_MESSAGE_SIZE = 512, ERROR_HINT_SIZE = 256 };

struct error {
    enum error_kind kind;
    const char *code; /* an MLflow error code's name, static storage, never NULL */
    const char
        *phase; /* "resolve", "connect", "send", "first byte", "body", "idle", "total" or NULL */
    bool sent;  /* a byte of the request may have reached the server */
    char message[ERROR_MESSAGE_SIZE];
    char hint[ERROR_HINT_SIZE]; /* what to try, or "" */
};

/* Fills `err` whole (phase NULL, sent false, no hint). `code` NULL takes the kind's usual code:
 * usage and config INVALID_PARAMETER_VALUE, auth UNAUTHENTICATED, network TEMPORARILY_UNAVAILABLE,
 * timeout DEADLINE_EXCEEDED, http, decode and plugin INTERNAL_ERROR, unsupported NOT_IMPLEMENTED,
 * cancelled CANCELLED. Long messages are cut at a character. Returns false always, so that a
 * failing function can end in `return error_set(err, ...)`. */
bool error_set(struct error *err, enum error_kind kind, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Sets the hint of an error that is set. */
void error_hint(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "usage", "config", ...: the name of a kind, static. */
const char *error_kind_name(enum error_kind kind);

/* False where `name` is no kind; `kind` is then untouched. */
bool error_kind_from_name(const char *name, enum error_kind *kind);

/* The code that MLflow chooses from an HTTP status; INTERNAL_ERROR where it names none. */
const char *error_code_from_status(int status);

/* The HTTP status that MLflow maps a code to; 500 for a code it does not list. */
int error_status_from_code(const char *code);

/* The static name of an MLflow error code, or NULL where there is no such code. */
const char *error_code_find(const char *code);

/* Exit code of an uncaught error of this kind (DESIGN section 5); `status` 0 where there is none.
 */
int error_exit_code(enum error_kind kind, int status);

#endif
