/* Server-sent events: however the bytes are cut, the events are the same; they are valid UTF-8 and
 * within the limit. The first bytes of the input choose the limit and the cuts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/sse.h"

enum { HEAD = 4, EVENTS_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

/* Reads a character the plain way, as a number, and rejects what no encoder writes. */
static size_t utf8_len(const unsigned char *p, size_t left) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80             ? 1
                 : (p[0] & 0xE0) == 0xC0 ? 2
                 : (p[0] & 0xF0) == 0xE0 ? 3
                 : (p[0] & 0xF8) == 0xF0 ? 4
                                         : 0;
    require(len > 0 && len <= left);
    uint32_t code = len == 1 ? p[0] : p[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        require((p[i] & 0xC0) == 0x80);
        code = code << 6 | (p[i] & 0x3F);
    }
    require(code >= smallest[len] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF));
    return len;
}

static void require_utf8(const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        i += utf8_len((const unsigned char *)text + i, len - i);
    }
}

static void record(struct buf *trace, const struct sse_event *event, size_t max) {
    require_utf8(event->type, event->type_len);
    require_utf8(event->data, event->data_len);
    require(event->type_len + event->data_len <= max);
    require(memchr(event->type, '\n', event->type_len) == NULL);
    require(memchr(event->data, '\r', event->data_len) == NULL);
    require(buf_printf(trace, "event %zu %zu ", event->type_len, event->data_len));
    require(buf_append(trace, event->type, event->type_len));
    require(buf_append(trace, event->data, event->data_len));
}

/* All of one piece, in memory of its exact size. */
static enum sse_result feed(struct sse *s, const uint8_t *bytes, size_t len, struct buf *trace) {
    enum sse_result result;
    struct sse_event event;
    size_t used = 0;
    size_t before = 0;
    char *piece = malloc(len + (len == 0));
    require(piece != NULL);
    memcpy(piece, bytes, len);
    while ((result = sse_next(s, piece, len, &used, &event)) == SSE_EVENT) {
        require(used > before && used <= len);
        before = used;
        record(trace, &event, s->max);
    }
    require(result != SSE_MORE || used == len);
    free(piece);
    return result;
}

/* Parses the bytes in pieces of 0 to 8 bytes by the seed, or whole where it is 0. */
static void parse(const uint8_t *bytes, size_t len, size_t max, uint32_t seed, struct buf *trace) {
    struct sse s;
    enum sse_result result = SSE_MORE;
    bool whole = seed == 0;
    sse_init(&s, max);
    for (size_t at = 0; at < len && result == SSE_MORE;) {
        seed = seed * UINT32_C(1664525) + UINT32_C(1013904223);
        size_t n = whole ? len : (seed >> 16) % 9;
        n = n < len - at ? n : len - at;
        result = feed(&s, bytes + at, n, trace);
        at += n;
    }
    require(buf_printf(trace, "end %d", (int)result));
    sse_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf whole;
    struct buf cut;
    if (size < HEAD) {
        return 0;
    }
    size_t max = data[0];
    uint32_t seed = 1u + (uint32_t)(data[1] | data[2] << 8 | data[3] << 16);
    buf_init(&whole, EVENTS_MAX);
    buf_init(&cut, EVENTS_MAX);
    parse(data + HEAD, size - HEAD, max, 0, &whole);
    parse(data + HEAD, size - HEAD, max, seed, &cut);
    require(whole.len == cut.len && memcmp(whole.data, cut.data, whole.len) == 0);
    buf_free(&whole);
    buf_free(&cut);
    return 0;
}
