/* Every case runs whole, one byte a piece, and cut at every point with an empty piece between; the
 * trace of what came out must be the same each time. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "check.h"
#include "core/sse.h"

/* A trace: what sse_next gave, in order. */
#define EV(type, data) type "\x1F" data "\x1E"
#define DONE "\x04"
#define TOO_LONG "\x05"

#define BOM "\xEF\xBB\xBF"
#define FFFD "\xEF\xBF\xBD"
#define CASE(name, input, wanted)                                                                  \
    { name, input, sizeof(input) - 1, wanted, sizeof(wanted) - 1 }

struct parse_case {
    const char *name;
    const char *input;
    size_t input_len;
    const char *wanted;
    size_t wanted_len;
};

static const struct parse_case cases[] = {
    /* openai-python, test_streaming.py */
    CASE("basic", "event: completion\ndata: {\"foo\":true}\n\n",
         EV("completion", "{\"foo\":true}")),
    CASE("data without event", "data: {\"foo\":true}\n\n", EV("", "{\"foo\":true}")),
    CASE("event without data", "event: ping\n\n", ""),
    CASE("two events without data", "event: ping\n\nevent: completion\n\n", ""),
    CASE("two events with data", "event: ping\ndata: {\"a\":1}\n\nevent: done\ndata: {\"b\":2}\n\n",
         EV("ping", "{\"a\":1}") EV("done", "{\"b\":2}")),
    CASE("empty data lines",
         "event: ping\ndata: {\ndata: \"foo\":\ndata: \ndata:\ndata: true}\n\n\n",
         EV("ping", "{\n\"foo\":\n\n\ntrue}")),
    CASE("escaped line ends", "data: {\"foo\":\"a\\n\\nb\"}\n\n", EV("", "{\"foo\":\"a\\n\\nb\"}")),
    CASE("three data lines", "data: {\ndata: \"foo\": true\ndata: }\n\n",
         EV("", "{\n\"foo\": true\n}")),
    CASE("U+2028, U+2029, NEL, VT, FF and NUL are data",
         "data: a\xE2\x80\xA8\xE2\x80\xA9\xC2\x85\v\f\0b\n\n",
         EV("", "a\xE2\x80\xA8\xE2\x80\xA9\xC2\x85\v\f\0b")),
    CASE("multibyte", "data: известни\n\n", EV("", "известни")),
    /* openai-python, test_sse_framing.py */
    CASE("ok with LF", "data:ok\n\n", EV("", "ok")),
    CASE("ok with CR", "data:ok\r\r", EV("", "ok")),
    CASE("ok with CRLF", "data:ok\r\n\r\n", EV("", "ok")),
    CASE("mixed ends", "id:one\r\ndata:известни\r\n\ndata:two\n\rdata:unfinished",
         EV("", "известни") EV("", "two")),
    /* openai-node */
    CASE("CR twice", "data:a\r\rdata:b\r\r", EV("", "a") EV("", "b")),
    CASE("CR CR, then CRLF", "data:a\r\r\r\ndata:b\r\r", EV("", "a") EV("", "b")),
    CASE("no phantom event", "data:a\r\r\n\r\ndata:b\r\n\r\n", EV("", "a") EV("", "b")),
    CASE("LF, then CRLF whose LF has not come", "data:a\n\r", EV("", "a")),
    CASE("LF, then CRLF", "data:a\n\r\n", EV("", "a")),
    CASE("CRLF, then LF", "data:a\r\n\n", EV("", "a")),
    CASE("one CR ends no event", "data:a\r", ""),
    CASE("one CRLF ends no event", "data:a\r\n", ""),
    CASE("forged sentinel", "data: [DONE]x\n\n", EV("", "[DONE]x")),
    CASE("nothing behind the sentinel", "data: [DONE]\n\ndata: x\n\n", DONE),
    CASE("named error", "event: error\ndata: {\"message\":\"m\"}\n\n",
         EV("error", "{\"message\":\"m\"}")),
    /* openai-go */
    CASE("comments only", ": a\n: b\n\n", ""),
    CASE("comment with CRLF", ": a\r\n\r\n", ""),
    CASE("retry only", "retry: 3000\n\n", ""),
    CASE("empty stream", "", ""),
    CASE("blank lines only", "\n\n\r\r\r\n\r\n", ""),
    CASE("empty data", "data:\n\n", EV("", "")),
    CASE("unfinished line", "data: a\n\ndata: {\"b\"", EV("", "a")),
    CASE("unfinished event", "data: a\n\ndata: b\n", EV("", "a")),
    /* where the decoders differ */
    CASE("byte order mark", BOM "data: a\n\n", EV("", "a")),
    CASE("only one mark", BOM BOM "data: a\n\ndata: b\n\n", EV("", "b")),
    CASE("no mark later", "data: a\n\n" BOM "data: b\n\ndata: " BOM "c\n\n",
         EV("", "a") EV("", BOM "c")),
    CASE("mark before a comment", BOM ": a\ndata: b\n\n", EV("", "b")),
    CASE("mark before a blank line", BOM "\ndata: b\n\n", EV("", "b")),
    CASE("half a mark is a name",
         "\xEF\xBB"
         "data: a\ndata: b\n\n",
         EV("", "b")),
    CASE("half a mark is no blank line", "\xEF\xBB\ndata: b\n\n", EV("", "b")),
    CASE("half a mark, and the stream ends", "\xEF\xBB", ""),
    CASE("id stays, comment is no event", "id: 1\ndata: a\n\n: ping\n\n", EV("", "a")),
    CASE("id only", "id: 1\n\nid\n\nid: a\0b\n\n", ""),
    CASE("bad retry", "retry: +5\nretry:  7 \ndata: a\n\n", EV("", "a")),
    CASE("not UTF-8", "data: a\xFFz\n\n", EV("", "a" FFFD "z")),
    CASE("sentinel without blank line", "data: a\n\ndata: [DONE]\n", EV("", "a") DONE),
    CASE("sentinel with CR", "data: [DONE]\r", DONE),
    CASE("sentinel without line end", "data: a\n\ndata: [DONE]", EV("", "a")),
    CASE("sentinel without space", "data:[DONE]\n", DONE),
    CASE("sentinel with two spaces", "data:  [DONE]\n\n", EV("", " [DONE]")),
    CASE("sentinel with a space behind", "data: [DONE] \n\n", EV("", "[DONE] ")),
    CASE("sentinel in small letters", "data: [done]\n\n", EV("", "[done]")),
    CASE("sentinel of a named event", "id: 7\nevent: end\n: c\ndata: [DONE]\n", DONE),
    CASE("sentinel on line two", "data: a\ndata: [DONE]\n\n", EV("", "a\n[DONE]")),
    CASE("sentinel behind an empty line", "data\ndata: [DONE]\n\n", EV("", "\n[DONE]")),
    CASE("sentinel, then a line more", "data: [DONE]\ndata: a\n\n", DONE),
    CASE("sentinel of another field", "event: [DONE]\nid: [DONE]\ndata: a\n\n", EV("[DONE]", "a")),
    CASE("error field", "error: {\"code\":500}\n\ndata: [DONE]\n\n",
         EV("error", "{\"code\":500}") DONE),
    CASE("error field with data", "event: x\ndata: a\nerror: b\ndata: c\n\n",
         EV("error", "a\nb\nc")),
    CASE("error field, then a type", "error: b\nevent: x\n\n", EV("x", "b")),
    CASE("error field without text", "error\n\nerror:\n\n", EV("error", "") EV("error", "")),
    CASE("error field is no sentinel", "error: [DONE]\n\n", EV("error", "[DONE]")),
    /* the standard */
    CASE("one space is stripped", "data:  a\n\ndata:\ta\n\ndata: \n\ndata:a \n\n",
         EV("", " a") EV("", "\ta") EV("", "") EV("", "a ")),
    CASE("no colon", "data\n\ndata\ndata\n\n", EV("", "") EV("", "\n")),
    CASE("more colons", "data:a:b: c\n\ndata::\n\n", EV("", "a:b: c") EV("", ":")),
    CASE("unknown fields", "dat: a\ndatum: b\ndata2: c\ndata : d\n data: e\nx\nevents: f\n\n", ""),
    CASE("names have a case", "Data: a\nDATA: b\nEvent: c\ndata: d\n\n", EV("", "d")),
    CASE("the type is overwritten", "event: a\nevent: b\ndata: c\nevent: d\n\n", EV("d", "c")),
    CASE("an empty type", "event: a\nevent\ndata: b\n\nevent: a\nevent:\ndata: c\n\n",
         EV("", "b") EV("", "c")),
    CASE("the type ends with its event", "event: a\n\ndata: b\n\nevent: c\ndata: d\n\ndata: e\n\n",
         EV("", "b") EV("c", "d") EV("", "e")),
    CASE("comments within an event", "event: a\n:\n: x\ndata: b\n:data: y\ndata: c\n\n",
         EV("a", "b\nc")),
    /* UTF-8, by the practice of maximal subparts */
    CASE("parts of characters",
         "data: a\xF1\x80\x80\xE1\x80\xC2"
         "b\x80"
         "c\x80\xBF"
         "d\n\n",
         EV("", "a" FFFD FFFD FFFD "b" FFFD "c" FFFD FFFD "d")),
    CASE("overlong",
         "data: \xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
         "A\n\n",
         EV("", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A")),
    CASE("surrogates",
         "data: \xED\xA0\x80\xED\xBF\xBF\xED\xAF"
         "A\n\n",
         EV("", FFFD FFFD FFFD FFFD FFFD FFFD FFFD FFFD "A")),
    CASE("beyond U+10FFFF",
         "data: \xF4\x91\x92\x93\xF5\x80"
         "A\xF4\x8F\xBF\xBF\n\n",
         EV("", FFFD FFFD FFFD FFFD FFFD FFFD "A\xF4\x8F\xBF\xBF")),
    CASE(
        "the edges of the lengths",
        "data: "
        "\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80\n\n",
        EV("", "\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\xF0\x90\x80\x80")),
    CASE("a character cut by the line's end", "data: \xE2\x82\ndata: \xAC\n\n",
         EV("", FFFD "\n" FFFD)),
    CASE("a type that is not UTF-8", "event: \xFFx\ndata: a\n\n", EV(FFFD "x", "a")),
};

/* With a limit of 10 bytes. */
static const struct parse_case limited[] = {
    CASE("data at the limit", "data:0123456789\n\n", EV("", "0123456789")),
    CASE("data above it, at once", "data: 0123456789a", TOO_LONG),
    CASE("lines at the limit", "data:0123\ndata:56789\n\n", EV("", "0123\n56789")),
    CASE("lines above it", "data:0123\ndata:567890", TOO_LONG),
    CASE("a line more, without bytes", "data:0123456789\ndata\n\n", TOO_LONG),
    CASE("data and type at the limit", "event:abc\ndata:3456789\n\n", EV("abc", "3456789")),
    CASE("data and type above it", "event:abc\ndata:34567890\n\n", TOO_LONG),
    CASE("data and type above it, at once", "event:abc\ndata:34567890", TOO_LONG),
    CASE("type and data above it", "data:3456789\nevent:abcd\n\n", TOO_LONG),
    CASE("an overwritten type does not count", "event:0123456789\nevent:a\ndata:123456789\n\n",
         EV("a", "123456789")),
    CASE("nor one that is reset", "event:0123456789\n\ndata:0123456789\n\n", EV("", "0123456789")),
    CASE("each event anew", "event:abc\ndata:3456789\n\nevent:abc\ndata:3456789\n\n",
         EV("abc", "3456789") EV("abc", "3456789")),
    CASE("other lines do not count",
         ": 0123456789012345\nid: 0123456789012345\nother_name_of_a_field: 0123456789\n"
         "other_name_of_a_field\ndata:0123456789\n: 0123\n\n",
         EV("", "0123456789")),
    CASE("error field at the limit", "error:56789\n\n", EV("error", "56789")),
    CASE("error field above it", "error:567890\n\n", TOO_LONG),
    CASE("error field without room for its type", "data:012345\nerror\n\n", TOO_LONG),
    CASE("replacements at the limit",
         "data:\xFF\xFF\xFF"
         "9\n\n",
         EV("", FFFD FFFD FFFD "9")),
    CASE("replacements above it",
         "data:\xFF\xFF\xFF"
         "90\n\n",
         TOO_LONG),
    CASE("replacements of type and data above it", "event:\xFF\xFF\ndata:\xFF\xFF\n\n", TOO_LONG),
    CASE("nothing behind it", "data:0123456789a\n\ndata:b\n\n", TOO_LONG),
    CASE("the sentinel fits", "data: [DONE]\n", DONE),
};

/* Recorded streams, and of what they end in: the number of events, the sentinel, and what the last
 * event's type is and its data contains. */
static const struct {
    const char *name;
    size_t events;
    bool done;
    const char *type;
    const char *text;
} streams[] = {
    {"openai-chat", 6, true, "", "\"total_tokens\":25"},
    {"openai-tools", 7, true, "", "\"finish_reason\":\"tool_calls\""},
    {"openai-error-in-stream", 2, true, "", "\"type\":\"server_error\""},
    {"openai-length", 3, true, "", "\"finish_reason\":\"length\""},
    {"openai-refusal", 4, true, "", "\"finish_reason\":\"stop\""},
    {"two-choices", 7, true, "", "\"finish_reason\":\"length\""},
    {"azure-first-chunk", 4, true, "", "\"content_filter_results\":{}"},
    {"azure-async-filter", 7, true, "", "\"check_offset\":506"},
    {"azure-content-filter", 2, true, "", "\"finish_reason\":\"content_filter\""},
    {"vllm-usage-every-chunk", 5, true, "", "\"choices\":[],\"usage\":{"},
    {"vllm-old-error", 2, true, "", "{\"object\":\"error\","},
    {"vllm-new-error", 2, true, "", "{\"error\":{"},
    {"sglang-usage-every-chunk", 3, true, "", "\"matched_stop\":151645"},
    {"llamacpp-done-without-blank-line", 3, true, "", "\"predicted_per_second\":32.52"},
    {"llamacpp-error-field", 2, true, "error", "\"message\":\"context shift is disabled\""},
    {"llamacpp-no-done", 1, false, "", "\"content\":\"half an\""},
    {"ollama-tools-no-index", 2, true, "", "\"finish_reason\":\"stop\""},
    {"ollama-tools-index-0", 3, true, "", "\"finish_reason\":\"tool_calls\""},
    {"ollama-null-finish", 2, true, "", "\"finish_reason\":null"},
    {"openrouter-comments", 4, true, "", "\"cost\":"},
    {"openrouter-error", 2, true, "", "\"error\":{\"code\":502"},
    {"responses", 10, false, "response.completed", "\"sequence_number\":9"},
    {"responses-failed", 2, false, "response.failed", "\"code\":\"server_error\""},
    {"responses-incomplete", 6, false, "response.incomplete", "\"reason\":\"max_output_tokens\""},
    {"responses-error", 2, false, "error", "\"code\":\"server_is_overloaded\""},
    {"responses-function-call", 7, false, "response.completed", "\"arguments\":\"{\\\"port\\\":"},
    {"completions", 3, true, "", "\"text\":\" deep\""},
    {"mlflow-gateway-no-done", 3, false, "", "\"finish_reason\":\"stop\""},
    {"databricks-chat", 3, true, "", "\"total_tokens\":13"},
    {"databricks-reasoning", 5, true, "", "\"completion_tokens\":31"},
    {"databricks-error", 2, false, "", "\"error_code\":\"REQUEST_LIMIT_EXCEEDED\""},
    {"perplexity-no-done", 3, false, "", "\"content\":\"Spring tide\""},
    {"gateway-keep-alives", 3, true, "", "\"finish_reason\":\"stop\""},
    {"steady-mock", 4, false, "done", "{}"},
    {"anthropic-messages", 4, false, "message_stop", "{\"type\":\"message_stop\"}"},
    {"multiline-pretty", 1, true, "message", "{\n  \"id\": \"p1\",\n  \"object\""},
    {"cr-only", 2, true, "", "\"finish_reason\":\"stop\""},
    {"crlf-bom", 2, true, "", "\"finish_reason\":\"stop\""},
    {"mixed-line-ends", 3, true, "", "\"finish_reason\":\"stop\""},
    {"multibyte", 5, true, "", "\"finish_reason\":\"stop\""},
    {"invalid-utf8", 1, true, "", "\"content\":\"a" FFFD "b" FFFD "c" FFFD FFFD FFFD "\""},
    {"unfinished-event", 1, false, "", "\"content\":\"whole\""},
};

/* These are short enough for every pair of cuts. */
static const char *const cut_twice[] = {"cr-only", "crlf-bom", "mixed-line-ends",
                                        "multiline-pretty", "llamacpp-error-field"};

struct run {
    struct sse parser;
    struct buf trace;
    size_t events;
    size_t last; /* where the last event starts in the trace */
    enum sse_result result;
};

static void run_init(struct run *r, size_t max) {
    *r = (struct run){.result = SSE_MORE};
    sse_init(&r->parser, max);
    buf_init(&r->trace, SIZE_MAX);
}

static void run_free(struct run *r) {
    sse_free(&r->parser);
    buf_free(&r->trace);
}

static const char *text_or_empty(const struct buf *text) {
    return text->len > 0 ? text->data : "";
}

static void run_event(struct run *r, const struct sse_event *event) {
    r->events++;
    r->last = r->trace.len;
    buf_append(&r->trace, event->type, event->type_len);
    buf_putc(&r->trace, '\x1F');
    buf_append(&r->trace, event->data, event->data_len);
    buf_putc(&r->trace, '\x1E');
}

/* Feeds a copy without a NUL behind it, so that the sanitizer sees a step too far. */
static void run_piece(struct run *r, const char *bytes, size_t len) {
    struct sse_event event;
    size_t used = 0;
    if (r->result != SSE_MORE) {
        return;
    }
    char *exact = malloc(len + (len == 0));
    memcpy(exact, bytes, len);
    while ((r->result = sse_next(&r->parser, exact, len, &used, &event)) == SSE_EVENT) {
        run_event(r, &event);
    }
    if (r->result != SSE_MORE) {
        buf_puts(&r->trace, r->result == SSE_DONE ? DONE : TOO_LONG);
    } else if (used != len) {
        CHECK(used == len);
    }
    free(exact);
}

static bool has_trace(const struct run *r, const char *wanted, size_t len) {
    return r->trace.len == len && memcmp(text_or_empty(&r->trace), wanted, len) == 0;
}

/* Whether the trace is the wanted one when the input is cut at two points, which may be one. */
static bool cut(const struct parse_case *c, size_t max, size_t first, size_t second) {
    struct run r;
    run_init(&r, max);
    run_piece(&r, c->input, first);
    run_piece(&r, c->input + first, second - first);
    run_piece(&r, c->input + second, c->input_len - second);
    bool same = has_trace(&r, c->wanted, c->wanted_len);
    if (!same) {
        printf("%s: cut at %zu and %zu: %.*s\n", c->name, first, second, (int)r.trace.len,
               text_or_empty(&r.trace));
    }
    run_free(&r);
    return same;
}

/* Cut at every point, with an empty piece between. */
static bool cut_everywhere(const struct parse_case *c, size_t max) {
    for (size_t i = 0; i <= c->input_len; i++) {
        if (!cut(c, max, i, i)) {
            return false;
        }
    }
    return true;
}

static bool cut_everywhere_twice(const struct parse_case *c, size_t max) {
    for (size_t i = 0; i <= c->input_len; i++) {
        for (size_t j = i; j <= c->input_len; j++) {
            if (!cut(c, max, i, j)) {
                return false;
            }
        }
    }
    return true;
}

static bool in_pieces(const struct parse_case *c, size_t max, size_t piece) {
    struct run r;
    run_init(&r, max);
    for (size_t i = 0; i < c->input_len; i += piece) {
        run_piece(&r, c->input + i, piece < c->input_len - i ? piece : c->input_len - i);
    }
    bool same = has_trace(&r, c->wanted, c->wanted_len);
    run_free(&r);
    return same;
}

static void check_cases(const struct parse_case *list, size_t count, size_t max) {
    for (size_t i = 0; i < count; i++) {
        check_case = list[i].name;
        CHECK(cut_everywhere_twice(&list[i], max));
        CHECK(in_pieces(&list[i], max, 1));
    }
}

static void read_stream(const char *name, struct buf *text) {
    char path[1024];
    char chunk[4096];
    size_t n;
    snprintf(path, sizeof path, "%s/%s.sse", TEST_STREAMS, name);
    FILE *file = fopen(path, "rb");
    if (!CHECK(file != NULL)) {
        return;
    }
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0) {
        buf_append(text, chunk, n);
    }
    fclose(file);
}

static bool is_cut_twice(const char *name) {
    for (size_t i = 0; i < sizeof cut_twice / sizeof cut_twice[0]; i++) {
        if (strcmp(cut_twice[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void check_streams(void) {
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++) {
        struct buf text;
        struct run whole;
        check_case = streams[i].name;
        buf_init(&text, SIZE_MAX);
        read_stream(streams[i].name, &text);
        run_init(&whole, SSE_EVENT_MAX);
        run_piece(&whole, text_or_empty(&text), text.len);
        CHECK(whole.events == streams[i].events);
        CHECK(whole.result == (streams[i].done ? SSE_DONE : SSE_MORE));
        if (CHECK(whole.trace.len > 0)) {
            const char *last = whole.trace.data + whole.last;
            size_t type_len = strlen(streams[i].type);
            CHECK(strncmp(last, streams[i].type, type_len) == 0 && last[type_len] == '\x1F');
            CHECK(strstr(last, streams[i].text) != NULL);
        }
        struct parse_case c = {streams[i].name, text_or_empty(&text), text.len,
                               text_or_empty(&whole.trace), whole.trace.len};
        CHECK(cut_everywhere(&c, SSE_EVENT_MAX));
        CHECK(in_pieces(&c, SSE_EVENT_MAX, 1));
        if (is_cut_twice(c.name)) {
            CHECK(cut_everywhere_twice(&c, SSE_EVENT_MAX));
        }
        run_free(&whole);
        buf_free(&text);
    }
}

/* Each event is given before what follows it is read, and outlives the piece. */
static void check_back_pressure(void) {
    static const char input[] = "data:1\r\n\r\n: c\n\ndata:2\n\ndata: [DONE]\n\ndata:3\n\n";
    struct sse s;
    struct sse_event event;
    size_t used = 0;
    char *piece = malloc(sizeof input - 1);
    memcpy(piece, input, sizeof input - 1);
    sse_init(&s, 100);
    check_case = "an event at a time";
    CHECK(sse_next(&s, piece, sizeof input - 1, &used, &event) == SSE_EVENT);
    CHECK(used == strlen("data:1\r\n\r") && event.data_len == 1 && event.data[0] == '1');
    CHECK(sse_next(&s, piece, sizeof input - 1, &used, &event) == SSE_EVENT);
    CHECK(used == strlen("data:1\r\n\r\n: c\n\ndata:2\n\n"));
    char *rest = malloc(sizeof input - 1 - used);
    memcpy(rest, piece + used, sizeof input - 1 - used);
    free(piece);
    CHECK(event.data_len == 1 && event.data[0] == '2' && event.type_len == 0);
    check_case = "the sentinel stays";
    size_t rest_used = 0;
    for (int i = 0; i < 2; i++) {
        CHECK(sse_next(&s, rest, sizeof input - 1 - used, &rest_used, &event) == SSE_DONE);
        CHECK(rest_used == strlen("data: [DONE]\n"));
    }
    free(rest);
    sse_free(&s);
    check_case = "no bytes, no memory behind them";
    sse_init(&s, 100);
    used = 0;
    CHECK(sse_next(&s, NULL, 0, &used, &event) == SSE_MORE && used == 0);
    sse_free(&s);
}

static void repeat(struct buf *text, const char *unit, size_t count) {
    for (size_t i = 0; i < count; i++) {
        buf_puts(text, unit);
    }
}

/* `count` times `unit`, with text before and behind; in pieces of that size. */
static struct run run_repeated(const char *before, const char *unit, size_t count,
                               const char *behind, size_t piece) {
    struct run r;
    struct buf text;
    buf_init(&text, SIZE_MAX);
    buf_puts(&text, before);
    repeat(&text, unit, count);
    buf_puts(&text, behind);
    run_init(&r, SSE_EVENT_MAX);
    for (size_t i = 0; i < text.len; i += piece) {
        run_piece(&r, text.data + i, piece < text.len - i ? piece : text.len - i);
    }
    buf_free(&text);
    return r;
}

static void check_sizes(void) {
    check_case = "2 MiB in small pieces";
    struct run r = run_repeated("data: ", "ab", 1 << 20, "\r\n\r\n", 4093);
    CHECK(r.events == 1 && r.trace.len == (2 << 20) + 2);
    run_free(&r);

    check_case = "an event at the limit";
    r = run_repeated("data:", "0123456789abcdef", SSE_EVENT_MAX / 16, "\n\n", 16384);
    CHECK(r.events == 1 && r.trace.len == SSE_EVENT_MAX + 2);
    check_case = "memory goes back after a big event";
    run_piece(&r, "data: a\n\n", 9);
    CHECK(r.events == 2 && r.parser.data.cap < 1000);
    run_free(&r);

    check_case = "an event above the limit";
    r = run_repeated("data:", "0123456789abcdef", SSE_EVENT_MAX / 16, "g\n\n", 16384);
    CHECK(r.events == 0 && r.result == SSE_TOO_LONG);
    run_free(&r);

    check_case = "2000 events in a piece";
    r = run_repeated("", "data: a\n\n", 2000, "", 18000);
    CHECK(r.events == 2000 && r.result == SSE_MORE);
    check_case = "memory stays after small events";
    CHECK(r.parser.data.data != NULL);
    run_free(&r);

    check_case = "10000 data lines";
    r = run_repeated("", "data: line\r\n", 10000, "\r\n", 4093);
    CHECK(r.events == 1 && r.trace.len == 10000 * strlen("line\n") - 1 + 2);
    run_free(&r);
}

static void check_unended(void) {
    static const size_t pieces[] = {1, 97, 100000};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        check_case = "2000 lines without an end";
        struct run r = run_repeated("", ":x\ndata:x\nignored:x\n", 2000, ":x", pieces[i]);
        CHECK(r.events == 0 && r.result == SSE_MORE);
        run_free(&r);
        check_case = "ignored lines take no memory";
        r = run_repeated(":", "comment", 100000, "", pieces[i]);
        run_piece(&r, "\nid: ", 5);
        for (int n = 0; n < 1000; n++) {
            run_piece(&r, "12345678901234567890123456789012345678901234567890", 50);
        }
        run_piece(&r, "\nunknown: 12345678901234567890\n\n", 32);
        CHECK(r.parser.data.data == NULL && r.parser.type.data == NULL);
        run_free(&r);
    }
}

/* A character, or what is none, behind any number of ASCII bytes: eight are looked at at once. */
static void check_word_offsets(void) {
    check_case = "UTF-8 at every offset";
    for (size_t before = 0; before < 20; before++) {
        for (size_t behind = 0; behind < 20; behind++) {
            struct run r;
            struct buf input;
            struct buf wanted;
            buf_init(&input, 1000);
            buf_init(&wanted, 1000);
            buf_puts(&input, "data:");
            buf_putc(&wanted, '\x1F');
            repeat(&input, "a", before);
            repeat(&wanted, "a", before);
            buf_puts(&input, "\xC3\xA9\xFF\xE2\x82");
            buf_puts(&wanted, "\xC3\xA9" FFFD FFFD);
            repeat(&input, "b", behind);
            repeat(&wanted, "b", behind);
            buf_puts(&input, "\n\n");
            buf_putc(&wanted, '\x1E');
            run_init(&r, 1000);
            run_piece(&r, input.data, input.len);
            CHECK(has_trace(&r, wanted.data, wanted.len));
            run_free(&r);
            buf_free(&input);
            buf_free(&wanted);
        }
    }
}

/* Processor seconds for `size` bytes of the repeated unit; the best of so many tries. */
static double seconds(const char *before, const char *unit, size_t size, bool by_byte, int tries) {
    struct buf text;
    double best = 1e9;
    buf_init(&text, SIZE_MAX);
    buf_puts(&text, before);
    repeat(&text, unit, size / strlen(unit));
    buf_puts(&text, "\n\n");
    for (int i = 0; i < tries; i++) {
        struct sse s;
        struct sse_event event;
        clock_t start = clock();
        sse_init(&s, SIZE_MAX);
        for (size_t at = 0, used; at < text.len; at += used) {
            used = 0;
            size_t len = by_byte ? 1 : text.len - at;
            while (sse_next(&s, text.data + at, len, &used, &event) == SSE_EVENT) {
            }
        }
        sse_free(&s);
        double taken = (double)(clock() - start) / CLOCKS_PER_SEC;
        best = taken < best ? taken : best;
    }
    buf_free(&text);
    return best;
}

/* Eight times the bytes take eight times as long; what is quadratic takes 64 times. */
static void check_linear(void) {
    static const struct {
        const char *name, *before, *unit;
        bool by_byte;
    } loads[] = {
        {"one line, by byte", "data: ", "0123456789", true},
        {"one comment, by byte", ": ", "0123456789", true},
        {"data lines, by byte", "", "data: 0123\n", true},
        {"events, by byte", "", "data: 0123\n\n", true},
        {"not UTF-8, by byte", "data: ", "\xFF\xE2\x82", true},
        {"events with LF, whole", "", "data: 0123\n\n", false},
        {"events with CR, whole", "", "data: 0123\r\r", false},
        {"comments with CR, whole", "", ":\r", false},
        {"data lines with LF, whole", "", "data: 0123\n", false},
        {"not UTF-8, whole", "data: ", "\xFF\xE2\x82", false},
    };
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        check_case = loads[i].name;
        double small = seconds(loads[i].before, loads[i].unit, 1 << 20, loads[i].by_byte, 3);
        double big = seconds(loads[i].before, loads[i].unit, 8 << 20, loads[i].by_byte, 1);
        if (!CHECK(big < 24 * (small > 0.001 ? small : 0.001))) {
            printf("    1 MiB %.6f s, 8 MiB %.6f s\n", small, big);
        }
    }
}

int main(void) {
    check_cases(cases, sizeof cases / sizeof cases[0], SSE_EVENT_MAX);
    check_cases(limited, sizeof limited / sizeof limited[0], 10);
    check_streams();
    check_back_pressure();
    check_sizes();
    check_unended();
    check_word_offsets();
    check_linear();
    return check_done();
}
