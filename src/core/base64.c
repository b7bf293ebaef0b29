/* Base64 encoding; nothing here needs the other direction. */
#include "core/base64.h"

#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_length(size_t n) {
    return (n / 3 + (n % 3 != 0)) * 4;
}

bool base64_encode(struct buf *out, const void *bytes, size_t n) {
    if (n > SIZE_MAX / 2 || !buf_reserve(out, base64_length(n))) {
        return false;
    }
    const unsigned char *in = bytes;
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t group = (uint32_t)in[i] << 16;
        group |= have > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        group |= have > 2 ? (uint32_t)in[i + 2] : 0;
        char quad[4] = {
            alphabet[group >> 18 & 63],
            alphabet[group >> 12 & 63],
            have > 1 ? alphabet[group >> 6 & 63] : '=',
            have > 2 ? alphabet[group & 63] : '=',
        };
        buf_append(out, quad, sizeof quad);
    }
    return true;
}
