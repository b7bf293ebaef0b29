#include "check.h"
#include "core/url.h"

static const struct {
    const char *name, *text, *scheme, *host, *path, *query, *origin;
    int port;
} good[] = {
    {"takes the usual port", "http://h", "http", "h", "", NULL, "http://h:80", 80},
    {"takes a written port", "http://localhost:5000/a/b", "http", "localhost", "/a/b", NULL,
     "http://localhost:5000", 5000},
    {"lowers scheme and host, not the path", "HTTPS://Example.COM/Path?Q=1", "https", "example.com",
     "/Path", "Q=1", "https://example.com:443", 443},
    {"drops the fragment", "http://h/#/models?x", "http", "h", "/", NULL, "http://h:80", 80},
    {"reads a query without a path", "http://h?a=b", "http", "h", "", "a=b", "http://h:80", 80},
    {"keeps an empty query apart from none", "http://h/?", "http", "h", "/", "", "http://h:80", 80},
    {"puts an IPv6 address into its one form", "http://[0:0::0:1]:8080/x", "http", "::1", "/x",
     NULL, "http://[::1]:8080", 8080},
    {"knows no port of another scheme", "ollama://Box", "ollama", "box", "", NULL, "ollama://box",
     0},
    {"keeps escapes as they are", "http://h/a%2Fb", "http", "h", "/a%2Fb", NULL, "http://h:80", 80},
    {"allows @ in the path", "http://h/a@b", "http", "h", "/a@b", NULL, "http://h:80", 80},
    {"takes the largest port", "http://h:65535", "http", "h", "", NULL, "http://h:65535", 65535},
};

static const struct {
    const char *name, *text;
} bad[] = {
    {"refuses nothing", ""},
    {"refuses a lone host", "localhost:5000"},
    {"refuses a scheme alone", "http://"},
    {"refuses no host", "http:///path"},
    {"refuses a port without a host", "http://:80"},
    {"refuses an opaque URL", "http:h"},
    {"refuses a user name", "http://user@h/"},
    {"refuses a password", "http://127.0.0.1:9101@127.0.0.1:9102/"},
    {"refuses a trusted name before @", "https://good.com@evil"},
    {"refuses a backslash", "http://good.com\\@evil"},
    {"refuses a tab in the host", "http://a\tb/"},
    {"refuses a space", "http://h/a b"},
    {"refuses a line break", "http://h/a\r\nX: y"},
    {"refuses DEL", "http://h/\x7F"},
    {"refuses what is beyond ASCII", "http://h/\xC3\xA9"},
    {"refuses an escaped host", "http://%65vil/"},
    {"refuses an empty port", "http://h:/"},
    {"refuses port 0", "http://h:0"},
    {"refuses port 65536", "http://h:65536"},
    {"refuses a huge port", "http://h:99999999999999999999"},
    {"refuses a port that is a word", "http://h:http"},
    {"refuses a signed port", "http://h:+80"},
    {"refuses an open bracket", "http://[::1"},
    {"refuses a bracket with a name", "http://[localhost]"},
    {"refuses a zone", "http://[fe80::1%25eth0]"},
    {"refuses text behind a bracket", "http://[::1]x:80"},
    {"refuses IPv6 without brackets", "http://::1/"},
    {"refuses a scheme with an underscore", "my_scheme://h"},
};

static void test_parse(void) {
    struct url url;
    struct error err;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        check_case = good[i].name;
        if (!CHECK(url_parse(&url, good[i].text, strlen(good[i].text), &err))) {
            continue;
        }
        char origin[URL_ORIGIN_SIZE];
        url_origin(&url, origin);
        CHECK_TEXT(url.scheme, good[i].scheme);
        CHECK_TEXT(url.host, good[i].host);
        CHECK_TEXT(origin, good[i].origin);
        CHECK(url.port == good[i].port);
        CHECK(url.path_len == strlen(good[i].path) &&
              memcmp(url.path, good[i].path, url.path_len) == 0);
        CHECK((url.query == NULL) == (good[i].query == NULL));
        if (url.query != NULL && good[i].query != NULL) {
            CHECK(url.query_len == strlen(good[i].query) &&
                  memcmp(url.query, good[i].query, url.query_len) == 0);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        check_case = bad[i].name;
        CHECK(!url_parse(&url, bad[i].text, strlen(bad[i].text), &err));
        CHECK(err.kind == ERROR_USAGE && err.message[0] != '\0');
    }
    check_case = "refuses a NUL";
    CHECK(!url_parse(&url, "http://h\0.evil", 14, &err));
    check_case = "a message holds no password";
    CHECK(!url_parse(&url, "http://me:hunter22@h", 20, &err));
    CHECK(strstr(err.message, "hunter22") == NULL && strstr(err.hint, "hunter22") == NULL);
    check_case = "refuses a text beyond the maximum";
    static char longest[URL_MAX + 1];
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "http://h/", 9);
    CHECK(url_parse(&url, longest, URL_MAX, &err) && !url_parse(&url, longest, URL_MAX + 1, &err));
    check_case = "refuses a host beyond what names can have";
    CHECK(!url_parse(&url, "http://", 7, &err));
    memset(longest + 7, 'a', 300);
    CHECK(!url_parse(&url, longest, 307, &err));
}

static void test_loopback(void) {
    static const char *const yes[] = {"127.0.0.1", "127.255.3.4", "::1",
                                      "localhost", "LocalHost",   "a.localhost"};
    static const char *const no[] = {
        "",         "128.0.0.1", "127.1",           "127.0.0.1.evil.com",
        "::2",      "0.0.0.0",   "localhost.evil",  "notlocalhost",
        "localhos", "[::1]",     "::ffff:127.0.0.1"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        check_case = yes[i];
        CHECK(url_is_loopback(yes[i]));
    }
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        check_case = no[i];
        CHECK(!url_is_loopback(no[i]));
    }
}

/* A joined URL, or NULL where that was refused. */
static const char *join(struct buf *out, const char *base, const char *segment, size_t len) {
    struct error err;
    buf_clear(out);
    bool ok = url_start(out, base, strlen(base), &err) && url_add_segment(out, segment, len, &err);
    CHECK(ok || err.kind == ERROR_USAGE);
    return ok ? out->data : NULL;
}

static void test_join(void) {
    static const struct {
        const char *base, *segment, *joined;
    } rows[] = {
        {"http://h", "a", "http://h/a"},
        {"http://h/", "a", "http://h/a"},
        {"http://h:5000/pfx//", "a", "http://h:5000/pfx/a"},
        {"HTTPS://H:443/p", "a", "https://h/p/a"},
        {"http://[::1]:81", "a", "http://[::1]:81/a"},
        {"http://h", "gpt-4_x.y~z", "http://h/gpt-4_x.y~z"},
        {"http://h", "../../api/2.0/token/list", "http://h/..%2F..%2Fapi%2F2.0%2Ftoken%2Flist"},
        {"http://h", "a?x=1", "http://h/a%3Fx%3D1"},
        {"http://h", "a#b", "http://h/a%23b"},
        {"http://h", "%2e%2e", "http://h/%252e%252e"},
        {"http://h", "\xC3\xA9 +", "http://h/%C3%A9%20%2B"},
        {"http://h", "...", "http://h/..."},
        {"http://h", "", NULL},
        {"http://h", ".", NULL},
        {"http://h", "..", NULL},
        {"http://h", "a\r\nb", NULL},
        {"http://h", "\x7F", NULL},
        {"http://h?q", "a", NULL},
        {"h", "a", NULL},
    };
    struct buf out;
    buf_init(&out, URL_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].segment;
        CHECK_TEXT(join(&out, rows[i].base, rows[i].segment, strlen(rows[i].segment)),
                   rows[i].joined);
    }
    check_case = "a NUL in a segment is refused";
    CHECK(join(&out, "http://h", "a\0b", 3) == NULL);
    buf_free(&out);
    check_case = "a URL that grows too long is refused";
    buf_init(&out, 12);
    CHECK(join(&out, "http://h", "abcd", 4) == NULL);
    buf_free(&out);
}

static void test_encode(void) {
    struct buf out;
    buf_init(&out, 100);
    check_case = "encodes every byte but the unreserved";
    CHECK(url_encode(&out, "aZ0-._~ /+%\0\xFF", 13));
    CHECK_TEXT(out.data, "aZ0-._~%20%2F%2B%25%00%FF");
    buf_clear(&out);
    check_case = "a form's pairs are joined by &, a space is +";
    CHECK(url_add_pair(&out, "q", 1, "a b/=", 5) && url_add_pair(&out, "n&", 2, "", 0));
    CHECK_TEXT(out.data, "q=a+b%2F%3D&n%26=");
    buf_free(&out);
}

static void test_resolve(void) {
    static const struct {
        const char *base, *endpoint, *resolved;
    } rows[] = {
        {"http://h:5000", "/gateway/chat/invocations", "http://h:5000/gateway/chat/invocations"},
        {"http://h/pfx", "/gateway/chat/invocations", "http://h/pfx/gateway/chat/invocations"},
        {"http://h/pfx/", "gateway", "http://h/pfx/gateway"},
        {"http://h/pfx?a=1", "/x", "http://h/pfx/x?a=1"},
        {"http://h", "https://other/x?y#z", "https://other/x?y#z"},
        {"http://h", "foo:/x", "http://h/foo:/x"},
        {"http://h", "http:///x", "http://h/http:///x"},
        {"http://h", "", "http://h/"},
        {"http://h?a=../b", "/x", NULL},
        {"http://h?a=%2e%2E/b", "/x", NULL},
        {"http://h?a=.b.", "/x", "http://h/x?a=.b."},
        {"http://h", "/x\r\ny", NULL},
        {"http://h", "/x y", NULL},
        {"not a url", "/x", NULL},
    };
    struct buf out;
    struct error err;
    buf_init(&out, URL_MAX);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        check_case = rows[i].endpoint;
        buf_clear(&out);
        bool ok = url_resolve(&out, rows[i].base, strlen(rows[i].base), rows[i].endpoint,
                              strlen(rows[i].endpoint), &err);
        CHECK_TEXT(ok ? out.data : NULL, rows[i].resolved);
    }
    buf_free(&out);
}

int main(void) {
    test_parse();
    test_loopback();
    test_join();
    test_encode();
    test_resolve();
    return check_done();
}
