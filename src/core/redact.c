/* A list of needles, tried at every place of the text. Encodings are undone while comparing, so a
 * secret that is encoded in part, or with lower-case digits, is found as well. */
#include "core/redact.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base64.h"

static const char bearer[] = "Bearer ";

void redact_init(struct redact *r) {
    *r = (struct redact){0};
}

void redact_free(struct redact *r) {
    for (size_t i = 0; i < r->count; i++) {
        buf_wipe(&r->needles[i]);
    }
    free(r->needles);
    redact_init(r);
}

/* Where the same needle stands, or `count`. */
static size_t find(const struct redact *r, const struct buf *needle) {
    size_t i = 0;
    while (i < r->count && (r->needles[i].len != needle->len ||
                            memcmp(r->needles[i].data, needle->data, needle->len) != 0)) {
        i++;
    }
    return i;
}

static void forget(struct redact *r, size_t i) {
    buf_wipe(&r->needles[i]);
    r->count--;
    memmove(&r->needles[i], &r->needles[i + 1], (r->count - i) * sizeof r->needles[0]);
}

/* Takes over the needle, wiping it where it can not be kept. */
static bool keep(struct redact *r, struct buf *needle) {
    if (r->needles == NULL) {
        r->needles = calloc(REDACT_MAX_NEEDLES, sizeof r->needles[0]);
        if (r->needles == NULL) {
            buf_wipe(needle);
            return false;
        }
    }
    size_t same = find(r, needle);
    if (same < r->count) {
        forget(r, same);
    } else if (r->count == REDACT_MAX_NEEDLES) {
        forget(r, 0);
    }
    r->needles[r->count++] = *needle;
    return true;
}

static bool add_plain(struct redact *r, const char *prefix, const char *secret, size_t len) {
    struct buf needle;
    buf_init(&needle, SIZE_MAX);
    size_t prefix_len = strlen(prefix);
    if (!buf_reserve(&needle, prefix_len + len)) {
        return false;
    }
    buf_append(&needle, prefix, prefix_len);
    buf_append(&needle, secret, len);
    return keep(r, &needle);
}

/* Without the padding, as more bytes may follow the secret in what was encoded. */
static bool add_base64(struct redact *r, const char *secret, size_t len) {
    struct buf needle;
    buf_init(&needle, SIZE_MAX);
    if (!base64_encode(&needle, secret, len)) {
        return false;
    }
    while (needle.data[needle.len - 1] == '=') {
        needle.len--;
    }
    return keep(r, &needle);
}

bool redact_add(struct redact *r, const char *secret, size_t len) {
    if (len == 0) {
        return true;
    }
    if (len < REDACT_MIN) {
        return add_plain(r, bearer, secret, len);
    }
    return add_plain(r, "", secret, len) && add_base64(r, secret, len);
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* How many bytes of text stand for the wanted byte: %XX, or a backslash and itself; else 0. */
static size_t encodes(char wanted, const char *text, size_t len) {
    if (text[0] == '%' && len >= 3 && hex_value(text[1]) == (unsigned char)wanted >> 4 &&
        hex_value(text[2]) == ((unsigned char)wanted & 15)) {
        return 3;
    }
    return text[0] == '\\' && len >= 2 && text[1] == wanted ? 2 : 0;
}

/* The same, or itself. A per cent sign and a backslash may be both, as "%25" is one byte or three.
 */
static size_t stands_for(char wanted, const char *text, size_t len, bool encoded_first) {
    size_t n = encoded_first || text[0] != wanted ? encodes(wanted, text, len) : 0;
    return n == 0 && text[0] == wanted ? 1 : n;
}

/* How many bytes of text the needle covers from the text's start; 0 where it is not there. */
static size_t match_as(const struct buf *needle, const char *text, size_t len, bool encoded_first) {
    size_t used = 0;
    size_t matched = 0;
    while (matched < needle->len && used < len) {
        size_t n = stands_for(needle->data[matched], text + used, len - used, encoded_first);
        if (n == 0) {
            break;
        }
        used += n;
        matched++;
    }
    bool enough =
        matched == needle->len || (needle->len >= REDACT_CUT_MIN && matched >= REDACT_MIN);
    return enough ? used : 0;
}

static size_t match(const struct buf *needle, const char *text, size_t len) {
    size_t plain = match_as(needle, text, len, false);
    size_t encoded = match_as(needle, text, len, true);
    return encoded > plain ? encoded : plain;
}

static size_t longest_match(const struct redact *r, const char *text, size_t len) {
    size_t longest = 0;
    for (size_t i = 0; i < r->count; i++) {
        size_t n = match(&r->needles[i], text, len);
        longest = n > longest ? n : longest;
    }
    return longest;
}

bool redact_text(const struct redact *r, const char *text, size_t len, struct buf *out) {
    /* Every place is tried, hidden or not: secrets may overlap. */
    size_t hidden = 0; /* text before this offset is covered by a mark */
    for (size_t i = 0; i < len; i++) {
        size_t n = longest_match(r, text + i, len - i);
        if (n > 0) {
            if (i >= hidden && !buf_puts(out, REDACT_MARK)) {
                return false;
            }
            hidden = i + n > hidden ? i + n : hidden;
        }
        if (i >= hidden && !buf_putc(out, text[i])) {
            return false;
        }
    }
    return true;
}
