#include <stdlib.h>

#include "check.h"
#include "core/base64.h"

static const struct {
    const char *name, *bytes, *text;
    size_t len;
} rows[] = {
    {"nothing", "", "", 0},
    {"one byte", "f", "Zg==", 1},
    {"two bytes", "fo", "Zm8=", 2},
    {"three bytes", "foo", "Zm9v", 3},
    {"four bytes", "foob", "Zm9vYg==", 4},
    {"five bytes", "fooba", "Zm9vYmE=", 5},
    {"six bytes", "foobar", "Zm9vYmFy", 6},
    {"both last characters", "\xFB\xFF\xFE", "+//+", 3},
    {"NUL bytes", "\0\0\0\0", "AAAAAA==", 4},
    {"the credentials of RFC 7617", "Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", 19},
};

static const struct {
    const char *name, *text;
} bad[] = {
    {"one character", "Z"},
    {"five characters", "Zm9vY"},
    {"one character and padding", "Z==="},
    {"padding alone", "="},
    {"two signs of padding", "=="},
    {"four signs of padding", "===="},
    {"half of the padding", "Zg="},
    {"padding of a whole group", "Zm9v="},
    {"padding that is a group", "Zm9v===="},
    {"too much padding", "Zm8=="},
    {"padding in the middle", "Zg==Zg=="},
    {"a padded group and more", "Zm8=Zm9v"},
    {"the alphabet for URLs", "-__-"},
    {"a space", "Zm 9"},
    {"a line break at the end", "Zm9v\n"},
    {"a line break inside", "Zm9v\nZm9v"},
    {"a high byte", "Zm9\xFF"},
    {"a bad character in the last group", "Zm9vZm9vZ!=="},
    {"a bit beyond one byte", "Zh=="},
    {"a bit beyond two bytes", "Zm9="},
    {"bits beyond one byte, without padding", "Zv"},
    {"bits beyond two bytes, without padding", "Zm/"},
};

static void encodes(struct buf *out) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].name;
        buf_clear(out);
        CHECK(base64_encode(out, rows[i].bytes, rows[i].len));
        CHECK_TEXT(out->data, rows[i].text);
        CHECK(out->len == base64_length(rows[i].len));
    }
    check_case = "what does not fit changes nothing";
    buf_clear(out);
    CHECK(buf_puts(out, "Basic ") && !base64_encode(out, "012345678901234567890123456", 27));
    CHECK_TEXT(out->data, "Basic ");
}

static bool is_row(const struct buf *out, size_t row) {
    return out->len == rows[row].len && memcmp(out->data, rows[row].bytes, out->len) == 0 &&
           out->data[out->len] == '\0';
}

static void decodes(struct buf *out) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].name;
        buf_clear(out);
        CHECK(base64_decode(out, rows[i].text, strlen(rows[i].text)) && is_row(out, i));
        buf_clear(out);
        CHECK(base64_decode(out, rows[i].text, strcspn(rows[i].text, "=")) && is_row(out, i));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_case = bad[i].name;
        buf_clear(out);
        CHECK(buf_puts(out, "kept") && !base64_decode(out, bad[i].text, strlen(bad[i].text)));
        CHECK(out->len == 4);
        CHECK_TEXT(out->data, "kept");
    }
    check_case = "characters behind the length are not read";
    buf_clear(out);
    CHECK(base64_decode(out, "Zm9v!", 4));
    CHECK_TEXT(out->data, "foo");
}

static void decodes_to_the_limit(void) {
    struct buf small;
    buf_init(&small, 5);
    check_case = "a buffer that just holds it";
    CHECK(base64_decode(&small, "Zm9vYmE=", 8));
    CHECK_TEXT(small.data, "fooba");
    check_case = "a buffer that is full";
    CHECK(base64_decode(&small, "", 0) && !base64_decode(&small, "Zg==", 4));
    CHECK_TEXT(small.data, "fooba");
    check_case = "a buffer that is one byte too small";
    buf_clear(&small);
    CHECK(!base64_decode(&small, "Zm9vYmFy", 8) && small.len == 0);
    buf_free(&small);
}

static void knows_the_alphabet(struct buf *out) {
    int known = 0;
    for (int c = 0; c < 256; c++) {
        char text[4] = {'A', 'A', 'A', (char)c};
        buf_clear(out);
        known += c != '=' && base64_decode(out, text, sizeof text);
    }
    check_case = "as many characters as six bits have values";
    CHECK(known == 64);
}

static void takes_back_what_it_wrote(struct buf *out) {
    unsigned char bytes[97];
    char text[132];
    check_case = "random bytes of every length";
    srand(1);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        for (size_t i = 0; i < n; i++) {
            bytes[i] = (unsigned char)rand();
        }
        buf_clear(out);
        CHECK(base64_encode(out, bytes, n) && out->len <= sizeof text);
        size_t length = out->len;
        memcpy(text, out->data, length);
        buf_clear(out);
        CHECK(base64_decode(out, text, length) && out->len == n);
        CHECK(memcmp(out->data, bytes, n) == 0);
    }
}

int main(void) {
    struct buf out;
    buf_init(&out, 40);
    encodes(&out);
    decodes(&out);
    buf_free(&out);
    decodes_to_the_limit();
    buf_init(&out, 132);
    knows_the_alphabet(&out);
    takes_back_what_it_wrote(&out);
    buf_free(&out);
    return check_done();
}
