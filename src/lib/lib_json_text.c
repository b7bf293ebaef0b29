/* Strings and doubles of JSON, as bytes: which bytes may stand in a string, and doubles to decimal
 * digits and back, exactly and in any locale.
 *
 * Most numbers need no libc: with 128-bit integers, digits * 10^exponent and its reverse are exact
 * for the exponents that people write. The rest goes to strtod and snprintf, arranged so that no
 * decimal point is read and the one that is written is replaced. */
#include "lib/lib_json_text.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(DBL_MANT_DIG == 53, "doubles are IEEE 754 binary64");

static const double POW10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                               1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                               1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

enum {
    POW10_MAX = 22,   /* the last power of ten that is a double */
    DIGITS_MAX = 768, /* where a double ends and the next begins is known by this many digits */
    EXPONENT_LIMIT = 100000 /* beyond it every double is 0 or infinite */
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Strings */

/* Length of the valid UTF-8 sequence of two to four bytes that starts here, or 0: no overlong
 * forms, no surrogates, nothing beyond U+10FFFF. */
static size_t utf8_length(const unsigned char *at, size_t left) {
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    size_t n;
    if (at[0] >= 0xC2 && at[0] <= 0xDF) {
        n = 2;
    } else if (at[0] >= 0xE0 && at[0] <= 0xEF) {
        n = 3;
        low = at[0] == 0xE0 ? 0xA0 : low;
        high = at[0] == 0xED ? 0x9F : high;
    } else if (at[0] >= 0xF0 && at[0] <= 0xF4) {
        n = 4;
        low = at[0] == 0xF0 ? 0x90 : low;
        high = at[0] == 0xF4 ? 0x8F : high;
    } else {
        return 0;
    }
    if (left < n || at[1] < low || at[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return n;
}

const char *json_plain_rest(const char *text, const char *text_end) {
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = (const unsigned char *)text_end;
    while (at < end && *at >= 0x20 && *at != '"' && *at != '\\') {
        size_t n = *at < 0x80 ? 1 : utf8_length(at, (size_t)(end - at));
        if (n == 0) {
            break;
        }
        at += n;
    }
    return (const char *)at;
}

/* Decimal to double */

#ifdef __SIZEOF_INT128__

__extension__ typedef unsigned __int128 uint128;

enum { POW5_MAX = 27 }; /* the last power of five below 2^64 */

static const uint64_t POW5[] = {1U,
                                5U,
                                25U,
                                125U,
                                625U,
                                3125U,
                                15625U,
                                78125U,
                                390625U,
                                1953125U,
                                9765625U,
                                48828125U,
                                244140625U,
                                1220703125U,
                                6103515625U,
                                30517578125U,
                                152587890625U,
                                762939453125U,
                                3814697265625U,
                                19073486328125U,
                                95367431640625U,
                                476837158203125U,
                                2384185791015625U,
                                11920928955078125U,
                                59604644775390625U,
                                298023223876953125U,
                                1490116119384765625U,
                                7450580596923828125U};

/* 2^exponent, for exponents that are far from the limits of a double. */
static double pow2(int exponent) {
    uint64_t bits = (uint64_t)(DBL_MAX_EXP - 1 + exponent) << (DBL_MANT_DIG - 1);
    double power;
    memcpy(&power, &bits, sizeof(power));
    return power;
}

/* n * 2^exponent rounded to a double, half to even; `more` where a fraction of n was cut off.
 * n has 54 bits or more, or nothing was cut off. */
static double round_to_double(uint128 n, int exponent, bool more) {
    uint64_t top = (uint64_t)(n >> 64);
    int bits = top != 0 ? 128 - __builtin_clzll(top) : 64 - __builtin_clzll((uint64_t)n);
    int drop = bits - DBL_MANT_DIG;
    if (drop <= 0) {
        return (double)(uint64_t)n * pow2(exponent);
    }
    uint128 half = (uint128)1 << (drop - 1);
    uint128 rest = n & (half + (half - 1));
    uint64_t kept = (uint64_t)(n >> drop);
    if (rest > half || (rest == half && (more || (kept & 1) != 0))) {
        kept++;
    }
    return (double)kept * pow2(exponent + drop);
}

/* json_scale for a mantissa that is not 0, as mantissa * 5^exponent * 2^exponent. */
static bool scale_exactly(uint64_t mantissa, int64_t exponent, double *value) {
    if (exponent > POW5_MAX || exponent < -POW5_MAX) {
        return false;
    }
    if (exponent >= 0) {
        *value = round_to_double((uint128)mantissa * POW5[exponent], (int)exponent, false);
        return true;
    }
    int shift = 64 + __builtin_clzll(mantissa);
    uint128 dividend = (uint128)mantissa << shift;
    uint128 quotient = dividend / POW5[-exponent];
    bool more = quotient * POW5[-exponent] != dividend;
    *value = round_to_double(quotient, (int)exponent - shift, more);
    return true;
}

#else

static bool scale_exactly(uint64_t mantissa, int64_t exponent, double *value) {
    (void)mantissa;
    (void)exponent;
    (void)value;
    return false;
}

#endif

bool json_scale(uint64_t mantissa, int64_t exponent, double *value) {
    if (mantissa == 0) {
        *value = 0.0;
        return true;
    }
    /* Both operands are exact, so the one operation rounds rightly, where doubles are not computed
     * in longer registers. */
    if (FLT_EVAL_METHOD == 0 && mantissa <= (UINT64_C(1) << DBL_MANT_DIG)) {
        if (exponent >= 0 && exponent <= POW10_MAX) {
            *value = (double)mantissa * POW10[exponent];
            return true;
        }
        if (exponent < 0 && exponent >= -POW10_MAX) {
            *value = (double)mantissa / POW10[-exponent];
            return true;
        }
    }
    return scale_exactly(mantissa, exponent, value);
}

double json_read_double(const char *digits, size_t len, int64_t exponent) {
    char text[DIGITS_MAX + 16];
    size_t n = 0;
    bool fraction = false;
    bool more = false; /* a digit that is not 0 was left out */
    for (size_t i = 0; i < len && (is_digit(digits[i]) || digits[i] == '.'); i++) {
        if (digits[i] == '.') {
            fraction = true;
            continue;
        }
        bool keep = n < DIGITS_MAX && (n > 0 || digits[i] != '0');
        if (keep) {
            text[n++] = digits[i];
        } else if (n > 0 && digits[i] != '0') {
            more = true;
        }
        if (fraction && (keep || n == 0)) {
            exponent--;
        } else if (!fraction && !keep && n > 0) {
            exponent++;
        }
    }
    if (n == 0) {
        return 0.0;
    }
    if (more) {
        text[n++] = '1';
        exponent--;
    }
    exponent = exponent > EXPONENT_LIMIT ? EXPONENT_LIMIT : exponent;
    exponent = exponent < -EXPONENT_LIMIT ? -EXPONENT_LIMIT : exponent;
    snprintf(text + n, sizeof(text) - n, "e%d", (int)exponent);
    return strtod(text, NULL);
}

/* Integers and doubles to decimal */

static size_t write_digits(char *out, uint64_t n) {
    char digits[20];
    size_t len = 0;
    do {
        digits[len++] = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);
    for (size_t i = 0; i < len; i++) {
        out[i] = digits[len - 1 - i];
    }
    return len;
}

#ifdef __SIZEOF_INT128__

/* Writes n * 10^-places, n > 0, places > 0, without zeros at the end. */
static size_t write_places(char *out, uint64_t n, int places) {
    while (n % 10 == 0) {
        n /= 10;
        places--;
    }
    char digits[20];
    int len = (int)write_digits(digits, n);
    size_t at = 0;
    if (len <= places) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = len; i < places; i++) {
            out[at++] = '0';
        }
    }
    for (int i = 0; i < len; i++) {
        if (i > 0 && i == len - places) {
            out[at++] = '.';
        }
        out[at++] = digits[i];
    }
    return at;
}

/* The cheap case, a value in [1e-4, 1e15) that is not whole; 0 for any other. With value = fraction
 * * 2^exponent, value * 10^places is a quotient of two integers that fit 128 bits. */
static size_t write_shortest(char *out, double value) {
    if (value < 1e-4 || value >= 1e15) {
        return 0;
    }
    int places = 20; /* such that value * 10^places has 17 digits before the point */
    while (value * 1e4 >= POW10[21 - places]) {
        places--;
    }
    int exponent;
    uint64_t fraction = (uint64_t)ldexp(frexp(value, &exponent), DBL_MANT_DIG);
    uint128 dividend = (uint128)fraction * POW5[places];
    int shift = DBL_MANT_DIG - exponent - places;
    for (int dropped = 2; dropped >= 0; dropped--) {
        uint64_t divisor = (uint64_t)POW10[dropped] << shift;
        uint64_t digits = (uint64_t)(dividend / divisor);
        uint64_t rest = (uint64_t)(dividend - (uint128)digits * divisor);
        if (rest > divisor - rest || (rest == divisor - rest && digits % 2 != 0)) {
            digits++;
        }
        double back;
        if (json_scale(digits, dropped - places, &back) && back == value) {
            return write_places(out, digits, places - dropped);
        }
    }
    return 0;
}

#else

static size_t write_shortest(char *out, double value) {
    (void)out;
    (void)value;
    return 0;
}

#endif

static size_t write_with_libc(char *out, double value) {
    char text[JSON_NUMBER_SIZE];
    for (int digits = DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    size_t len = 0;
    bool point = false;
    bool whole = true;
    for (const char *at = text; *at != '\0'; at++) {
        if (is_digit(*at) || *at == '-' || *at == '+' || *at == 'e') {
            whole = whole && *at != 'e';
            out[len++] = *at;
        } else if (!point) { /* the locale's decimal point, one or several bytes */
            point = true;
            out[len++] = '.';
        }
    }
    if (whole && !point) {
        out[len++] = '.';
        out[len++] = '0';
    }
    return len;
}

size_t json_write_integer(char out[JSON_NUMBER_SIZE], int64_t value) {
    if (value >= 0) {
        return write_digits(out, (uint64_t)value);
    }
    out[0] = '-';
    return 1 + write_digits(out + 1, 0 - (uint64_t)value);
}

size_t json_write_double(char out[JSON_NUMBER_SIZE], double value) {
    size_t len = 0;
    if (signbit(value)) {
        out[len++] = '-';
        value = -value;
    }
    if (value < 1e15 && value == (double)(uint64_t)value) {
        len += write_digits(out + len, (uint64_t)value);
        out[len++] = '.';
        out[len++] = '0';
        return len;
    }
    size_t written = write_shortest(out + len, value);
    return len + (written != 0 ? written : write_with_libc(out + len, value));
}
