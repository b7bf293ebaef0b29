/* What is shown where: the rows of the line that is edited, and what tasks print meanwhile, which
 * appears above it. */
#include <stdio_ext.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/lib_line_editor.h"

enum {
    PRINTED_MAX = 65536, /* bytes that wait for a whole line */
    TAB_WIDTH = 8
};

/* The buffer of stderr is the process's. */
static char printed_err[PRINTED_MAX];

void line_write(struct line_editor *e, const char *text, size_t len) {
    fwrite(text, 1, len, e->out);
    fflush(e->out);
}

int line_width(void) {
    enum { USUAL = 80 };
    struct winsize size;
    return ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : USUAL;
}

/* Moves a place on the screen behind one character, as libedit draws it. */
static void advance(wchar_t c, int width, int *row, int *column) {
    int cells = c == L'\t' ? TAB_WIDTH - *column % TAB_WIDTH : wcwidth(c);
    if (c == L'\n') {
        (*row)++;
        *column = 0;
        return;
    }
    cells = cells < 0 ? 2 : cells; /* ^X */
    if (*column + cells > width) {
        (*row)++;
        *column = 0;
    }
    *column += cells;
    if (*column >= width) {
        (*row)++;
        *column = 0;
    }
}

static void advance_text(const char *text, const char *end, int width, int *row, int *column) {
    mbstate_t state;
    memset(&state, 0, sizeof state);
    while (text < end) {
        wchar_t c;
        size_t n = mbrtowc(&c, text, (size_t)(end - text), &state);
        if (n == 0 || n > (size_t)(end - text)) {
            memset(&state, 0, sizeof state);
            c = L'?';
            n = 1;
        }
        text += n;
        advance(c, width, row, column);
    }
}

void line_rows(struct line_editor *e, int *above_cursor, int *all) {
    const LineInfo *line = el_line(e->el);
    int width = line_width(), row = 0, column = 0;
    const char *text = e->prompt;
    while (*text != '\0') {
        const char *end = text + strcspn(text, "\1");
        advance_text(text, end, width, &row, &column);
        const char *close = *end == LINE_ESCAPE ? strchr(end + 1, LINE_ESCAPE) : NULL;
        text = close != NULL ? close + 1 : end + strlen(end);
    }
    advance_text(line->buffer, line->cursor, width, &row, &column);
    *above_cursor = row;
    advance_text(line->cursor, line->lastchar, width, &row, &column);
    *all = row;
}

void line_hide(struct line_editor *e) {
    int above, all;
    line_rows(e, &above, &all);
    if (above > 0) {
        fprintf(e->out, "\r\033[%dA\033[J", above);
    } else {
        fputs("\r\033[J", e->out);
    }
    fflush(e->out);
}

/* Whether so many bytes that end so can be shown: whole lines, or too much to keep. */
static bool is_whole(size_t n, char last) {
    return n > 0 && (last == '\n' || n > PRINTED_MAX / 2);
}

static bool errors_are_whole(void) {
    size_t n = __fpending(stderr);
    return is_whole(n, n > 0 ? printed_err[n - 1] : '\0');
}

/* How much was printed to standard output; 0 where its last line is not whole yet. */
static off_t printed_size(struct line_editor *e) {
    struct stat st;
    char last;
    fflush(stdout);
    if (fstat(e->printed, &st) != 0 || st.st_size == 0 ||
        pread(e->printed, &last, 1, st.st_size - 1) != 1) {
        return 0;
    }
    return is_whole((size_t)st.st_size, last) ? st.st_size : 0;
}

/* Moves what was printed to the terminal. */
static void move_printed(struct line_editor *e) {
    char bytes[4096];
    ssize_t n;
    fflush(stdout);
    for (off_t at = 0; (n = pread(e->printed, bytes, sizeof bytes, at)) > 0; at += n) {
        fwrite(bytes, 1, (size_t)n, e->out);
    }
    fflush(e->out);
    (void)!ftruncate(e->printed, 0);
}

void line_show_printed(struct line_editor *e) {
    bool out = printed_size(e) > 0, err = errors_are_whole();
    if (out || err) {
        line_hide(e);
        if (out) {
            move_printed(e);
        }
        if (err) {
            fflush(stderr);
        }
        el_set(e->el, EL_REFRESH);
    }
}

void line_hold_printed(struct line_editor *e) {
    fflush(stdout);
    fflush(stderr);
    dup2(e->printed, STDOUT_FILENO);
    setvbuf(stderr, printed_err, _IOFBF, PRINTED_MAX);
}

void line_release_printed(struct line_editor *e) {
    fflush(stdout);
    dup2(fileno(e->out), STDOUT_FILENO);
    move_printed(e);
    fflush(stderr);
    setvbuf(stderr, NULL, _IONBF, 0);
}
