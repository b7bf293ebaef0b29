/* A line is never collected: its name is at most five bytes that matter, and its value goes
 * straight into the event. So lines that are ignored take no memory, whatever their length, and no
 * byte is looked at again when a line comes in pieces. UTF-8 is checked once, when the event is
 * whole; no character crosses a line, because LF and CR are never part of one. */
#include "core/sse.h"

#include <stdint.h>
#include <string.h>

enum {
    WORD = sizeof(uint64_t),
    KEPT_CAPACITY = 64 << 10, /* memory beyond it goes back after a big event */
};

static const char byte_order_mark[] = "\xEF\xBB\xBF";
static const unsigned char MARK_LEN = sizeof byte_order_mark - 1;
static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */
static const uint64_t ONES = UINT64_C(0x0101010101010101);
static const uint64_t HIGH_BITS = UINT64_C(0x8080808080808080);

void sse_init(struct sse *s, size_t max) {
    *s = (struct sse){.max = max};
    buf_init(&s->data, max);
    buf_init(&s->type, max);
}

void sse_free(struct sse *s) {
    buf_free(&s->data);
    buf_free(&s->type);
}

static uint64_t load(const char *p) {
    uint64_t word;
    memcpy(&word, p, WORD);
    return word;
}

/* The length of a character by its first byte; 0 for a byte that can not be one. */
static size_t character_len(unsigned char lead) {
    if (lead < 0x80) {
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) {
        return 0;
    }
    return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/* The length of the character at p. Where the bytes are none, *valid is false and the length is
 * that of its longest beginning that could have become one, at least 1 (Unicode 3.9, "maximal
 * subpart"): as much as one U+FFFD stands for. */
static size_t character(const char *p, const char *end, bool *valid) {
    unsigned char lead = (unsigned char)*p;
    /* The second byte's range is narrower for some leads: no overlong form, no surrogate, nothing
     * above U+10FFFF. */
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    size_t len = character_len(lead);
    size_t n = 1;
    while (n < len && p + n < end && (unsigned char)p[n] >= low && (unsigned char)p[n] <= high) {
        low = 0x80;
        high = 0xBF;
        n++;
    }
    *valid = n == len;
    return n;
}

static const char *skip_ascii(const char *p, const char *end) {
    while (end - p >= WORD && (load(p) & HIGH_BITS) == 0) {
        p += WORD;
    }
    while (p < end && (*p & 0x80) == 0) {
        p++;
    }
    return p;
}

/* The end of the valid UTF-8 that starts at p. */
static const char *skip_valid(const char *p, const char *end) {
    bool valid = true;
    p = skip_ascii(p, end);
    while (p < end) {
        size_t n = character(p, end, &valid);
        if (!valid) {
            break;
        }
        p += n;
        if (p < end && (*p & 0x80) == 0) {
            p = skip_ascii(p, end);
        }
    }
    return p;
}

static const char *text_of(const struct buf *text) {
    return text->len > 0 ? text->data : "";
}

/* Puts U+FFFD for what is not UTF-8. False where the text gets too long or memory is out. */
static bool repair(struct buf *text) {
    const char *p = text_of(text);
    const char *end = p + text->len;
    const char *valid_end = skip_valid(p, end);
    if (valid_end == end) {
        return true;
    }
    struct buf repaired;
    bool ok = true;
    buf_init(&repaired, text->max);
    while (ok && p < end) {
        ok = buf_append(&repaired, p, (size_t)(valid_end - p));
        p = valid_end;
        if (ok && p < end) {
            bool valid;
            p += character(p, end, &valid);
            ok = buf_puts(&repaired, replacement);
            valid_end = skip_valid(p, end);
        }
    }
    buf_free(text);
    *text = repaired;
    return ok;
}

/* Whether a byte of the word is c: high bits come out only where x has a byte of zeros. */
static bool has_byte(uint64_t word, char c) {
    uint64_t x = word ^ (ONES * (unsigned char)c);
    return ((x - ONES) & ~x & HIGH_BITS) != 0;
}

/* The first CR or LF, or the end. One search for both: a memchr for each would look at the whole
 * rest of the piece for every line where one of them is rare. */
static const char *find_line_end(const char *p, const char *end) {
    while (end - p >= WORD) {
        uint64_t word = load(p);
        if (has_byte(word, '\n') || has_byte(word, '\r')) {
            break;
        }
        p += WORD;
    }
    while (p < end && *p != '\n' && *p != '\r') {
        p++;
    }
    return p;
}

/* Appends to the event's data or type. False where the event gets too long. */
static bool add(struct sse *s, struct buf *text, const char *bytes, size_t n) {
    return n <= s->max - s->data.len - s->type.len && buf_append(text, bytes, n);
}

static enum sse_field field_named(const char *name, size_t len) {
    if (len == 4 && memcmp(name, "data", 4) == 0) {
        return SSE_DATA;
    }
    if (len == 5 && memcmp(name, "event", 5) == 0) {
        return SSE_TYPE;
    }
    return len == 5 && memcmp(name, "error", 5) == 0 ? SSE_ERROR : SSE_OTHER;
}

/* The name is over, by its colon or by the end of the line. A comment is a line with no name. */
static bool begin_value(struct sse *s) {
    s->field = field_named(s->name, s->name_len);
    s->part = SSE_SPACE;
    switch (s->field) {
    case SSE_OTHER:
        s->part = SSE_IGNORED;
        return true;
    case SSE_TYPE:
        buf_clear(&s->type);
        return true;
    case SSE_ERROR:
        buf_clear(&s->type);
        if (!add(s, &s->type, "error", 5)) {
            return false;
        }
        break;
    case SSE_DATA:
        break;
    }
    s->data_lines++;
    return s->data_lines == 1 || add(s, &s->data, "\n", 1);
}

/* Takes bytes of a line, none of them its end. False where the event gets too long. */
static bool take(struct sse *s, const char *p, const char *end) {
    while (p < end && s->part == SSE_NAME) {
        char c = *p++;
        if (c == ':') {
            if (!begin_value(s)) {
                return false;
            }
        } else if (s->name_len < SSE_NAME_MAX) {
            s->name[s->name_len++] = c;
        } else {
            s->part = SSE_IGNORED;
        }
    }
    if (p < end && s->part == SSE_SPACE) {
        s->part = SSE_VALUE;
        p += *p == ' ';
    }
    if (s->part != SSE_VALUE) {
        return true;
    }
    return add(s, s->field == SSE_TYPE ? &s->type : &s->data, p, (size_t)(end - p));
}

static void empty(struct buf *text) {
    if (text->cap > KEPT_CAPACITY) {
        buf_free(text);
    } else if (text->len > 0) {
        buf_clear(text);
    }
}

static void begin_event(struct sse *s) {
    empty(&s->data);
    empty(&s->type);
    s->data_lines = 0;
    s->given = false;
}

static enum sse_result end_event(struct sse *s, struct sse_event *event) {
    if (s->data_lines == 0) {
        begin_event(s);
        return SSE_MORE;
    }
    if (!repair(&s->data) || !repair(&s->type) || s->data.len > s->max - s->type.len) {
        return SSE_TOO_LONG;
    }
    *event = (struct sse_event){text_of(&s->type), s->type.len, text_of(&s->data), s->data.len};
    s->given = true;
    return SSE_EVENT;
}

/* On a second data line the data has an LF before it. */
static bool is_done_line(const struct sse *s) {
    static const char done[] = "[DONE]";
    return s->field == SSE_DATA && s->data.len == sizeof done - 1 &&
           memcmp(s->data.data, done, sizeof done - 1) == 0;
}

static enum sse_result end_line(struct sse *s, struct sse_event *event) {
    bool blank = s->part == SSE_NAME && s->name_len == 0;
    bool fits = s->part != SSE_NAME || blank || begin_value(s);
    bool done = is_done_line(s);
    s->part = SSE_NAME;
    s->field = SSE_OTHER;
    s->name_len = 0;
    if (!fits) {
        return SSE_TOO_LONG;
    }
    if (done) {
        return SSE_DONE;
    }
    return blank ? end_event(s, event) : SSE_MORE;
}

/* Skips a byte order mark. A line that begins with a part of one has no name that we know. */
static const char *skip_mark(struct sse *s, const char *p, const char *end) {
    while (p < end && s->mark_len < MARK_LEN) {
        if (*p != byte_order_mark[s->mark_len]) {
            s->part = s->mark_len > 0 ? SSE_IGNORED : SSE_NAME;
            s->mark_len = MARK_LEN;
            return p;
        }
        s->mark_len++;
        p++;
    }
    return p;
}

/* Reads one line, or as much of it as is there; *at moves behind it. */
static enum sse_result read_line(struct sse *s, const char **at, const char *end,
                                 struct sse_event *event) {
    const char *start = *at + (s->after_cr && **at == '\n');
    const char *stop = find_line_end(start, end);
    s->after_cr = false;
    *at = stop;
    if (!take(s, start, stop)) {
        return SSE_TOO_LONG;
    }
    if (stop == end) {
        return SSE_MORE;
    }
    s->after_cr = *stop == '\r';
    *at = stop + 1;
    return end_line(s, event);
}

enum sse_result sse_next(struct sse *s, const char *bytes, size_t len, size_t *used,
                         struct sse_event *event) {
    if (s->given) {
        begin_event(s);
    }
    if (s->outcome != SSE_MORE || *used == len) {
        return s->outcome;
    }
    const char *end = bytes + len;
    const char *at = skip_mark(s, bytes + *used, end);
    enum sse_result result = SSE_MORE;
    while (result == SSE_MORE && at < end) {
        result = read_line(s, &at, end, event);
    }
    *used = (size_t)(at - bytes);
    if (result != SSE_EVENT) {
        s->outcome = result;
    }
    return result;
}
