#include "data/data_config.h"

static const config_field DATA_FIELDS[] = {
    CONFIG_STRING(
        data_config, path, "digits",
        "file, folder, shards (name-{000..002}.tar.gz) or a built-in set: digits, shapes, rings, spirals, checkerboard, gaussians8"),
    CONFIG_STRING(
        data_config, condition, "",
        "a vector or a sequence of embeddings for each example, for model.condition.type: vector or context: a .npy (examples, numbers) "
        "or (examples, embeddings, numbers), train, valid and test one behind the other, or a .npz with condition_train, ...; "
        "attributes: what a built-in set knows about each of its examples; nothing: the array condition of a .npz of examples"),
    CONFIG_ENUM(data_config, binarize, "none", "none|fixed|dynamic",
                "pixels drawn 0 or 1 with their grey as probability: once per example, or anew each time it is seen"),
    CONFIG_ENUM(data_config, dequantize, "none", "none|uniform",
                "uniform: (v + U[0,1)) / 256 of an 8-bit value v, / 65536 of a 16-bit one"),
    CONFIG_INT(data_config, holdout, -1, 1e12, "-1", "examples",
               "random training examples held out for validation; -1: none where there is a test set, else a tenth, at most 5,000"),
    CONFIG_INT(data_config, seed, 0, 9e18, "0", "", "of the hold-out, of limit and of binarize: fixed"),
    CONFIG_INT(data_config, limit, 0, 1e12, "0", "examples", "train on a random subset of so many; 0: all"),
    CONFIG_INT(data_config, size, 0, 16384, "0", "pixels", "pictures are cut to a centred square and resized to this side; 0: as they are"),
    CONFIG_INT(data_config, channels, 0, 4, "0", "", "1 grey, 3 colour, 2 and 4 with alpha; 0: as they are"),
    CONFIG_INT(data_config, crop, 0, 16384, "0", "pixels",
               "side of a window cut out: at a random place in training, in the middle otherwise; 0: none"),
    CONFIG_INT(data_config, pad, 0, 1024, "0", "pixels", "zeros added on every side before the crop (needs crop)"),
    CONFIG_BOOL(data_config, flip, "false", "mirror half of the training pictures left to right"),
    CONFIG_ENUM(data_config, layout, "nhwc", "nhwc|nchw", "order of the dimensions of 4-D .npy and .npz arrays"),
    CONFIG_INT(data_config, classes, 0, 1e6, "0", "", "number of classes; 0: as many as the labels say"),
    CONFIG_BYTES(data_config, cache, "1GiB", "decoded pictures kept in memory; larger sets are streamed"),
    CONFIG_FLOAT(data_config, max_skipped, 0, 1, "0.01", "", "largest share of unreadable pictures; more of them is an error"),
    CONFIG_INT(data_config, shuffle_buffer, 1, 1e8, "10000", "examples", "streamed sets are shuffled through a buffer of so many"),
};

const config_table data_table = CONFIG_TABLE("data", data_config, DATA_FIELDS, "where the examples come from and what is done to them");
