#include "check.h"
#include "core/target.h"

static const struct {
    const char *uri, *name, *rest; /* name NULL: an error */
} rows[] = {
    {"databricks", "databricks", NULL},
    {"openai", "openai", NULL},
    {"ray-serve", "ray-serve", NULL},
    {"my_target", "my_target", NULL},
    {"a/b", "a/b", NULL},
    {"databricks://p", "databricks", "p"},
    {"databricks://scope:prefix", "databricks", "scope:prefix"},
    {"databricks:/x", "databricks", "/x"},
    {"databricks:", "databricks", ""},
    {"http://h:5", "http", "h:5"},
    {"HTTP://X", "http", "X"},
    {"https://h", "https", "h"},
    {"sagemaker:/us-west-2/arn:aws:1", "sagemaker", "/us-west-2/arn:aws:1"},
    {"faketarget:/s", "faketarget", "/s"},
    {"faketarget://s", "faketarget", "s"},
    {"localhost:5000", "localhost", "5000"},
    {"a+b-c.d9:x", "a+b-c.d9", "x"},
    {"1.2.3.4:80", "1.2.3.4:80", NULL},
    {"my_target:/x", "my_target:/x", NULL},
    {":x", ":x", NULL},
    {"//host/p", "/p", NULL},
    {"/p?q#f", "/p", NULL},
    {"name?q", "name", NULL},
    {"  openai", "openai", NULL},
    {"\xC3\xA9:x", "\xC3\xA9:x", NULL},
    {"", NULL, NULL},
    {"  ", NULL, NULL},
    {"?q", NULL, NULL},
    {"#f", NULL, NULL},
    {"//host", NULL, NULL},
    {"//host?q/p", NULL, NULL},
};

int main(void) {
    static struct target target;
    struct error err;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].uri;
        bool ok = target_parse(&target, rows[i].uri, strlen(rows[i].uri), &err);
        CHECK_TEXT(ok ? target.name : NULL, rows[i].name);
        if (ok) {
            CHECK((target.rest == NULL) == (rows[i].rest == NULL));
            CHECK(rows[i].rest == NULL ||
                  (target.rest_len == strlen(rows[i].rest) &&
                   memcmp(target.rest, rows[i].rest, target.rest_len) == 0));
        } else {
            CHECK(err.kind == ERROR_CONFIG);
            CHECK_TEXT(err.code, "INTERNAL_ERROR");
        }
    }
    check_case = "says what MLflow says";
    CHECK(!target_parse(&target, "?q", 2, &err));
    CHECK_TEXT(err.message, "Not a proper deployment URI: ?q. Deployment URIs must be of the form "
                            "'target' or 'target:/suffix'");
    check_case = "control bytes are refused, not dropped";
    CHECK(!target_parse(&target, "data\nbricks", 11, &err) && err.kind == ERROR_CONFIG);
    CHECK(!target_parse(&target, "a\0b", 3, &err) && err.kind == ERROR_CONFIG);
    check_case = "the longest target is read, a longer one is not";
    static char longest[TARGET_MAX + 1];
    memset(longest, 'a', sizeof longest);
    CHECK(target_parse(&target, longest, TARGET_MAX, &err));
    CHECK(strlen(target.name) == TARGET_MAX);
    CHECK(!target_parse(&target, longest, TARGET_MAX + 1, &err));
    return check_done();
}
