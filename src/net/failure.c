/* What went wrong, for people: libcurl's codes and our timers as errors. The text names the origin
 * and the phase, never the path, the query or a header. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "net/internal.h"

#define DEFAULT_CODE NULL /* the one of the kind */

/* Whether a byte of the request may have reached the server. */
static bool request_sent(const struct transfer *x) {
    long size = 0;
    return x->connected &&
           (curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &size) != CURLE_OK || size > 0);
}

const char *failure_origin(struct transfer *x) {
    const char *url = NULL;
    curl_easy_getinfo(x->easy, CURLINFO_EFFECTIVE_URL, &url);
    transfer_display(x->origin, sizeof x->origin, url != NULL ? url : "");
    return x->origin;
}

static void mark_failed(struct transfer *x, const char *phase) {
    x->failed = true;
    x->error.phase = phase;
    x->error.sent = request_sent(x);
}

void failure_set(struct transfer *x, enum error_kind kind, const char *code, const char *phase,
                 const char *format, ...) {
    char message[ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    error_set(&x->error, kind, code, "%s", message);
    mark_failed(x, phase);
}

static void hint_proxy(struct transfer *x) {
    if (x->proxy[0] != '\0') {
        error_hint(&x->error, "a proxy is configured for this request: %s", x->proxy);
    }
}

/* Our timers */

static void connect_timeout(struct transfer *x) {
    double limit = (double)x->connect_timeout / 1e9;
    curl_off_t resolved = 0;
    long port = 0; /* ours: there once the socket is connected, when only a handshake is missing */
    curl_easy_getinfo(x->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
    curl_easy_getinfo(x->easy, CURLINFO_LOCAL_PORT, &port);
    if (resolved == 0) {
        failure_set(x, ERROR_TIMEOUT, DEFAULT_CODE, "resolve",
                    "no address found for %s within %g s (resolve)", failure_origin(x), limit);
    } else {
        failure_set(x, ERROR_TIMEOUT, DEFAULT_CODE, "connect",
                    "no connection to %s within %g s (connect%s)", failure_origin(x), limit,
                    port != 0 ? ", in the TLS or proxy handshake" : "");
    }
    hint_proxy(x);
}

void failure_of_timer(struct transfer *x, bool total) {
    double idle = (double)x->idle_timeout / 1e9;
    if (total) {
        failure_set(x, ERROR_TIMEOUT, DEFAULT_CODE, "total", "%s was not done within %g s (total)",
                    failure_origin(x), (double)x->total_timeout / 1e9);
        return;
    }
    switch (x->phase) {
    case PHASE_CONNECT:
        connect_timeout(x);
        break;
    case PHASE_SEND:
        failure_set(x, ERROR_TIMEOUT, DEFAULT_CODE, "send",
                    "%s took nothing more of the request for %g s (send)", failure_origin(x), idle);
        break;
    case PHASE_FIRST_BYTE:
        failure_set(x, ERROR_TIMEOUT, DEFAULT_CODE, "first byte",
                    "no answer from %s within %g s (first byte)", failure_origin(x),
                    (double)x->first_byte_timeout / 1e9);
        break;
    case PHASE_BODY:
        failure_set(x, ERROR_TIMEOUT, DEFAULT_CODE, "idle",
                    "%s sent nothing for %g s in the middle of its answer (idle)",
                    failure_origin(x), idle);
        break;
    }
}

/* Libcurl's codes */

/* libcurl's own words for this failure, or the code's general ones. */
static const char *detail(const struct transfer *x, CURLcode code) {
    return x->detail[0] != '\0' ? x->detail : curl_easy_strerror(code);
}

static void connect_failure(struct transfer *x) {
    long number = 0; /* stale where no connect() has failed */
    if (strncmp(x->detail, "Failed to connect", strlen("Failed to connect")) == 0) {
        curl_easy_getinfo(x->easy, CURLINFO_OS_ERRNO, &number);
    }
    const char *why = number != 0 ? strerror((int)number) : detail(x, CURLE_COULDNT_CONNECT);
    failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "connect", "can not connect to %s: %s",
                failure_origin(x), why);
    if (x->proxy[0] != '\0') {
        hint_proxy(x);
    } else if (number == ECONNREFUSED) {
        error_hint(&x->error, "is the server running, and is this its port?");
    }
}

static void certificate_failure(struct transfer *x, CURLcode code) {
    const char *why = detail(x, code);
    failure_set(x, ERROR_NETWORK, "UNAUTHENTICATED", "connect",
                "the certificate of %s is not trusted: %s", failure_origin(x), why);
    if (strstr(why, "expired") != NULL || strstr(why, "not yet valid") != NULL) {
        error_hint(&x->error, "check this machine's clock, then tell who runs the server");
    } else if (strstr(why, "subject name") != NULL || strstr(why, "match") != NULL) {
        error_hint(&x->error, "the certificate is for another name than the URL's host");
    } else {
        error_hint(&x->error, "name the file of the CA that signed it in ca_file, "
                              "MLFLOW_TRACKING_SERVER_CERT_PATH, REQUESTS_CA_BUNDLE or "
                              "CURL_CA_BUNDLE");
    }
}

/* A handshake that is cut may succeed the next time; one where the two sides do not understand each
 * other, of which OpenSSL's own words tell, will not. */
static void handshake_failure(struct transfer *x, CURLcode code) {
    const char *why = detail(x, code);
    bool disagree = strstr(why, "SSL routines") != NULL && strstr(why, "unexpected eof") == NULL;
    failure_set(x, ERROR_NETWORK, disagree ? "INTERNAL_ERROR" : DEFAULT_CODE, "connect",
                "no TLS connection to %s: %s", failure_origin(x), why);
    if (strstr(why, "wrong version number") != NULL ||
        strstr(why, "packet length too long") != NULL) {
        error_hint(&x->error, "the server may speak plain http:// on this port");
    }
}

/* Before a request is written, a broken connection is a proxy's or a handshake's matter. */
static void setup_failure(struct transfer *x, CURLcode code) {
    long status = 0;
    curl_easy_getinfo(x->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    if (status != 0) {
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "connect",
                    "the proxy %s answered %ld when asked for %s", x->proxy, status,
                    failure_origin(x));
    } else {
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "connect",
                    "the connection to %s broke while it was made: %s", failure_origin(x),
                    detail(x, code));
        hint_proxy(x);
    }
}

static void header_size_failure(struct transfer *x) {
    failure_set(x, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "first byte",
                "a header of the answer from %s is too long", failure_origin(x));
}

static void before_request(struct transfer *x, CURLcode code) {
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_LOGIN_DENIED: /* how old versions refuse a user name in the URL */
        failure_set(x, ERROR_USAGE, DEFAULT_CODE, NULL,
                    "not a URL that can be asked: http:// or https://, and no user name in it");
        break;
    case CURLE_COULDNT_RESOLVE_PROXY:
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "resolve", "no address found for the proxy %s",
                    x->proxy);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "resolve", "no address found for %s",
                    failure_origin(x));
        break;
    case CURLE_COULDNT_CONNECT:
        connect_failure(x);
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        certificate_failure(x, code);
        break;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_CIPHER:
        failure_set(x, ERROR_CONFIG, DEFAULT_CODE, "connect",
                    "the certificate files for %s can not be used: %s", failure_origin(x),
                    detail(x, code));
        break;
    case CURLE_SSL_CONNECT_ERROR:
        handshake_failure(x, code);
        break;
    default:
        setup_failure(x, code);
        break;
    }
}

static void before_body(struct transfer *x, CURLcode code) {
    switch (code) {
    case CURLE_GOT_NOTHING:
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "first byte",
                    "%s closed the connection without an answer", failure_origin(x));
        break;
    case CURLE_PARTIAL_FILE:
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "first byte",
                    "%s closed the connection in the middle of its answer's headers",
                    failure_origin(x));
        break;
    case CURLE_SEND_ERROR:
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "send",
                    "the connection to %s broke while the request was sent: %s", failure_origin(x),
                    detail(x, code));
        break;
    case CURLE_UNSUPPORTED_PROTOCOL: /* how HTTP/0.9 is refused */
    case CURLE_WEIRD_SERVER_REPLY:
        failure_set(x, ERROR_NETWORK, "INTERNAL_ERROR", "first byte",
                    "the answer from %s is not valid HTTP: %s", failure_origin(x), detail(x, code));
        error_hint(&x->error, "is this the right port, and should it be https://?");
        break;
    case CURLE_OUT_OF_MEMORY: /* what libcurl before 8.6 calls a header line beyond its limit */
        header_size_failure(x);
        break;
    default:
        failure_set(x, ERROR_NETWORK, DEFAULT_CODE, "first byte",
                    "the connection to %s broke before its answer: %s", failure_origin(x),
                    detail(x, code));
        break;
    }
}

void failure_of_code(struct transfer *x, CURLcode code) {
    if (code == CURLE_OPERATION_TIMEDOUT) {
        connect_timeout(x);
    } else if (code == CURLE_FILESIZE_EXCEEDED) {
        failure_set(x, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "body",
                    "the answer from %s is larger than the limit of %zu bytes (max_body)",
                    failure_origin(x), x->body.max);
    } else if (!x->connected && code == CURLE_OUT_OF_MEMORY) {
        failure_set(x, ERROR_NETWORK, "RESOURCE_EXHAUSTED", "connect", "out of memory");
    } else if (!x->connected) {
        before_request(x, code);
#if LIBCURL_VERSION_NUM >= 0x080600
    } else if (code == CURLE_TOO_LARGE) {
        header_size_failure(x);
#endif
    } else if (!x->head_complete) {
        before_body(x, code);
    } else {
        failure_set(x, ERROR_NETWORK, "DATA_LOSS", "body",
                    "the answer from %s was cut off or garbled after %zu bytes: %s",
                    failure_origin(x), x->received, detail(x, code));
    }
}
