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
    {"six bytes", "foobar", "Zm9vYmFy", 6},
    {"both last characters", "\xFB\xFF\xFE", "+//+", 3},
    {"NUL bytes", "\0\0\0\0", "AAAAAA==", 4},
    {"the credentials of RFC 7617", "Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ==", 19},
};

int main(void) {
    struct buf out;
    buf_init(&out, 40);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].name;
        buf_clear(&out);
        CHECK(base64_encode(&out, rows[i].bytes, rows[i].len));
        CHECK_TEXT(out.data, rows[i].text);
        CHECK(out.len == base64_length(rows[i].len));
    }
    check_case = "what does not fit changes nothing";
    buf_clear(&out);
    CHECK(buf_puts(&out, "Basic ") && !base64_encode(&out, "012345678901234567890123456", 27));
    CHECK_TEXT(out.data, "Basic ");
    buf_free(&out);
    return check_done();
}
