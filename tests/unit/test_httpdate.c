#include <stdlib.h>

#include "check.h"
#include "core/httpdate.h"

static const int64_t NOW = 1767225600; /* 2026-01-01 00:00:00 */

static const struct {
    const char *text;
    int64_t epoch;
} good[] = {
    {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
    {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
    {"Sun Nov  6 08:49:37 1994", 784111777},
    {"Wed Nov 16 08:49:37 1994", 784975777},
    {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
    {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
    {"Thu, 29 Feb 2024 12:00:00 GMT", 1709208000},
    {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
    {"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799},
    {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800},
    {"Monday, 01-Jan-76 00:00:00 GMT", 3345062400},
    {"Friday, 01-Jan-77 00:00:00 GMT", 220924800},
    {"Mon, 06 Nov 1994 08:49:37 GMT", 784111777}, /* the weekday is not believed */
};

static const char *const bad[] = {
    "",
    "120",
    "Sun",
    "Sun,",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 UTC",
    "Sun, 06 Nov 1994 08:49:37 GMT ",
    " Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 94 08:49:37 GMT",
    "Sun, 00 Nov 1994 08:49:37 GMT",
    "Sun, 31 Nov 1994 08:49:37 GMT",
    "Thu, 29 Feb 2023 12:00:00 GMT",
    "Thu, 29 Feb 1900 12:00:00 GMT",
    "Sun, 06 Nov 1994 24:00:00 GMT",
    "Sun, 06 Nov 1994 08:60:37 GMT",
    "Sun, 06 Nov 1994 08:49:61 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT",
    "Sun, 06 Nov -994 08:49:37 GMT",
    "Sol, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nuv 1994 08:49:37 GMT",
    "Sunday, 06 Nov 1994 08:49:37 GMT",
    "Sun Nov 6 08:49:37 1994",
    "Sun Nov  6 08:49:37 1994 GMT",
};

/* A copy without a NUL behind it, so that the sanitizer sees a step too far. */
static bool parse(const char *text, int64_t *epoch) {
    size_t len = strlen(text);
    char *exact = malloc(len + (len == 0));
    memcpy(exact, text, len);
    bool ok = httpdate_parse(exact, len, NOW, epoch);
    free(exact);
    return ok;
}

int main(void) {
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t epoch = -42;
        check_case = good[i].text;
        CHECK(parse(good[i].text, &epoch));
        CHECK(epoch == good[i].epoch);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t epoch = -42;
        check_case = bad[i];
        CHECK(!parse(bad[i], &epoch) && epoch == -42);
    }
    return check_done();
}
