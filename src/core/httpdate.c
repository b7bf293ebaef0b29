/* One cursor walks the text; each form is a sequence of small takes. */
#include "core/httpdate.h"

#include <string.h>

struct cursor {
    const char *at;
    const char *end;
};

struct moment {
    int year, month, day, hour, minute, second; /* month 0 to 11, day from 1 */
};

enum {
    SECONDS_A_DAY = 86400,
    DAYS_BEFORE_EPOCH = 719468 /* from 0000-03-01 to 1970-01-01 */
};

static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char *const short_days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const long_days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                        "Thursday", "Friday", "Saturday"};

static bool take(struct cursor *c, const char *literal) {
    size_t n = strlen(literal);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, literal, n) != 0) {
        return false;
    }
    c->at += n;
    return true;
}

static bool take_one_of(struct cursor *c, const char *const *words, int count, int *which) {
    for (int i = 0; i < count; i++) {
        if (take(c, words[i])) {
            *which = i;
            return true;
        }
    }
    return false;
}

static bool take_month(struct cursor *c, int *month) {
    return take_one_of(c, months, 12, month);
}

static bool take_number(struct cursor *c, int digits, int *number) {
    if (c->end - c->at < digits) {
        return false;
    }
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (c->at[i] < '0' || c->at[i] > '9') {
            return false;
        }
        value = value * 10 + (c->at[i] - '0');
    }
    c->at += digits;
    *number = value;
    return true;
}

static bool take_time(struct cursor *c, struct moment *m) {
    return take_number(c, 2, &m->hour) && take(c, ":") && take_number(c, 2, &m->minute) &&
           take(c, ":") && take_number(c, 2, &m->second);
}

static bool take_imf(struct cursor *c, struct moment *m) {
    return take(c, ", ") && take_number(c, 2, &m->day) && take(c, " ") &&
           take_month(c, &m->month) && take(c, " ") && take_number(c, 4, &m->year) &&
           take(c, " ") && take_time(c, m) && take(c, " GMT");
}

static bool take_rfc850(struct cursor *c, struct moment *m) {
    return take(c, ", ") && take_number(c, 2, &m->day) && take(c, "-") &&
           take_month(c, &m->month) && take(c, "-") && take_number(c, 2, &m->year) &&
           take(c, " ") && take_time(c, m) && take(c, " GMT");
}

static bool take_asctime(struct cursor *c, struct moment *m) {
    return take(c, " ") && take_month(c, &m->month) && take(c, " ") &&
           (take(c, " ") ? take_number(c, 1, &m->day) : take_number(c, 2, &m->day)) &&
           take(c, " ") && take_time(c, m) && take(c, " ") && take_number(c, 4, &m->year);
}

static bool is_leap(int year) {
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static bool is_valid(const struct moment *m) {
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int length = lengths[m->month] + (m->month == 1 && is_leap(m->year));
    /* Second 60 is a leap second. */
    return m->year >= 1 && m->day >= 1 && m->day <= length && m->hour < 24 && m->minute < 60 &&
           m->second <= 60;
}

/* Days from 1970-01-01, in the Gregorian calendar. Counting years from March puts the leap day at
 * a year's end. */
static int64_t days_since_epoch(int year, int month, int day) {
    int64_t y = month < 2 ? year - 1 : year;
    int from_march = (month + 10) % 12;
    int day_of_year = (153 * from_march + 2) / 5 + day - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - DAYS_BEFORE_EPOCH;
}

static int64_t to_epoch(const struct moment *m) {
    return days_since_epoch(m->year, m->month, m->day) * SECONDS_A_DAY + m->hour * 3600 +
           m->minute * 60 + m->second;
}

/* The year of two digits becomes the latest one that is not more than 50 years after `now`. */
static void widen_year(struct moment *m, int64_t now) {
    int years_from_1970 = (int)(now / (SECONDS_A_DAY * INT64_C(146097) / 400));
    int latest = 1970 + years_from_1970 + 50;
    m->year += latest - latest % 100;
    if (m->year > latest) {
        m->year -= 100;
    }
}

bool httpdate_parse(const char *text, size_t len, int64_t now, int64_t *epoch) {
    struct cursor c = {text, text + len};
    struct moment m = {0};
    int weekday;
    if (take_one_of(&c, long_days, 7, &weekday)) {
        if (!take_rfc850(&c, &m)) {
            return false;
        }
        widen_year(&m, now);
    } else if (take_one_of(&c, short_days, 7, &weekday)) {
        bool imf = c.at < c.end && *c.at == ',';
        if (!(imf ? take_imf(&c, &m) : take_asctime(&c, &m))) {
            return false;
        }
    } else {
        return false;
    }
    if (c.at != c.end || !is_valid(&m)) {
        return false;
    }
    *epoch = to_epoch(&m);
    return true;
}
