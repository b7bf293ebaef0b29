/* What the host needs of the task runtime beyond its Lua face. */
#ifndef MOONFLOW_LIB_LIB_TASK_H
#define MOONFLOW_LIB_LIB_TASK_H

#include <lua.h>

/* Makes SIGINT stop what runs in this state: the first one raises the interrupted error in the
 * running code or wait, the second one leaves clean-up code no time, the third one ends the
 * process with 130. The interrupt stays pending until task.acknowledge. [-0, +0, m] */
void task_catch_interrupts(lua_State *L);

#endif
