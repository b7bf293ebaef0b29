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

/* The six bits of each character of the alphabet, plus one; 0 for all others. */
static const unsigned char VALUES[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};

/* The characters without the padding, which has to complete a group of four where it is there. */
static size_t without_padding(const char *text, size_t n) {
    size_t left = n;
    while (left > 0 && n - left < 2 && text[left - 1] == '=') {
        left--;
    }
    return left < n && n % 4 != 0 ? SIZE_MAX : left;
}

/* Writes one to three bytes out of two to four characters; the bits of a bad one are all set. */
static bool decode_group(unsigned char *out, const unsigned char *in, size_t have) {
    uint32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t value = i < have ? (uint32_t)VALUES[in[i]] - 1 : 0;
        if (value > 63) {
            return false;
        }
        group = group << 6 | value;
    }
    size_t bytes = have - 1;
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (unsigned char)(group >> (16 - 8 * i));
    }
    return bytes == 3 || (group & (0xFFFFFFu >> (8 * bytes))) == 0;
}

bool base64_decode(struct buf *out, const char *text, size_t n) {
    n = without_padding(text, n);
    size_t bytes = n / 4 * 3 + (n % 4 > 0 ? n % 4 - 1 : 0);
    if (n == SIZE_MAX || n % 4 == 1 || !buf_reserve(out, bytes)) {
        return false;
    }
    const unsigned char *in = (const unsigned char *)text;
    unsigned char *at = (unsigned char *)out->data + out->len;
    for (size_t i = 0; i < n; i += 4, at += 3) {
        if (!decode_group(at, in + i, n - i < 4 ? n - i : 4)) {
            out->data[out->len] = '\0';
            return false;
        }
    }
    out->len += bytes;
    out->data[out->len] = '\0';
    return true;
}
