// The tables of scheduler.c, for reading, writing and converting.
#ifndef DIFFUSION_SCHEDULER_TABLE_H
#define DIFFUSION_SCHEDULER_TABLE_H

#include "diffusion/scheduler.h"

const config_table *scheduler_class_table(int class_);
const config_field *scheduler_class_field(int class_, const char *name); // NULL: the class has no such key
bool scheduler_field_nullable(const config_field *f);                    // null in Python stands for 0, "", [] or the first name
// Brings spellings that diffusers converts into its own, sets `prediction`, and refuses what cannot be done, by key under `where`.
elbo_status scheduler_settle(elbo_ctx *ctx, const char *where, scheduler_config *config);

#endif
