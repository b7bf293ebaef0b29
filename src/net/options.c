#include "net/options.h"

#include <ctype.h>
#include <dirent.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "net/internal.h"

#define OPTION(name) CURLOPT_##name, #name

enum {
    NO_PROXY_SIZE = 64 * 1024,
    BACKSTOP_MS = 1000,      /* libcurl's connect timer fires this long after ours */
    LONGEST_MS = 1000000000, /* 11 days: what stands for no limit, its 0 being 5 minutes */
    REDIRECTS = 5            /* never used: none is followed */
};

/* What does not depend on the request. */
static const struct option FIXED[] = {
    {OPTION(NOSIGNAL), .number = 1},
    {OPTION(PROTOCOLS_STR), OPTION_TEXT, .text = "http,https"},
    {OPTION(REDIR_PROTOCOLS_STR), OPTION_TEXT, .text = "http,https"},
    {OPTION(FOLLOWLOCATION), .number = 0},
    {OPTION(MAXREDIRS), .number = REDIRECTS},
    {OPTION(UNRESTRICTED_AUTH), .number = 0},
    {OPTION(DISALLOW_USERNAME_IN_URL), .number = 1},
    {OPTION(PATH_AS_IS), .number = 1},
    {OPTION(NETRC), .number = CURL_NETRC_IGNORED},
    {OPTION(HEADEROPT), .number = CURLHEADER_SEPARATE},
    {OPTION(SUPPRESS_CONNECT_HEADERS), .number = 1},
    {OPTION(HTTP09_ALLOWED), .number = 0},
    {OPTION(ACCEPT_ENCODING), OPTION_TEXT, .text = NULL},
    {OPTION(TCP_KEEPALIVE), .number = 1},
    {OPTION(SSLVERSION), .number = CURL_SSLVERSION_TLSv1_2},
    {OPTION(PROXY_SSLVERSION), .number = CURL_SSLVERSION_TLSv1_2},
#if LIBCURL_VERSION_NUM >= 0x075700
    {OPTION(QUICK_EXIT), .number = 1}, /* else removing a handle waits for the resolver's thread */
#endif
};

static struct option *add(struct options *o, int id, const char *name, enum option_type type) {
    struct option *option = &o->list[o->count++];
    *option = (struct option){.id = id, .name = name, .type = type};
    return option;
}

static void add_long(struct options *o, int id, const char *name, int64_t number) {
    add(o, id, name, OPTION_LONG)->number = number;
}

static void add_text(struct options *o, int id, const char *name, const char *text) {
    add(o, id, name, OPTION_TEXT)->text = text;
}

/* Certificates */

struct ca {
    const char *file;
    const char *path;
};

/* Whether OpenSSL finds CAs in the directory: by links named after a hash of the subject. */
static bool is_hashed(const char *path) {
    enum { HASH_LEN = 8 };
    DIR *dir = path != NULL ? opendir(path) : NULL;
    if (dir == NULL) {
        return false;
    }
    bool found = false;
    const struct dirent *entry;
    while (!found && (entry = readdir(dir)) != NULL) {
        const char *name = entry->d_name;
        found = strspn(name, "0123456789abcdef") == HASH_LEN && strcmp(name + HASH_LEN, ".0") == 0;
    }
    closedir(dir);
    return found;
}

/* The system's CAs, as a directory where it is hashed: a bundle is parsed whole on a new
 * connection, and both together on every one. */
static struct ca find_system_ca(void) {
    static const char *const BUNDLES[] = {
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    };
    const curl_version_info_data *built = curl_version_info(CURLVERSION_NOW);
    const char *paths[] = {built->capath, "/etc/ssl/certs"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (is_hashed(paths[i])) {
            return (struct ca){.path = paths[i]};
        }
    }
    for (size_t i = 0; i < sizeof BUNDLES / sizeof *BUNDLES; i++) {
        if (access(BUNDLES[i], R_OK) == 0) {
            return (struct ca){.file = BUNDLES[i]};
        }
    }
    return (struct ca){.file = built->cainfo};
}

static struct ca choose_ca(const struct transfer_request *request) {
    static struct ca system_ca;
    if (request->ca_file != NULL) {
        return (struct ca){.file = request->ca_file};
    }
    if (request->ca_path != NULL) {
        return (struct ca){.path = request->ca_path};
    }
    if (system_ca.file == NULL && system_ca.path == NULL) {
        system_ca = find_system_ca();
    }
    return system_ca;
}

static void add_tls(struct options *o, const struct transfer_request *request) {
    struct ca ca = choose_ca(request);
    add_text(o, OPTION(CAINFO), ca.file);
    add_text(o, OPTION(CAPATH), ca.path);
    add_text(o, OPTION(PROXY_CAINFO), ca.file);
    add_text(o, OPTION(PROXY_CAPATH), ca.path);
    add_text(o, OPTION(SSLCERT), request->client_cert);
    add_text(o, OPTION(SSLKEY), request->client_key);
    add_long(o, OPTION(SSL_VERIFYPEER), request->insecure_tls ? 0 : 1);
    add_long(o, OPTION(SSL_VERIFYHOST), request->insecure_tls ? 0 : 2);
    add_long(o, OPTION(PROXY_SSL_VERIFYPEER), request->insecure_tls ? 0 : 1);
    add_long(o, OPTION(PROXY_SSL_VERIFYHOST), request->insecure_tls ? 0 : 2);
}

/* The rest */

/* Setting PROXY, be it to "", is what keeps libcurl from reading the environment. */
static bool add_proxy(struct options *o, const struct transfer_request *request) {
    const char *no_proxy = request->no_proxy != NULL ? request->no_proxy : "";
    bool all = strcmp(no_proxy, "*") == 0; /* means everything only where it stands alone */
    bool ok = buf_puts(&o->no_proxy, no_proxy) &&
              (all || buf_puts(&o->no_proxy, *no_proxy != '\0' ? "," : "")) &&
              (all || buf_puts(&o->no_proxy, "localhost,127.0.0.1,127.0.0.0/8,::1"));
    add_text(o, OPTION(PROXY), request->proxy != NULL ? request->proxy : "");
    add_text(o, OPTION(NOPROXY), o->no_proxy.data);
    return ok;
}

static int64_t connect_ms(const struct transfer_request *request) {
    int64_t ms = request->connect_timeout / 1000000;
    return ms < LONGEST_MS ? ms + BACKSTOP_MS : LONGEST_MS;
}

/* A body of a HEAD never comes, whatever length is announced; one that is taken piece by piece has
 * no limit as a whole. */
static int64_t largest_body(const struct transfer_request *request) {
    bool limited = strcmp(request->method, "HEAD") != 0 && request->window == 0 &&
                   request->max_body < INT64_MAX;
    return limited ? (int64_t)request->max_body : 0;
}

bool options_can_proxy(const char *proxy) {
    static const char *const SCHEMES[] = {"http",    "https",  "socks4",
                                          "socks4a", "socks5", "socks5h"};
    CURLU *url = curl_url();
    char *scheme = NULL;
    bool known = false;
    if (curl_url_set(url, CURLUPART_URL, proxy, CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME) ==
            CURLUE_OK &&
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK) {
        for (size_t i = 0; i < sizeof SCHEMES / sizeof *SCHEMES; i++) {
            known = known || strcasecmp(scheme, SCHEMES[i]) == 0;
        }
    }
    curl_free(scheme);
    curl_url_cleanup(url);
    return known;
}

/* What requests of one profile share. */
static bool add_profile(struct options *o, const struct transfer_request *request) {
    memcpy(o->list, FIXED, sizeof FIXED);
    o->count = sizeof FIXED / sizeof *FIXED;
    add_long(o, OPTION(HTTP_VERSION),
             request->http2 ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
    add_long(o, OPTION(PIPEWAIT), request->http2 ? 1 : 0);
    add_tls(o, request);
    return add_proxy(o, request);
}

bool options_init(struct options *o, const struct transfer_request *request, bool all) {
    o->count = 0;
    buf_init(&o->no_proxy, NO_PROXY_SIZE);
    if (all && !add_profile(o, request)) {
        return false;
    }
    add_text(o, OPTION(URL), request->url);
    add_long(o, OPTION(CONNECTTIMEOUT_MS), connect_ms(request));
    add(o, OPTION(MAXFILESIZE_LARGE), OPTION_SIZE)->number = largest_body(request);
    return true;
}

void options_free(struct options *o) {
    buf_free(&o->no_proxy);
}
