/* The keys of the editor: Enter, which asks whether the text is complete, Tab, arrows within a
 * block of lines, and a pasted text, which is one edit. libedit calls them, so no error of Lua's
 * leaves them. What libedit's own functions do is reached by keys that no keyboard sends. */
#include "lib/lib_line_editor.h"

#include <string.h>

#include "core/buf.h"

#define KEY_NEWLINE "\033[990~"
#define KEY_PREVIOUS_LINE "\033[991~"
#define KEY_NEXT_LINE "\033[992~"
#define KEY_PREVIOUS_HISTORY "\033[993~"
#define KEY_NEXT_HISTORY "\033[994~"
#define PASTE_END L"\033[201~"

enum {
    PASTE_MAX = 262144,    /* bytes of a pasted text */
    PASTE_PATIENCE = 2000, /* milliseconds for its next character */
    CHAR_BYTES = 16        /* of one character, at least MB_LEN_MAX */
};

static struct line_editor *editor_of(EditLine *el) {
    void *e = NULL;
    el_get(el, EL_CLIENTDATA, &e);
    return e;
}

/* Enter: runs what is complete; else it is a new line in it. */
static unsigned char on_enter(EditLine *el, int c) {
    int base;
    bool complete = true;
    (void)c;
    lua_State *L = line_call(editor_of(el), LINE_ACCEPT, 1, &base);
    if (L != NULL) {
        complete = lua_toboolean(L, -1);
        lua_settop(L, base);
    }
    if (complete) {
        el_push(el, KEY_NEWLINE);
        return CC_NORM;
    }
    return el_insertstr(el, "\n") == 0 ? CC_REFRESH : CC_ERROR;
}

static unsigned char on_newline(EditLine *el, int c) {
    (void)c;
    return el_insertstr(el, "\n") == 0 ? CC_REFRESH : CC_ERROR;
}

/* Up and down: within a block first, then in the history. */
static unsigned char on_up(EditLine *el, int c) {
    const LineInfo *line = el_line(el);
    size_t before = (size_t)(line->cursor - line->buffer);
    (void)c;
    bool inside = memchr(line->buffer, '\n', before) != NULL;
    el_push(el, inside ? KEY_PREVIOUS_LINE : KEY_PREVIOUS_HISTORY);
    return CC_NORM;
}

static unsigned char on_down(EditLine *el, int c) {
    const LineInfo *line = el_line(el);
    size_t behind = (size_t)(line->lastchar - line->cursor);
    (void)c;
    bool inside = memchr(line->cursor, '\n', behind) != NULL;
    el_push(el, inside ? KEY_NEXT_LINE : KEY_NEXT_HISTORY);
    return CC_NORM;
}

/* The characters in a part of the line's text. */
static int count_chars(const char *from, const char *to) {
    int n = 0;
    for (; from < to; from++) {
        n += ((unsigned char)*from & 0xC0) != 0x80;
    }
    return n;
}

/* To the begin and the end of a line within a block. */
static unsigned char on_begin(EditLine *el, int c) {
    const LineInfo *line = el_line(el);
    const char *begin = line->cursor;
    (void)c;
    while (begin > line->buffer && begin[-1] != '\n') {
        begin--;
    }
    el_cursor(el, -count_chars(begin, line->cursor));
    return CC_CURSOR;
}

static unsigned char on_end(EditLine *el, int c) {
    const LineInfo *line = el_line(el);
    const char *end = line->cursor;
    (void)c;
    while (end < line->lastchar && *end != '\n') {
        end++;
    }
    el_cursor(el, count_chars(line->cursor, end));
    return CC_CURSOR;
}

/* Shows what could stand at the cursor, below the line. */
static void show_list(struct line_editor *e, const char *list, size_t len) {
    int above, all;
    line_rows(e, &above, &all);
    for (int i = above; i < all; i++) {
        line_write(e, "\n", 1);
    }
    line_write(e, "\r\n", 2);
    line_write(e, list, len);
    line_write(e, "\r\n", 2);
}

static unsigned char on_tab(EditLine *el, int c) {
    struct line_editor *e = editor_of(el);
    int base;
    (void)c;
    lua_State *L = line_call(e, LINE_COMPLETE, 3, &base);
    if (L == NULL) {
        return CC_ERROR;
    }
    unsigned char result = CC_REFRESH_BEEP;
    if (lua_type(L, -2) == LUA_TSTRING && lua_rawlen(L, -2) > 0) {
        el_deletestr(el, (int)lua_tointeger(L, -3));
        el_insertstr(el, lua_tostring(L, -2));
        result = CC_REFRESH;
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        show_list(e, lua_tostring(L, -1), lua_rawlen(L, -1));
        el_set(el, EL_REFRESH);
        result = CC_REFRESH;
    }
    lua_settop(L, base);
    return result;
}

/* Adds a pasted character: line ends become one kind, other control characters are left out. */
static bool add_pasted(struct buf *text, wchar_t c, mbstate_t *state) {
    char bytes[CHAR_BYTES];
    if (c == L'\r') {
        c = L'\n';
    }
    if ((c < L' ' && c != L'\n' && c != L'\t') || (c >= 0x7f && c < 0xa0)) {
        return true;
    }
    size_t n = wcrtomb(bytes, c, state);
    return n == (size_t)-1 || buf_append(text, bytes, n);
}

/* Reads to the mark that ends a pasted text. False where there was more than fits. */
static bool read_paste(struct line_editor *e, struct buf *text) {
    static const wchar_t mark[] = PASTE_END;
    size_t matched = 0, length = sizeof mark / sizeof mark[0] - 1;
    mbstate_t state;
    bool fits = true;
    wchar_t c;
    memset(&state, 0, sizeof state);
    while (matched < length && line_next_char(e, &c, PASTE_PATIENCE) == 1) {
        if (c == mark[matched]) {
            matched++;
            continue;
        }
        for (size_t i = 0; i < matched && fits; i++) {
            fits = add_pasted(text, mark[i], &state);
        }
        matched = c == mark[0] ? 1 : 0;
        fits = fits && (matched == 1 || add_pasted(text, c, &state));
    }
    return fits;
}

static unsigned char on_paste(EditLine *el, int c) {
    struct buf text;
    (void)c;
    buf_init(&text, PASTE_MAX);
    bool ok = read_paste(editor_of(el), &text) && buf_putc(&text, '\0');
    if (ok && text.data[0] != '\0') {
        ok = el_insertstr(el, text.data) == 0;
    }
    buf_wipe(&text);
    return ok ? CC_REFRESH : CC_REFRESH_BEEP;
}

/* Wide: what is not, libedit copies, and does not free. */
static const struct {
    const wchar_t *name;
    const wchar_t *help;
    unsigned char (*function)(EditLine *, int);
} functions[] = {
    {L"mf-enter", L"run, or a new line", on_enter},
    {L"mf-newline", L"a new line", on_newline},
    {L"mf-up", L"up", on_up},
    {L"mf-down", L"down", on_down},
    {L"mf-begin", L"begin of the line", on_begin},
    {L"mf-end", L"end of the line", on_end},
    {L"mf-tab", L"complete", on_tab},
    {L"mf-paste", L"insert a paste", on_paste},
};

static const struct {
    const char *key;
    const char *function;
} keys[] = {
    {"^M", "mf-enter"},
    {"^J", "mf-enter"},
    {"\033\n", "mf-newline"},
    {"\033\r", "mf-newline"},
    {"^I", "mf-tab"},
    {"\033[200~", "mf-paste"},
    {"\033[A", "mf-up"},
    {"\033OA", "mf-up"},
    {"^P", "mf-up"},
    {"\033[B", "mf-down"},
    {"\033OB", "mf-down"},
    {"^N", "mf-down"},
    {"^R", "em-inc-search-prev"},
    {"^S", "em-inc-search-next"},
    {"^L", "ed-clear-screen"},
    {"^W", "ed-delete-prev-word"},
    {"^A", "mf-begin"},
    {"^E", "mf-end"},
    {"\033[H", "mf-begin"},
    {"\033[F", "mf-end"},
    {"\033[1~", "mf-begin"},
    {"\033[4~", "mf-end"},
    {"\033[3~", "ed-delete-next-char"},
    {"\033[1;5C", "em-next-word"},
    {"\033[1;5D", "ed-prev-word"},
    {KEY_NEWLINE, "ed-newline"},
    {KEY_PREVIOUS_LINE, "ed-prev-line"},
    {KEY_NEXT_LINE, "ed-next-line"},
    {KEY_PREVIOUS_HISTORY, "ed-prev-history"},
    {KEY_NEXT_HISTORY, "ed-next-history"},
};

void line_bind_keys(EditLine *el) {
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        el_wset(el, EL_ADDFN, functions[i].name, functions[i].help, functions[i].function);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        el_set(el, EL_BIND, keys[i].key, keys[i].function, NULL);
    }
}
