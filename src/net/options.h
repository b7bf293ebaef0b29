/* The options of libcurl that every request gets, as data: transfer.c applies this list and
 * nothing else decides on security, and a test holds it against the list it should be. */
#ifndef MOONFLOW_NET_OPTIONS_H
#define MOONFLOW_NET_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "net/transfer.h"

enum { OPTIONS_MAX = 64 };

enum option_type { OPTION_LONG, OPTION_SIZE, OPTION_TEXT };

struct option {
    int id;           /* CURLOPT_... */
    const char *name; /* its name without CURLOPT_ */
    enum option_type type;
    int64_t number;   /* OPTION_LONG, OPTION_SIZE */
    const char *text; /* OPTION_TEXT; NULL unsets libcurl's default */
};

struct options {
    struct option list[OPTIONS_MAX];
    size_t count;
    struct buf no_proxy; /* backs one of the texts */
};

/* Whether libcurl can use this as a proxy. It must be asked first: libcurl's own message about one
 * that it can not use shows the password in it. */
bool options_can_proxy(const char *proxy);

/* Fills in the options for a request: all of them, or those alone that differ between requests of
 * one profile. The texts live as long as the request's and `o`. False when memory runs out. */
bool options_init(struct options *o, const struct transfer_request *request, bool all);

void options_free(struct options *o);

#endif
