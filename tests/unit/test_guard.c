#include "check.h"
#include "core/guard.h"

enum { PORT = 5000 };

/* Host headers at a server on 127.0.0.1:5000. */
static const char *const ours[] = {
    "localhost", "localhost:5000", "LOCALHOST", "LocalHost:5000",
    "127.0.0.1", "127.0.0.1:5000", "[::1]",     "[::1]:5000",
};

static const struct {
    const char *host;
    int status;
} foreign[] = {
    {"localhost.", 403},
    {"localhost.:5000", 403},
    {"localhost:80", 403},
    {"localhost:", 403},
    {"localhost:50000", 403},
    {"localhost:500", 403},
    {"localhost:5000:5000", 403},
    {"localhost:-5000", 403},
    {"localhost:65535", 403},
    {"localhost:65536", 403},
    {"localhost:70536", 403},                /* 5000 in 16 bits */
    {"localhost:18446744073709556616", 403}, /* 5000 in 64 bits */
    {"localhost.evil.test", 403},
    {"localhost-evil.test", 403},
    {"evil.localhost", 403},
    {"127.0.0.1.evil.test", 403},
    {"127.0.0.1.evil.test:5000", 403},
    {"127.0.0.12", 403},
    {"127.0.0.1.", 403},
    {"127.1", 403},
    {"2130706433", 403},
    {"0x7f.0.0.1", 403},
    {"0.0.0.0:5000", 403},
    {"[::1].evil.test", 403},
    {"[::1", 403},
    {"::1", 403},
    {"[::1]:80", 403},
    {"[0:0:0:0:0:0:0:2]", 403},
    {"[::ffff:10.0.0.1]", 403},
    {"evil.test", 403},
    {"10.0.0.1:5000", 403},
    {"", 400},
    {" localhost", 400},
    {"localhost ", 400},
    {"localhost, evil.test", 400},
    {"localhost:+5000", 400},
    {"user@localhost", 400},
    {"localhost/", 400},
    {"localhost?", 400},
    {"localhost#", 400},
    {"localhost\\evil.test", 400},
    {"local\thost", 400},
    {"localhost\x7F", 400},
    {"localhost%2e", 400},
    {"lo\xC3\xA7"
     "alhost",
     400},
    {"<script>", 400},
    {"\"localhost\"", 400},
};

static struct guard_request request_with_host(const char *host) {
    return (struct guard_request){.host = {.value = host, .count = 1},
                                  .loopback_only = true,
                                  .host_required = true,
                                  .port = PORT,
                                  .max_body = 100};
}

static int status_of(const struct guard_request *request) {
    const struct guard_refusal *refusal = guard_check(request);
    return refusal != NULL ? refusal->status : 0;
}

static void test_host(void) {
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        check_case = ours[i];
        struct guard_request request = request_with_host(ours[i]);
        CHECK(guard_is_loopback(ours[i], PORT));
        CHECK(guard_check(&request) == NULL);
    }
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        check_case = foreign[i].host;
        struct guard_request request = request_with_host(foreign[i].host);
        CHECK(!guard_is_loopback(foreign[i].host, PORT));
        CHECK(status_of(&request) == foreign[i].status);
    }
}

static void test_host_elsewhere(void) {
    struct guard_request request = request_with_host("example.com");
    check_case = "a server with a name of its own";
    request.loopback_only = false;
    CHECK(status_of(&request) == 0);
    request.host.value = "a b";
    CHECK(status_of(&request) == 400);
    char name[264];
    memset(name, 'a', sizeof name);
    name[262] = '\0';
    request.host.value = name;
    CHECK(status_of(&request) == 0);
    name[262] = 'a';
    name[263] = '\0';
    CHECK(status_of(&request) == 400);
}

static void test_own_name(void) {
    struct guard_request request = request_with_host("127.0.0.2:5000");
    check_case = "the server's own name";
    CHECK(status_of(&request) == 403);
    request.name = "127.0.0.2";
    CHECK(status_of(&request) == 0);
    request.host.value = "127.0.0.2";
    CHECK(status_of(&request) == 0);
    request.host.value = "127.0.0.2:5001";
    CHECK(status_of(&request) == 403);
    request.host.value = "127.0.0.23:5000";
    CHECK(status_of(&request) == 403);
    request.host.value = "localhost:5000";
    CHECK(status_of(&request) == 0);
    request.name = "";
    request.host.value = "evil.test";
    CHECK(status_of(&request) == 403);
}

static const struct {
    const char *name, *value;
    bool is_fine;
} lines[] = {
    {"Host", "localhost", true},
    {"X-1_~!#$%&'*+.^`|", "a \t\"b\xE9\x80", true},
    {"x", "", true},
    {"", "a", false},
    {" x", "a", false},
    {"x ", "a", false},
    {"x\t", "a", false},
    {"x y", "a", false},
    {"x:", "a", false},
    {"x(", "a", false},
    {"x\r", "a", false},
    {"x\x7F", "a", false},
    {"\xE9", "a", false},
    {"x", "a\rb", false},
    {"x", "a\nb", false},
    {"x", "\x1B[31m", false},
    {"x", "a\x7F", false},
    {"x", "\x01", false},
};

static void test_line(void) {
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        check_case = lines[i].name;
        CHECK(guard_is_line(lines[i].name, lines[i].value) == lines[i].is_fine);
    }
}

static void test_host_count(void) {
    struct guard_request request = request_with_host("localhost");
    check_case = "how often Host comes";
    request.host.count = 2;
    CHECK(status_of(&request) == 400);
    request.host = (struct guard_header){0};
    CHECK(status_of(&request) == 400);
    request.host_required = false;
    CHECK(status_of(&request) == 0);
    request.origin = (struct guard_header){.value = "http://localhost", .count = 1};
    CHECK(status_of(&request) == 403);
}

static const struct {
    const char *host, *origin;
    bool is_same;
} origins[] = {
    {"localhost:5000", "http://localhost:5000", true},
    {"localhost:5000", "HTTP://LocalHost:5000", true},
    {"127.0.0.1:5000", "http://127.0.0.1:5000", true},
    {"[::1]:5000", "http://[::1]:5000", true},
    {"localhost:5000", "https://localhost:5000", true},
    {"localhost:5000", "http://localhost:5001", false},
    {"localhost:5000", "http://localhost", false},
    {"localhost:5000", "http://127.0.0.1:5000", false},
    {"localhost:5000", "http://localhost:5000/", false},
    {"localhost:5000", "http://localhost:5000.evil.test", false},
    {"localhost:5000", "http://evil.test", false},
    {"localhost:5000", "http://localhost:5000@evil.test", false},
    {"localhost:5000", "null", false},
    {"localhost:5000", "", false},
    {"localhost:5000", "localhost:5000", false},
    {"localhost:5000", "//localhost:5000", false},
    {"localhost:5000", "ftp://localhost:5000", false},
    {"localhost:5000", "file://", false},
    {"localhost:5000", "chrome-extension://localhost:5000", false},
    {"localhost:5000", "http://localhost:5000 http://evil.test", false},
    {"localhost:5000", " http://localhost:5000", false},
    {"localhost:5000", "http:localhost:5000", false},
    {"localhost:5000", "http://", false},
};

static void test_origin(void) {
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        struct guard_request request = request_with_host(origins[i].host);
        check_case = origins[i].origin;
        request.origin = (struct guard_header){.value = origins[i].origin, .count = 1};
        CHECK(guard_is_same_origin(origins[i].origin, origins[i].host) == origins[i].is_same);
        CHECK(status_of(&request) == (origins[i].is_same ? 0 : 403));
        request.origin.count = 2;
        CHECK(status_of(&request) == 400);
    }
}

static const struct {
    const char *length;
    int status;
} lengths[] = {
    {"0", 0},
    {"5", 0},
    {"005", 0},
    {"100", 0},
    {"101", 413},
    {"18446744073709551615", 413},
    {"18446744073709551616", 413}, /* 0 in 64 bits */
    {"18446744073709551621", 413}, /* 5 in 64 bits */
    {"99999999999999999999999999999999999999", 413},
    {"", 400},
    {"+5", 400},
    {"-1", 400},
    {"-0", 400},
    {"0x5", 400},
    {"5,5", 400},
    {"5, 5", 400},
    {"5 5", 400},
    {" 5", 400},
    {"5 ", 400},
    {"5\t", 400},
    {"5;", 400},
    {"5.0", 400},
    {"1e1", 400},
    {"five", 400},
    {"5\xC2\xA0", 400},
    {"\xD9\xA5", 400}, /* a five of another script */
    {"18446744073709551616x", 400},
};

static void test_length(void) {
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct guard_request request = request_with_host("localhost");
        check_case = lengths[i].length;
        request.length = (struct guard_header){.value = lengths[i].length, .count = 1};
        CHECK(status_of(&request) == lengths[i].status);
        request.length.count = 2;
        CHECK(status_of(&request) == 400);
        request.length.count = 1;
        request.coding = (struct guard_header){.value = "chunked", .count = 1};
        CHECK(status_of(&request) == 400);
        request.max_body = 0;
        request.coding.count = 0;
        request.length.value = "1";
        CHECK(status_of(&request) == 413);
        request.length.value = "0";
        CHECK(status_of(&request) == 0);
    }
}

static const struct {
    const char *coding;
    int status;
} codings[] = {
    {"chunked", 0},
    {"Chunked", 0},
    {"CHUNKED", 0},
    {"", 501},
    {"identity", 501},
    {"gzip", 501},
    {"xchunked", 501},
    {"chunkedx", 501},
    {"chunked ", 501},
    {" chunked", 501},
    {"chunked,", 501},
    {"chunked, identity", 501},
    {"identity, chunked", 501},
    {"gzip, chunked", 501},
    {"chunked, chunked", 501},
    {"chunked;a=b", 501},
    {"\x0B"
     "chunked",
     501},
    {"\"chunked\"", 501},
    {"chun\xE2\x84\xAA"
     "ed",
     501}, /* the sign of Kelvin */
};

static void test_coding(void) {
    for (size_t i = 0; i < sizeof codings / sizeof codings[0]; i++) {
        struct guard_request request = request_with_host("localhost");
        check_case = codings[i].coding;
        request.coding = (struct guard_header){.value = codings[i].coding, .count = 1};
        CHECK(status_of(&request) == codings[i].status);
        request.coding.count = 2;
        CHECK(status_of(&request) == 501);
    }
}

static void test_order(void) {
    struct guard_request request = request_with_host("evil.test");
    check_case = "framing comes before names: what follows on the connection depends on it";
    request.length = (struct guard_header){.value = "+5", .count = 1};
    CHECK(status_of(&request) == 400);
    CHECK(guard_check(&request)->message[0] != '\0');
    CHECK(strpbrk(guard_check(&request)->message, "\"\\\r\n") == NULL);
}

int main(void) {
    test_host();
    test_host_elsewhere();
    test_own_name();
    test_line();
    test_host_count();
    test_origin();
    test_length();
    test_coding();
    test_order();
    return check_done();
}
