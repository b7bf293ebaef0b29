/* The guard of the server: whatever passes has one framing, and names this machine. The input is
 * five lines: Host, Origin, Content-Length, Transfer-Encoding, and how often each of them came. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/guard.h"

enum { LINES = 5, MOST = 400, PORT = 5000, MAX_BODY = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

/* Splits the input at line breaks; what is missing is empty. Each line ends where its text does. */
static void split(const uint8_t *data, size_t size, char lines[LINES][MOST]) {
    size_t line = 0;
    size_t len = 0;
    memset(lines, 0, (size_t)LINES * MOST);
    for (size_t i = 0; i < size && line < LINES; i++) {
        if (data[i] == '\n') {
            line++;
            len = 0;
        } else if (len < MOST - 1) {
            lines[line][len++] = (char)data[i];
        }
    }
}

static struct guard_header header(const char *value, char count) {
    unsigned n = count != '\0' ? (unsigned char)count % 3 : 1;
    return (struct guard_header){.value = n > 0 ? value : NULL, .count = n};
}

static void check_framing(const struct guard_request *r) {
    require(r->length.count == 0 || r->coding.count == 0);
    require(r->length.count <= 1 && r->coding.count <= 1);
    require(r->coding.count == 0 || strcasecmp(r->coding.value, "chunked") == 0);
    if (r->length.count == 1) {
        char *end;
        require(r->length.value[0] != '\0' &&
                strspn(r->length.value, "0123456789") == strlen(r->length.value));
        require(strtoull(r->length.value, &end, 10) <= r->max_body && *end == '\0');
    }
}

/* The reading of a Host header that everybody agrees on, written in another way. */
static bool names_this_machine(const char *host) {
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    char plain[MOST];
    const char *colon = strrchr(host, ':');
    if (colon != NULL && strncmp(colon + 1, "0", 1) == 0) { /* zeros before a port mean nothing */
        snprintf(plain, sizeof plain, "%.*s:%s", (int)(colon - host), host,
                 colon + 1 + strspn(colon + 1, "0"));
        host = plain;
    }
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 2; k++) {
            char text[32];
            snprintf(text, sizeof text, "%s%s", names[i], k == 0 ? "" : ":5000");
            if (strcasecmp(text, host) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void check_names(const struct guard_request *r) {
    require(r->host.count <= 1 && r->origin.count <= 1);
    require(r->host.count == 1 || (!r->host_required && r->origin.count == 0));
    if (r->host.count == 1) {
        require(strpbrk(r->host.value, " \t\r\n\"\\<>/?#@,%") == NULL);
        require(!r->loopback_only || names_this_machine(r->host.value));
    }
    if (r->origin.count == 1) {
        const char *rest = strstr(r->origin.value, "://");
        require(rest != NULL && strcasecmp(rest + 3, r->host.value) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char lines[LINES][MOST];
    split(data, size, lines);
    const char *counts = lines[4];
    bool all = strlen(counts) >= 5;
    struct guard_request request = {
        .host = header(lines[0], all ? counts[0] : '\0'),
        .origin = header(lines[1], lines[1][0] == '\0' ? '\3'
                                   : all               ? counts[1]
                                                       : '\0'),
        .length = header(lines[2], lines[2][0] == '\0' ? '\3'
                                   : all               ? counts[2]
                                                       : '\0'),
        .coding = header(lines[3], lines[3][0] == '\0' ? '\3'
                                   : all               ? counts[3]
                                                       : '\0'),
        .loopback_only = !all || (counts[4] & 1) == 0,
        .host_required = !all || (counts[4] & 2) == 0,
        .port = PORT,
        .max_body = MAX_BODY,
    };
    const struct guard_refusal *refusal = guard_check(&request);
    if (refusal != NULL) {
        require(refusal->status >= 400 && refusal->status < 600 && refusal->message[0] != '\0');
        return 0;
    }
    check_framing(&request);
    check_names(&request);
    return 0;
}
