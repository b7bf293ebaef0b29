/* HTTP dates: an accepted one is short and lies between the years 1 and 9999. */
#include <stdint.h>
#include <stdlib.h>

#include "core/httpdate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t epoch;
    if (httpdate_parse((const char *)data, size, INT64_C(1767225600), &epoch)) {
        bool plausible = size >= 24 && size <= 33 && epoch >= INT64_C(-62135596800) &&
                         epoch <= INT64_C(253402300800);
        if (!plausible) {
            abort();
        }
    }
    return 0;
}
