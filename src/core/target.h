/* Target URIs: which backend a target names. Agrees with MLflow's parse_target_uri, that is with
 * Python's urlparse (spec/mlflow.md 1.2). What lies behind the name is the backend's business. */
#ifndef MOONFLOW_CORE_TARGET_H
#define MOONFLOW_CORE_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

enum { TARGET_MAX = 2048 }; /* bytes of the longest target */

struct target {
    char name[TARGET_MAX + 1]; /* the scheme in lower case, or else the whole path */
    const char *rest; /* what follows the scheme's colon and "//", within the text; NULL where there
                         is no scheme */
    size_t rest_len;
};

/* Finds the target's name. Failure has kind config: MLflow's message with its INTERNAL_ERROR where
 * neither a scheme nor a path is there, INVALID_PARAMETER_VALUE for a control byte (Python drops
 * some of them silently) and for a text beyond TARGET_MAX. */
bool target_parse(struct target *target, const char *uri, size_t len, struct error *err);

#endif
