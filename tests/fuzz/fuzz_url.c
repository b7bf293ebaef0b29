/* URLs: whatever is accepted has one reading, and one name stays one path segment. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

/* What was accepted has a clean host, and its origin parses to itself. */
static void check_parse(const char *text, size_t len) {
    struct url url;
    struct url again;
    struct error err;
    char origin[URL_ORIGIN_SIZE];
    char origin_again[URL_ORIGIN_SIZE];
    if (!url_parse(&url, text, len, &err)) {
        require(err.message[0] != '\0');
        return;
    }
    require(url.host[0] != '\0' && strpbrk(url.host, "/?#@\\ \r\n%") == NULL);
    require(url.path_len == 0 || url.path[0] == '/');
    require(memchr(url.path, '?', url.path_len) == NULL);
    url_origin(&url, origin);
    require(url_parse(&again, origin, strlen(origin), &err));
    url_origin(&again, origin_again);
    require(strcmp(origin, origin_again) == 0 && url.port == again.port);
    url_is_loopback(url.host);
}

/* A name that is accepted as a segment adds exactly one slash to the URL, no query and no
 * fragment, and the URL still parses. */
static void check_segment(const char *name, size_t len) {
    static const char base[] = "http://h/base";
    struct url url;
    struct error err;
    struct buf out;
    buf_init(&out, URL_MAX);
    require(url_start(&out, base, strlen(base), &err));
    if (url_add_segment(&out, name, len, &err)) {
        require(url_parse(&url, out.data, out.len, &err));
        require(url.query == NULL && url.path + url.path_len == out.data + out.len);
        const char *segment = url.path + strlen("/base/");
        size_t segment_len = url.path_len - strlen("/base/");
        require(segment_len >= len && memchr(segment, '/', segment_len) == NULL);
        require(strcmp(segment, ".") != 0 && strcmp(segment, "..") != 0);
    }
    buf_clear(&out);
    require(!url_add_pair(&out, name, len, name, len) || strpbrk(out.data, "#? \r\n") == NULL);
    buf_free(&out);
}

static void check_resolve(const char *text, size_t len) {
    struct error err;
    struct buf out;
    const char *space = memchr(text, ' ', len);
    size_t base_len = space != NULL ? (size_t)(space - text) : len;
    const char *endpoint = space != NULL ? space + 1 : text;
    buf_init(&out, URL_MAX);
    if (url_resolve(&out, text, base_len, endpoint, (size_t)(text + len - endpoint), &err)) {
        require(strpbrk(out.data, " \r\n\\") == NULL && strlen(out.data) == out.len);
    }
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    check_parse(text, size);
    check_segment(text, size);
    check_resolve(text, size);
    return 0;
}
