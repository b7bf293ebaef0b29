#include <stdlib.h>

#include "check.h"
#include "core/ini.h"

static const struct {
    const char *name, *text, *section, *key, *value; /* value NULL: not there */
    int line;
} rows[] = {
    {"reads a value", "[mlflow]\nmlflow_tracking_username = me\n", "mlflow",
     "mlflow_tracking_username", "me", 2},
    {"reads a colon as a sign", "[a]\nk: v", "a", "k", "v", 2},
    {"splits at the first sign", "[a]\nk = a=b:c\nh: http://x=1", "a", "h", "http://x=1", 3},
    {"lowers keys, not section names", "[A]\nKey = V\n", "A", "key", "V", 2},
    {"finds no section in another case", "[A]\nk = v\n", "a", "k", NULL, 0},
    {"falls back to DEFAULT", "[DEFAULT]\nhost = h\n[p]\nx = 1\n", "p", "host", "h", 2},
    {"prefers a section's own key", "[DEFAULT]\nhost = h\n[p]\nhost = own\n", "p", "host", "own",
     4},
    {"gives a missing section nothing", "[DEFAULT]\nhost = h\n", "p", "host", NULL, 0},
    {"reads DEFAULT itself", "[DEFAULT]\nhost = h\n", "DEFAULT", "host", "h", 2},
    {"takes DEFAULT in two parts", "[DEFAULT]\na=1\n[x]\n[DEFAULT]\nb=2\n", "x", "b", "2", 5},
    {"skips comments", "# c\n[a]\n; c\n  # c\nk = v\n", "a", "k", "v", 5},
    {"keeps a comment sign behind a value", "[a]\nk = v # w ; x\n", "a", "k", "v # w ; x", 2},
    {"drops white space and CRLF", "[a]\r\n\tk \t=  v w \t\r\n", "a", "k", "v w", 2},
    {"reads an empty value", "[a]\nk =\nl=1\n", "a", "k", "", 2},
    {"goes on with an indented line", "[a]\nk = one\n  two\n\t three\nl = 1\n", "a", "k",
     "one\ntwo\nthree", 2},
    {"starts a value on the next line", "[a]\nk =\n  two\n", "a", "k", "\ntwo", 2},
    {"keeps blank lines inside a value", "[a]\nk = one\n\n  two\n\nl=1\n", "a", "k", "one\n\ntwo",
     2},
    {"skips comments inside a value", "[a]\nk = one\n# c\n  two\n", "a", "k", "one\ntwo", 2},
    {"reads equally indented keys as keys", "[a]\n  k = one\n  l = two\n", "a", "l", "two", 3},
    {"turns two percent signs into one", "[a]\nk = 100%%x%y%\n", "a", "k", "100%x%y%", 2},
    {"skips a byte order mark", "\xEF\xBB\xBF[a]\nk = v\n", "a", "k", "v", 2},
    {"ignores text behind a header", "[a] # note\nk = v\n", "a", "k", "v", 2},
    {"takes a value without a last line break", "[a]\nk=v", "a", "k", "v", 2},
    {"reads an empty file", "", "a", "k", NULL, 0},
};

/* The dialect of .databrickscfg. */
static const struct {
    const char *name, *text, *section, *key, *value;
} databricks_rows[] = {
    {"reads a value", "[a]\nhost = https://x\n", "a", "host", "https://x"},
    {"takes quotes off", "[a]\ntoken = \"t\"\n", "a", "token", "t"},
    {"ends a value at a comment", "[a]\ntoken = t # note\n", "a", "token", "t"},
    {"keeps a sign inside a word", "[a]\ntoken = t#1\n", "a", "token", "t#1"},
    {"keeps percent signs", "[a]\nk = 100%%(x)s\n", "a", "k", "100%%(x)s"},
    {"reads an indented line as a line", "[a]\nk = v\n  l = w\n", "a", "l", "w"},
    {"takes a section in two parts", "[a]\nk=1\n[b]\n[a]\nl=2\n", "a", "l", "2"},
};

static const struct {
    const char *name, *text, *message;
} bad[] = {
    {"a key before a section", "k = v\n", "line 1: a key stands before the first [section]"},
    {"a section twice", "[a]\n[b]\n[a]\n", "line 3: this section was there before"},
    {"a key twice in two cases", "[a]\nk=1\nK=2\n",
     "line 3: this key was there before in its section"},
    {"a DEFAULT key twice", "[DEFAULT]\nk=1\n[DEFAULT]\nk=2\n",
     "line 4: this key was there before in its section"},
    {"a line without a sign", "[a]\nsecret\n", "line 2: neither a [section] nor \"key = value\""},
    {"a value without a key", "[a]\n= v\n", "line 2: there is no key before the sign"},
    {"an open header", "[a\n", "line 1: a section is written [name]"},
    {"an empty header", "[]\n", "line 1: a section is written [name]"},
    {"an expansion", "[a]\nx = 1\nk = %(x)s\n",
     "line 3: a %(name)s in a value is not expanded here"},
};

static void test_databricks_rows(void) {
    struct ini ini;
    struct error err;
    for (size_t i = 0; i < sizeof databricks_rows / sizeof databricks_rows[0]; i++) {
        const char *text = databricks_rows[i].text;
        check_case = databricks_rows[i].name;
        if (!CHECK(ini_parse_databricks(&ini, text, strlen(text), &err))) {
            continue;
        }
        const struct ini_entry *e =
            ini_own(&ini, databricks_rows[i].section, databricks_rows[i].key);
        CHECK(e != NULL && strcmp(e->value, databricks_rows[i].value) == 0);
        ini_free(&ini);
    }
}

static void test_rows(void) {
    struct ini ini;
    struct error err;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].name;
        /* Exactly as many bytes as the text has, so that the sanitizer sees a step too far. */
        size_t len = strlen(rows[i].text);
        char *exact = malloc(len + 1);
        memcpy(exact, rows[i].text, len);
        bool ok = CHECK(ini_parse(&ini, exact, len, &err));
        free(exact);
        if (!ok) {
            printf("    %s\n", err.message);
            continue;
        }
        const struct ini_entry *entry = ini_get(&ini, rows[i].section, rows[i].key);
        CHECK_TEXT(entry != NULL ? entry->value : NULL, rows[i].value);
        CHECK(entry == NULL || entry->line == rows[i].line);
        ini_free(&ini);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_case = bad[i].name;
        CHECK(!ini_parse(&ini, bad[i].text, strlen(bad[i].text), &err));
        CHECK(err.kind == ERROR_CONFIG);
        CHECK_TEXT(err.message, bad[i].message);
    }
}

static void test_limits(void) {
    struct ini ini;
    struct error err;
    static char text[INI_MAX + 1];
    check_case = "a NUL is refused";
    CHECK(!ini_parse(&ini, "[a]\0", 4, &err));
    check_case = "the largest file is read, a larger one is not";
    memset(text, '#', sizeof text);
    CHECK(ini_parse(&ini, text, INI_MAX, &err));
    ini_free(&ini);
    CHECK(!ini_parse(&ini, text, INI_MAX + 1, &err));
    check_case = "the number of entries is bounded";
    size_t len = 0;
    for (int i = 0; i <= INI_MAX_ENTRIES; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "[s%d]\n", i);
    }
    CHECK(!ini_parse(&ini, text, len, &err));
    check_case = "sections are listed in the file's order";
    CHECK(ini_parse(&ini, "[b]\nk=1\n[a]\n", 12, &err));
    CHECK(ini.count == 3 && ini.entries[0].key == NULL && ini.entries[2].key == NULL);
    CHECK_TEXT(ini.entries[0].section, "b");
    CHECK_TEXT(ini.entries[2].section, "a");
    CHECK(ini_has_section(&ini, "a") && !ini_has_section(&ini, "c"));
    ini_free(&ini);
}

int main(void) {
    test_rows();
    test_databricks_rows();
    test_limits();
    return check_done();
}
