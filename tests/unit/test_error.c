#include "check.h"
#include "core/error.h"

static const struct {
    const char *code;
    int status;
} to_status[] = {
    {"BAD_REQUEST", 400},
    {"RESOURCE_ALREADY_EXISTS", 400},
    {"INVALID_PARAMETER_VALUE", 400},
    {"CUSTOMER_UNAUTHORIZED", 401},
    {"UNAUTHENTICATED", 401},
    {"PERMISSION_DENIED", 403},
    {"NOT_FOUND", 404},
    {"ENDPOINT_NOT_FOUND", 404},
    {"RESOURCE_DOES_NOT_EXIST", 404},
    {"ABORTED", 409},
    {"RESOURCE_CONFLICT", 409},
    {"ALREADY_EXISTS", 409},
    {"REQUEST_LIMIT_EXCEEDED", 429},
    {"RESOURCE_EXHAUSTED", 429},
    {"CANCELLED", 499},
    {"INTERNAL_ERROR", 500},
    {"INVALID_STATE", 500},
    {"DATA_LOSS", 500},
    {"NOT_IMPLEMENTED", 501},
    {"TEMPORARILY_UNAVAILABLE", 503},
    {"DEADLINE_EXCEEDED", 504},
    {"MALFORMED_REQUEST", 500},
    {"COULD_NOT_ACQUIRE_LOCK", 500},
    {"no such code", 500},
};

static const struct {
    int status;
    const char *code;
} from_status[] = {
    {400, "BAD_REQUEST"},       {401, "UNAUTHENTICATED"},
    {403, "PERMISSION_DENIED"}, {404, "ENDPOINT_NOT_FOUND"},
    {409, "ALREADY_EXISTS"},    {429, "RESOURCE_EXHAUSTED"},
    {499, "CANCELLED"},         {500, "INTERNAL_ERROR"},
    {501, "NOT_IMPLEMENTED"},   {503, "TEMPORARILY_UNAVAILABLE"},
    {504, "DEADLINE_EXCEEDED"}, {418, "INTERNAL_ERROR"},
    {502, "INTERNAL_ERROR"},    {0, "INTERNAL_ERROR"},
};

static const struct {
    enum error_kind kind;
    const char *name;
    const char *code;
    int exit_code; /* without a status */
} kinds[] = {
    {ERROR_USAGE, "usage", "INVALID_PARAMETER_VALUE", 2},
    {ERROR_CONFIG, "config", "INVALID_PARAMETER_VALUE", 2},
    {ERROR_AUTH, "auth", "UNAUTHENTICATED", 4},
    {ERROR_NETWORK, "network", "TEMPORARILY_UNAVAILABLE", 8},
    {ERROR_TIMEOUT, "timeout", "DEADLINE_EXCEEDED", 9},
    {ERROR_HTTP, "http", "INTERNAL_ERROR", 6},
    {ERROR_DECODE, "decode", "INTERNAL_ERROR", 6},
    {ERROR_UNSUPPORTED, "unsupported", "NOT_IMPLEMENTED", 5},
    {ERROR_PLUGIN, "plugin", "INTERNAL_ERROR", 10},
    {ERROR_CANCELLED, "cancelled", "CANCELLED", 130},
};

static const struct {
    int status;
    int exit_code;
} http_exits[] = {
    {400, 5}, {401, 4}, {403, 4}, {404, 3}, {409, 5}, {422, 5},
    {429, 7}, {500, 6}, {503, 6}, {302, 6}, {200, 6},
};

static void test_codes(void) {
    for (size_t i = 0; i < sizeof to_status / sizeof to_status[0]; i++) {
        check_case = to_status[i].code;
        CHECK(error_status_from_code(to_status[i].code) == to_status[i].status);
    }
    for (size_t i = 0; i < sizeof from_status / sizeof from_status[0]; i++) {
        check_case = "a code is chosen from a status";
        CHECK_TEXT(error_code_from_status(from_status[i].status), from_status[i].code);
    }
    check_case = "codes are found by their exact name";
    CHECK_TEXT(error_code_find("WORKSPACE_TEMPORARILY_UNAVAILABLE"),
               "WORKSPACE_TEMPORARILY_UNAVAILABLE");
    CHECK(error_code_find("internal_error") == NULL && error_code_find("") == NULL);
}

static void test_kinds(void) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct error err;
        enum error_kind kind;
        check_case = kinds[i].name;
        CHECK_TEXT(error_kind_name(kinds[i].kind), kinds[i].name);
        CHECK(error_kind_from_name(kinds[i].name, &kind) && kind == kinds[i].kind);
        CHECK(!error_set(&err, kinds[i].kind, NULL, "text %d", 7));
        CHECK_TEXT(err.code, kinds[i].code);
        CHECK_TEXT(err.message, "text 7");
        CHECK(err.phase == NULL && !err.sent && err.hint[0] == '\0');
        CHECK(error_exit_code(kinds[i].kind, 0) == kinds[i].exit_code);
    }
    check_case = "an unknown kind is no kind";
    enum error_kind kind = ERROR_PLUGIN;
    CHECK(!error_kind_from_name("Usage", &kind) && kind == ERROR_PLUGIN);
    check_case = "an http error's exit code follows its status";
    for (size_t i = 0; i < sizeof http_exits / sizeof http_exits[0]; i++) {
        CHECK(error_exit_code(ERROR_HTTP, http_exits[i].status) == http_exits[i].exit_code);
    }
}

static void test_cutting(void) {
    char text[ERROR_MESSAGE_SIZE * 2];
    struct error err;
    for (size_t shift = 0; shift < 4; shift++) {
        check_case = "a long message is cut at a whole character";
        memset(text, 'x', sizeof text);
        text[sizeof text - 1] = '\0';
        for (size_t at = shift; at + 4 < sizeof text; at += 4) {
            memcpy(text + at, "\xF0\x9F\x8C\x99", 4);
        }
        error_set(&err, ERROR_USAGE, NULL, "%s", text);
        CHECK(strlen(err.message) == shift + (ERROR_MESSAGE_SIZE - 1 - shift) / 4 * 4);
        CHECK(memcmp(err.message, text, strlen(err.message)) == 0);
    }
    check_case = "a message that fits exactly is not cut";
    memset(text, 'y', sizeof text);
    text[ERROR_MESSAGE_SIZE - 1] = '\0';
    error_set(&err, ERROR_USAGE, NULL, "%s", text);
    CHECK_TEXT(err.message, text);
    check_case = "a hint is set and cut as well";
    error_hint(&err, "%s", "try this");
    CHECK_TEXT(err.hint, "try this");
    error_hint(&err, "%s", text);
    CHECK(strlen(err.hint) == ERROR_HINT_SIZE - 1);
}

int main(void) {
    test_codes();
    test_kinds();
    test_cutting();
    return check_done();
}
