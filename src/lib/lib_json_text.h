/* What JSON's decoder and encoder share about bytes and numbers. Knows nothing of Lua. */
#ifndef MOONFLOW_LIB_JSON_TEXT_H
#define MOONFLOW_LIB_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    JSON_SCALE_DIGITS = 19, /* so many decimal digits always fit the mantissa of json_scale */
    JSON_NUMBER_SIZE = 40   /* room that json_write_integer and json_write_double need */
};

/* json_plain for whatever its fast half can not decide. */
const char *json_plain_rest(const char *at, const char *end);

/* The high bit of each of eight bytes that is a quote, a backslash, a control character or not
 * ASCII. A borrow can only mark bytes above the lowest one that is marked rightly. */
static inline uint64_t json_special_bytes(uint64_t word) {
    const uint64_t ones = 0x0101010101010101U;
    uint64_t control = word - ones * 0x20;
    uint64_t quote = (word ^ (ones * '"')) - ones;
    uint64_t backslash = (word ^ (ones * '\\')) - ones;
    return (word | control | quote | backslash) & (ones * 0x80);
}

/* The first byte that a JSON string can not hold as it is: a quote, a backslash, a control
 * character, or where UTF-8 is not valid; `end` where there is none. Inline, as most strings are
 * short. */
static inline const char *json_plain(const char *at, const char *end) {
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        uint64_t marks = json_special_bytes(word);
        if (marks != 0) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            at += __builtin_ctzll(marks) / 8;
            if ((unsigned char)*at < 0x80) {
                return at;
            }
#endif
            break;
        }
        at += 8;
    }
    return json_plain_rest(at, end);
}

/* Whether eight digits stand at `at`, and their value. For speed only: where the order of bytes
 * does not suit, it never sees any. */
static inline bool json_eight_digits(const char *at, uint64_t *value) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = 0x0101010101010101U;
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    if (((word & (ones * 0xF0)) | ((word + ones * 6) & (ones * 0xF0)) >> 4) != ones * '3') {
        return false;
    }
    /* Neighbours are joined to numbers of two, four and eight digits. */
    word = (word & (ones * 0x0F)) * (10 * 256 + 1) >> 8;
    word = (word & 0x00FF00FF00FF00FFU) * (100 * 65536 + 1) >> 16;
    *value = (word & 0x0000FFFF0000FFFFU) * (10000 * (UINT64_C(1) << 32) + 1) >> 32;
    return true;
#else
    (void)at;
    (void)value;
    return false;
#endif
}

/* Whether `*value` could be set to mantissa * 10^exponent, correctly rounded. The cheap case: false
 * means that json_read_double has to look at the digits. */
bool json_scale(uint64_t mantissa, int64_t exponent, double *value);

/* The double nearest to a number that JSON's grammar allows, without its sign: infinity where it is
 * too large. `exponent` is what stands behind its 'e', or 0. Does not depend on the locale. */
double json_read_double(const char *digits, size_t len, int64_t exponent);

/* Writes the integer's digits. Returns the length; no NUL. */
size_t json_write_integer(char out[JSON_NUMBER_SIZE], int64_t value);

/* Writes a finite double as the shortest of %.15g, %.16g and %.17g that reads back as the same,
 * with
 * ".0" where it would look like an integer, whatever the locale. Returns the length; no NUL. */
size_t json_write_double(char out[JSON_NUMBER_SIZE], double value);

#endif
