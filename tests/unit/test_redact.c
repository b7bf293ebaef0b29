#include "check.h"
#include "core/redact.h"

#define TOKEN "dapi0123456789abcdef"

static const struct {
    const char *name, *text, *wanted;
} rows[] = {
    {"leaves other text alone", "nothing here, dapi", "nothing here, dapi"},
    {"hides a secret", "token " TOKEN "!", "token <redacted>!"},
    {"hides it each time", TOKEN TOKEN " " TOKEN, "<redacted><redacted> <redacted>"},
    {"hides a beginning that was cut off", "sent dapi01234567", "sent <redacted>"},
    {"shows a beginning that is too short", "dapi012 dapi", "dapi012 dapi"},
    {"hides its base64 form", "ZGFwaTAxMjM0NTY3ODlhYmNkZWY=", "<redacted>="},
    {"hides a password with odd characters", "p=p@ss/w\"rd!", "p=<redacted>"},
    {"hides it percent-encoded", "u=p%40ss%2Fw%22rd%21&x", "u=<redacted>&x"},
    {"hides it percent-encoded in lower case and in part", "p@ss%2fw%22rd!", "<redacted>"},
    {"hides it escaped as in JSON", "\"p@ss\\/w\\\"rd!\"", "\"<redacted>\""},
    {"shows a part of a short password", "p@ss/w\"rd", "p@ss/w\"rd"},
    {"hides a very short one behind Bearer", "Bearer abc and abc", "<redacted> and abc"},
    {"hides all of overlapping secrets", "firstsecond+secondthird", "<redacted>"},
    {"hides per cent signs and backslashes, as they are", "5%25\\x%y\\z0", "<redacted>"},
    {"hides per cent signs that are percent-encoded", "5%2525%5Cx%25y%5Cz0", "<redacted>"},
    {"hides backslashes as in JSON", "5%25\\\\x%y\\\\z0", "<redacted>"},
    {"is at peace with an open escape", "100% \\ %4", "100% \\ %4"},
    {"takes an empty text", "", ""},
};

static const char *redact(const struct redact *r, struct buf *out, const char *text) {
    buf_clear(out);
    CHECK(redact_text(r, text, strlen(text), out));
    return out->len > 0 ? out->data : "";
}

static bool add(struct redact *r, const char *secret) {
    return redact_add(r, secret, strlen(secret));
}

int main(void) {
    struct redact r;
    struct buf out;
    redact_init(&r);
    buf_init(&out, 1000);

    check_case = "knows nothing at first";
    CHECK_TEXT(redact(&r, &out, TOKEN), TOKEN);

    CHECK(add(&r, TOKEN) && add(&r, "p@ss/w\"rd!") && add(&r, "abc") && add(&r, ""));
    CHECK(add(&r, "5%25\\x%y\\z0"));
    CHECK(add(&r, "firstsecond+sec") && add(&r, "cond+secondthird"));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].name;
        CHECK_TEXT(redact(&r, &out, rows[i].text), rows[i].wanted);
    }

    check_case = "a secret with a NUL is found";
    CHECK(redact_add(&r,
                     "12345\0"
                     "6789",
                     10));
    buf_clear(&out);
    CHECK(redact_text(&r,
                      "<12345\0"
                      "6789>",
                      12, &out));
    CHECK_TEXT(out.data, "<<redacted>>");

    check_case = "a full buffer is reported";
    struct buf small;
    buf_init(&small, 5);
    CHECK(!redact_text(&r, TOKEN, strlen(TOKEN), &small));
    CHECK(!redact_text(&r, "123456", 6, &small));
    buf_free(&small);

    check_case = "adding again does not grow it";
    size_t before = r.count;
    CHECK(add(&r, TOKEN) && r.count == before);

    check_case = "the latest secrets survive a flood, and what is used again";
    char secret[32];
    for (int i = 0; i < 2000; i++) {
        snprintf(secret, sizeof secret, "%08d-refreshed", i * 7919);
        CHECK(add(&r, secret) && add(&r, TOKEN));
    }
    CHECK(r.count == REDACT_MAX_NEEDLES);
    CHECK_TEXT(redact(&r, &out, TOKEN), REDACT_MARK);
    CHECK_TEXT(redact(&r, &out, secret), REDACT_MARK);

    check_case = "after free it knows nothing and is usable";
    redact_free(&r);
    CHECK_TEXT(redact(&r, &out, TOKEN), TOKEN);
    CHECK(add(&r, TOKEN));
    CHECK_TEXT(redact(&r, &out, TOKEN), REDACT_MARK);
    redact_free(&r);
    buf_free(&out);
    return check_done();
}
