#include "train/engine_config.h"

static const config_field engine_fields[] = {
    CONFIG_ENUM(engine_config, winograd, "auto", "auto|off",
                "Winograd's algorithm for 3x3 convolutions, where it is the faster; its rounding error is a few times the direct one's"),
};
const config_table engine_table = CONFIG_TABLE("engine", engine_config, engine_fields, "how it is computed");
