#include "train/engine_config.h"

static const config_field engine_fields[] = {
    CONFIG_ENUM(engine_config, winograd, "auto", "auto|off",
                "Winograd's algorithm for 3x3 convolutions, where it is the faster; its rounding error is a few times the direct one's"),
    CONFIG_ENUM(engine_config, precision, "float32", "float32|bfloat16|bfloat16-emulated",
                "what linear layers, matrix products, direct convolutions and, in use, attention multiply; sums, weights, gradients and "
                "activations "
                "stay float32. bfloat16 needs a processor that has it (AVX512_BF16); emulated: rounded the same way, but for attention, "
                "and multiplied as float32, on any"),
    CONFIG_BYTES(
        engine_config, keep_transformed, "256MiB",
        "in use, not in training, weights are kept as Winograd's kernels read them, four times their size, up to so much in a graph, "
        "where making these would take a twentieth of a call or the last cache holds them; others are transformed in every call"),
};
const config_table engine_table = CONFIG_TABLE("engine", engine_config, engine_fields, "how it is computed");
