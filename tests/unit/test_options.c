/* The golden list: every request gets exactly these options of libcurl. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "net/options.h"
#include "net/transport.h"

static struct transfer_request get(const char *url) {
    return (struct transfer_request){
        .method = "GET",
        .url = url,
        .max_body = 1 << 20,
        .connect_timeout = INT64_C(5000000000),
        .first_byte_timeout = TRANSPORT_NEVER,
        .idle_timeout = TRANSPORT_NEVER,
        .total_timeout = TRANSPORT_NEVER,
    };
}

struct golden {
    const char *name;
    int64_t number;
    const char *text;
};

/* Every option but the system's CA, which differs between machines. */
static const struct golden GOLDEN[] = {
    {"NOSIGNAL", 1, NULL},
    {"PROTOCOLS_STR", 0, "http,https"},
    {"REDIR_PROTOCOLS_STR", 0, "http,https"},
    {"FOLLOWLOCATION", 0, NULL},
    {"MAXREDIRS", 5, NULL},
    {"UNRESTRICTED_AUTH", 0, NULL},
    {"DISALLOW_USERNAME_IN_URL", 1, NULL},
    {"PATH_AS_IS", 1, NULL},
    {"NETRC", 0, NULL},
    {"HEADEROPT", 1, NULL},
    {"SUPPRESS_CONNECT_HEADERS", 1, NULL},
    {"HTTP09_ALLOWED", 0, NULL},
    {"ACCEPT_ENCODING", 0, NULL},
    {"TCP_KEEPALIVE", 1, NULL},
    {"SSLVERSION", 6, NULL},
    {"PROXY_SSLVERSION", 6, NULL},
    {"QUICK_EXIT", 1, NULL},
    {"URL", 0, "https://example.test/a"},
    {"CONNECTTIMEOUT_MS", 6000, NULL},
    {"MAXFILESIZE_LARGE", 1 << 20, NULL},
    {"HTTP_VERSION", 2, NULL},
    {"PIPEWAIT", 0, NULL},
    {"SSLCERT", 0, NULL},
    {"SSLKEY", 0, NULL},
    {"SSL_VERIFYPEER", 1, NULL},
    {"SSL_VERIFYHOST", 2, NULL},
    {"PROXY_SSL_VERIFYPEER", 1, NULL},
    {"PROXY_SSL_VERIFYHOST", 2, NULL},
    {"PROXY", 0, ""},
    {"NOPROXY", 0, "localhost,127.0.0.1,127.0.0.0/8,::1"},
};

static const struct option *find_option(const struct options *o, const char *name) {
    for (size_t i = 0; i < o->count; i++) {
        if (strcmp(o->list[i].name, name) == 0) {
            return &o->list[i];
        }
    }
    return NULL;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static const char *option_text(const struct options *o, const char *name) {
    const struct option *option = find_option(o, name);
    return option != NULL ? option->text : NULL;
}

static void test_golden(void) {
    struct transfer_request request = get("https://example.test/a");
    struct options o;
    CHECK(options_init(&o, &request, true));
    for (size_t i = 0; i < sizeof GOLDEN / sizeof *GOLDEN; i++) {
        const struct option *option = find_option(&o, GOLDEN[i].name);
        check_case = GOLDEN[i].name;
        CHECK(option != NULL && option->number == GOLDEN[i].number &&
              same_text(option->text, GOLDEN[i].text));
    }
    CHECK(o.count == sizeof GOLDEN / sizeof *GOLDEN + 4);
    CHECK((option_text(&o, "CAINFO") == NULL) != (option_text(&o, "CAPATH") == NULL));
    CHECK(same_text(option_text(&o, "CAINFO"), option_text(&o, "PROXY_CAINFO")));
    CHECK(same_text(option_text(&o, "CAPATH"), option_text(&o, "PROXY_CAPATH")));
    options_free(&o);
}

static void test_options_of_request(void) {
    struct transfer_request request = get("https://example.test/a");
    struct options o;
    request.ca_file = "/ca.pem";
    request.proxy = "http://proxy.test:3128";
    request.no_proxy = "a.test,b.test";
    request.http2 = true;
    CHECK(options_init(&o, &request, true));
    CHECK(same_text(option_text(&o, "CAINFO"), "/ca.pem"));
    CHECK(option_text(&o, "CAPATH") == NULL);
    CHECK(same_text(option_text(&o, "PROXY"), "http://proxy.test:3128"));
    CHECK(
        same_text(option_text(&o, "NOPROXY"), "a.test,b.test,localhost,127.0.0.1,127.0.0.0/8,::1"));
    CHECK(find_option(&o, "HTTP_VERSION")->number == 4);
    CHECK(find_option(&o, "PIPEWAIT")->number == 1);
    options_free(&o);

    request = get("https://example.test/a");
    request.ca_path = "/cas";
    request.no_proxy = "*";
    request.insecure_tls = true;
    request.method = "HEAD";
    request.connect_timeout = TRANSPORT_NEVER;
    CHECK(options_init(&o, &request, true));
    CHECK(same_text(option_text(&o, "CAPATH"), "/cas"));
    CHECK(option_text(&o, "CAINFO") == NULL);
    CHECK(same_text(option_text(&o, "NOPROXY"), "*"));
    CHECK(find_option(&o, "SSL_VERIFYPEER")->number == 0);
    CHECK(find_option(&o, "SSL_VERIFYHOST")->number == 0);
    CHECK(find_option(&o, "MAXFILESIZE_LARGE")->number == 0);
    CHECK(find_option(&o, "CONNECTTIMEOUT_MS")->number == 1000000000);
    options_free(&o);
}

static void test_proxies(void) {
    static const struct {
        const char *proxy;
        bool ok;
    } CASES[] = {
        {"http://127.0.0.1:3128", true},  {"proxy.test:3128", true},
        {"socks5h://a.test", true},       {"HTTPS://user:key@a.test:1", true},
        {"foo://user:key@a.test", false}, {"file:///etc/passwd", false},
        {"http://a.test:x", false},       {"http://", false},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        check_case = CASES[i].proxy;
        CHECK(options_can_proxy(CASES[i].proxy) == CASES[i].ok);
    }
}

int main(void) {
    test_golden();
    test_options_of_request();
    test_proxies();
    return check_done();
}
