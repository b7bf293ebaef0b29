#include <stdint.h>

#include "check.h"
#include "core/buf.h"

int main(void) {
    struct buf b;
    buf_init(&b, 10);

    check_case = "a new buffer has no memory";
    CHECK(b.data == NULL && b.len == 0);
    buf_free(&b);

    check_case = "bytes are followed by a NUL";
    CHECK(buf_append(&b, "a\0b", 3) && buf_putc(&b, 'c'));
    CHECK(b.len == 4 && memcmp(b.data, "a\0bc", 5) == 0);

    check_case = "the maximum is reached exactly and not passed";
    CHECK(buf_puts(&b, "123456") && b.len == 10);
    CHECK(!buf_putc(&b, 'x') && !buf_reserve(&b, 1) && !buf_printf(&b, "%d", 5));
    CHECK(b.len == 10 && memcmp(b.data, "a\0bc123456", 11) == 0);
    CHECK(buf_append(&b, "", 0) && buf_reserve(&b, 0));

    check_case = "consuming keeps the rest";
    buf_consume(&b, 4);
    CHECK_TEXT(b.data, "123456");
    buf_consume(&b, 0);
    CHECK_TEXT(b.data, "123456");
    buf_consume(&b, 6);
    CHECK_TEXT(b.data, "");

    check_case = "clearing keeps the memory";
    CHECK(buf_puts(&b, "abc"));
    const char *before = b.data;
    buf_clear(&b);
    CHECK(b.data == before && b.len == 0 && b.data[0] == '\0');

    check_case = "printf appends";
    CHECK(buf_puts(&b, "x=") && buf_printf(&b, "%d,%s", 42, "y"));
    CHECK_TEXT(b.data, "x=42,y");

    check_case = "a wiped buffer is usable again, with its maximum";
    buf_wipe(&b);
    CHECK(b.data == NULL && b.len == 0 && b.max == 10);
    CHECK(buf_puts(&b, "again"));
    CHECK_TEXT(b.data, "again");
    buf_free(&b);

    check_case = "a reserve that no memory can hold fails and changes nothing";
    buf_init(&b, SIZE_MAX);
    CHECK(buf_puts(&b, "abc"));
    CHECK(!buf_reserve(&b, SIZE_MAX) && !buf_reserve(&b, SIZE_MAX - 3));
    CHECK_TEXT(b.data, "abc");

    check_case = "many small appends make one text";
    for (int i = 0; i < 100000; i++) {
        buf_append(&b, "0123456789", 10);
    }
    CHECK(b.len == 1000003 && b.data[b.len] == '\0' && b.data[1000002] == '9');
    buf_free(&b);
    return check_done();
}
