/* The whole test harness of the C unit tests: CHECK counts and names what failed, `check_done` ends
 * main. A test names its case in `check_case` first, so that a failure says which one it was. */
#ifndef MOONFLOW_TESTS_CHECK_H
#define MOONFLOW_TESTS_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char *check_case = "";
static int check_passed;
static int check_failed;

#define CHECK(condition) check_report((condition), #condition, __FILE__, __LINE__)
#define CHECK_TEXT(got, wanted) check_text((got), (wanted), __FILE__, __LINE__)

static inline bool check_report(bool ok, const char *what, const char *file, int line) {
    if (ok) {
        check_passed++;
    } else {
        check_failed++;
        printf("%s:%d: %s: not true: %s\n", file, line, check_case, what);
    }
    return ok;
}

/* Two texts are equal, or both NULL. */
static inline bool check_text(const char *got, const char *wanted, const char *file, int line) {
    bool ok = got == wanted || (got != NULL && wanted != NULL && strcmp(got, wanted) == 0);
    check_report(ok, "texts are equal", file, line);
    if (!ok) {
        printf("    got    %s\n    wanted %s\n", got ? got : "NULL", wanted ? wanted : "NULL");
    }
    return ok;
}

static inline int check_done(void) {
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed == 0 ? 0 : 1;
}

#endif
