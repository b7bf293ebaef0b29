/* A target is split as urlparse does it: spaces in front dropped, scheme, "//" authority, and the
 * path up to "?" or "#". */
#include "core/target.h"

#include <string.h>

static bool is_alpha(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool may_follow_in_scheme(char c) {
    return is_alpha(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
}

/* Length of the scheme before the first colon, or 0. */
static size_t scheme_length(const char *text, const char *end) {
    if (text == end || !is_alpha(*text)) {
        return 0;
    }
    const char *at = text + 1;
    while (at < end && may_follow_in_scheme(*at)) {
        at++;
    }
    return at < end && *at == ':' ? (size_t)(at - text) : 0;
}

/* How far [text, end) goes without any of the bytes in `stops`. */
static const char *find_any(const char *text, const char *end, const char *stops) {
    while (text < end && strchr(stops, *text) == NULL) {
        text++;
    }
    return text;
}

static const char *skip_slashes(const char *text, const char *end) {
    return end - text >= 2 && text[0] == '/' && text[1] == '/' ? text + 2 : text;
}

static bool check_bytes(const char *uri, size_t len, struct error *err) {
    if (len > TARGET_MAX) {
        return error_set(err, ERROR_CONFIG, NULL, "a deployment target has at most %d bytes",
                         TARGET_MAX);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)uri[i] < 0x20 || uri[i] == 0x7F) {
            return error_set(err, ERROR_CONFIG, NULL,
                             "a deployment target cannot hold a control byte");
        }
    }
    return true;
}

bool target_parse(struct target *target, const char *uri, size_t len, struct error *err) {
    *target = (struct target){0};
    if (!check_bytes(uri, len, err)) {
        return false;
    }
    const char *text = uri;
    const char *end = uri + len;
    while (text < end && *text == ' ') {
        text++;
    }
    size_t scheme_len = scheme_length(text, end);
    if (scheme_len > 0) {
        for (size_t i = 0; i < scheme_len; i++) {
            target->name[i] = lower(text[i]);
        }
        target->rest = skip_slashes(text + scheme_len + 1, end);
        target->rest_len = (size_t)(end - target->rest);
        return true;
    }
    const char *authority = skip_slashes(text, end);
    const char *path = authority == text ? text : find_any(authority, end, "/?#");
    size_t path_len = (size_t)(find_any(path, end, "?#") - path);
    if (path_len == 0) {
        return error_set(err, ERROR_CONFIG, "INTERNAL_ERROR",
                         "Not a proper deployment URI: %.*s. Deployment URIs must be of the form "
                         "'target' or 'target:/suffix'",
                         (int)len, uri);
    }
    memcpy(target->name, path, path_len);
    return true;
}
