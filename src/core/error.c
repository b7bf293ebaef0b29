/* Error kinds, MLflow's error codes and the exit codes: three tables and their look-ups. What an
 * error looks like to Lua and to people is not known here. */
#include "core/error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *code; /* of an error of this kind that names no other */
    int exit_code;
} kinds[] = {
    [ERROR_USAGE] = {"usage", "INVALID_PARAMETER_VALUE", 2},
    [ERROR_CONFIG] = {"config", "INVALID_PARAMETER_VALUE", 2},
    [ERROR_AUTH] = {"auth", "UNAUTHENTICATED", 4},
    [ERROR_NETWORK] = {"network", "TEMPORARILY_UNAVAILABLE", 8},
    [ERROR_TIMEOUT] = {"timeout", "DEADLINE_EXCEEDED", 9},
    [ERROR_HTTP] = {"http", "INTERNAL_ERROR", 6},
    [ERROR_DECODE] = {"decode", "INTERNAL_ERROR", 6},
    [ERROR_UNSUPPORTED] = {"unsupported", "NOT_IMPLEMENTED", 5},
    [ERROR_PLUGIN] = {"plugin", "INTERNAL_ERROR", 10},
    [ERROR_CANCELLED] = {"cancelled", "CANCELLED", 130},
};

enum { KIND_COUNT = sizeof kinds / sizeof kinds[0] };

/* Several codes share a status; `chosen` marks the one that MLflow reads back from it. Codes that
 * MLflow maps to no status count as 500. */
static const struct {
    const char *name;
    int status;
    bool chosen;
} codes[] = {
    {"INTERNAL_ERROR", 500, true},
    {"TEMPORARILY_UNAVAILABLE", 503, true},
    {"IO_ERROR", 500, false},
    {"BAD_REQUEST", 400, true},
    {"SERVICE_UNDER_MAINTENANCE", 500, false},
    {"WORKSPACE_TEMPORARILY_UNAVAILABLE", 500, false},
    {"DEADLINE_EXCEEDED", 504, true},
    {"CANCELLED", 499, true},
    {"RESOURCE_EXHAUSTED", 429, true},
    {"ABORTED", 409, false},
    {"NOT_FOUND", 404, false},
    {"ALREADY_EXISTS", 409, true},
    {"UNAUTHENTICATED", 401, true},
    {"INVALID_PARAMETER_VALUE", 400, false},
    {"ENDPOINT_NOT_FOUND", 404, true},
    {"MALFORMED_REQUEST", 500, false},
    {"INVALID_STATE", 500, false},
    {"PERMISSION_DENIED", 403, true},
    {"FEATURE_DISABLED", 500, false},
    {"CUSTOMER_UNAUTHORIZED", 401, false},
    {"REQUEST_LIMIT_EXCEEDED", 429, false},
    {"RESOURCE_CONFLICT", 409, false},
    {"UNPARSEABLE_HTTP_ERROR", 500, false},
    {"NOT_IMPLEMENTED", 501, true},
    {"DATA_LOSS", 500, false},
    {"INVALID_STATE_TRANSITION", 500, false},
    {"COULD_NOT_ACQUIRE_LOCK", 500, false},
    {"RESOURCE_ALREADY_EXISTS", 400, false},
    {"RESOURCE_DOES_NOT_EXIST", 404, false},
};

enum { CODE_COUNT = sizeof codes / sizeof codes[0] };

/* Formats into a fixed array; text that does not fit ends at a whole UTF-8 character. */
__attribute__((format(printf, 3, 0))) static void format_into(char *out, size_t size,
                                                              const char *format, va_list args) {
    int n = vsnprintf(out, size, format, args);
    if (n < 0) {
        out[0] = '\0';
        return;
    }
    if ((size_t)n < size) {
        return;
    }
    size_t end = size - 1;
    size_t start = end;
    while (start > 0 && ((unsigned char)out[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    unsigned char lead = (unsigned char)out[start - 1];
    size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (end - (start - 1) < length) {
        out[start - 1] = '\0';
    }
}

bool error_set(struct error *err, enum error_kind kind, const char *code, const char *format, ...) {
    *err = (struct error){.kind = kind, .code = code != NULL ? code : kinds[kind].code};
    va_list args;
    va_start(args, format);
    format_into(err->message, sizeof err->message, format, args);
    va_end(args);
    return false;
}

void error_hint(struct error *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    format_into(err->hint, sizeof err->hint, format, args);
    va_end(args);
}

const char *error_kind_name(enum error_kind kind) {
    return kinds[kind].name;
}

bool error_kind_from_name(const char *name, enum error_kind *kind) {
    for (int i = 0; i < KIND_COUNT; i++) {
        if (strcmp(kinds[i].name, name) == 0) {
            *kind = (enum error_kind)i;
            return true;
        }
    }
    return false;
}

const char *error_code_from_status(int status) {
    for (int i = 0; i < CODE_COUNT; i++) {
        if (codes[i].chosen && codes[i].status == status) {
            return codes[i].name;
        }
    }
    return "INTERNAL_ERROR";
}

static int find_code(const char *name) {
    for (int i = 0; i < CODE_COUNT; i++) {
        if (strcmp(codes[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

int error_status_from_code(const char *code) {
    int i = find_code(code);
    return i < 0 ? 500 : codes[i].status;
}

const char *error_code_find(const char *code) {
    int i = find_code(code);
    return i < 0 ? NULL : codes[i].name;
}

int error_exit_code(enum error_kind kind, int status) {
    if (kind != ERROR_HTTP) {
        return kinds[kind].exit_code;
    }
    switch (status) {
    case 401:
    case 403:
        return kinds[ERROR_AUTH].exit_code;
    case 404:
        return 3;
    case 429:
        return 7;
    default:
        return status >= 400 && status < 500 ? 5 : kinds[ERROR_HTTP].exit_code;
    }
}
