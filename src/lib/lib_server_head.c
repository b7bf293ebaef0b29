/* The head of a request, looked at before anything else is done with it: what guard.c judges, and
 * what libmicrohttpd lets pass. */
#include <string.h>
#include <strings.h>

#include "lib/lib_server.h"

struct head {
    struct guard_request request;
    unsigned count;   /* of its lines */
    bool is_bad;      /* a line that two readers could take in two ways */
    const char *next; /* where the next line must begin; NULL where that is not known */
};

static bool is_target(const char *text) {
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text <= ' ' || *text == 0x7F) {
            return false;
        }
    }
    return true;
}

/* Looks at how a line was written. Before 1.0, libmicrohttpd takes lines that end in LF alone,
 * joins continued ones with their names, ends values at a NUL, and tells nobody. But it leaves the
 * head where it came, with a NUL behind each word, so the room between the words tells. */
static void check_layout(struct head *head, const char *name, const char *value) {
    const char *colon = name + strlen(name);
    if (head->next == NULL) {
        return;
    }
    if (name != head->next || value != colon + 1 + strspn(colon + 1, " \t")) {
        head->is_bad = true;
        head->next = NULL;
        return;
    }
    head->next = value + strlen(value) + strlen("\r\n");
}

static enum MHD_Result read_line(void *ctx, enum MHD_ValueKind kind, const char *name,
                                 const char *value) {
    struct head *head = ctx;
    struct guard_request *r = &head->request;
    struct guard_header *header = strcasecmp(name, "Host") == 0                ? &r->host
                                  : strcasecmp(name, "Origin") == 0            ? &r->origin
                                  : strcasecmp(name, "Content-Length") == 0    ? &r->length
                                  : strcasecmp(name, "Transfer-Encoding") == 0 ? &r->coding
                                                                               : NULL;
    (void)kind;
    value = value != NULL ? value : "";
    head->count++;
    head->is_bad = head->is_bad || !guard_is_line(name, value);
    check_layout(head, name, value);
    if (header != NULL) {
        header->count++;
        header->value = value;
    }
    return MHD_YES;
}

bool server_is_lax(void) {
    return strncmp(MHD_get_version(), "0.", 2) == 0;
}

/* The first line's end, where it was written as it should be. */
static const char *end_of_first_line(const struct exchange *x, const char *url, const char *method,
                                     const char *version) {
    const char *target = method + strlen(method) + strlen(" ");
    bool is_plain = url == target && version == target + strlen(x->target) + strlen(" ");
    return is_plain ? version + strlen(version) + strlen("\r\n") : NULL;
}

static bool is_whole(const struct head *head, struct MHD_Connection *mhd, const char *method) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info != NULL && head->next + strlen("\r\n") == method + info->header_size;
}

const struct guard_refusal *server_check_head(struct exchange *x, struct MHD_Connection *mhd,
                                              const char *url, const char *method,
                                              const char *version) {
    static const struct guard_refusal bad_method = {501, "this method is not known"};
    static const struct guard_refusal too_many = {431, "too many headers"};
    static const struct guard_refusal malformed = {400, "a request that is not well-formed"};
    const struct server *s = x->server;
    bool is_lax = server_is_lax();
    struct head head = {.request = {.loopback_only = s->loopback_only,
                                    .host_required = strcmp(version, MHD_HTTP_VERSION_1_0) != 0,
                                    .name = s->name,
                                    .port = s->port,
                                    .max_body = s->limits.max_body},
                        .next = is_lax ? end_of_first_line(x, url, method, version) : NULL};
    head.is_bad = !is_target(x->target) || (is_lax && head.next == NULL);
    MHD_get_connection_values(mhd, MHD_HEADER_KIND, read_line, &head);
    if (strlen(method) > SERVER_METHOD_MAX) {
        return &bad_method;
    }
    if (head.count > SERVER_HEADERS_MAX) {
        return &too_many;
    }
    if (head.is_bad || !guard_is_line(method, "") || (is_lax && !is_whole(&head, mhd, method))) {
        return &malformed;
    }
    x->is_chunked = head.request.coding.count > 0;
    return guard_check(&head.request);
}
