// Captioned shapes: a generator with known truth, and its inverse. docs/shapes.md has the ranges.
#ifndef DATA_SHAPES_H
#define DATA_SHAPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

typedef enum shape_kind { SHAPE_CIRCLE, SHAPE_SQUARE, SHAPE_TRIANGLE, SHAPE_STAR, SHAPE_CROSS, SHAPE_RING, SHAPE_KINDS } shape_kind;
#define SHAPE_SIZES 3
#define SHAPE_CELLS 3 // of each axis
#define SHAPE_COLORS 8
#define SHAPE_BACKGROUNDS 3
#define SHAPE_MAX_SIDE 1024

// All lengths are shares of the picture's side, the origin at the top left.
typedef struct shape_scene {
  int kind;        // shape_kind
  int size;        // 0 small, 1 medium, 2 large
  int row, column; // 0 to 2 from the top left
  int color, background;
  double x, y, radius;
  double angle; // radians, clockwise on the screen
} shape_scene;

extern const char *const SHAPE_KIND_NAMES[SHAPE_KINDS],
    *const SHAPE_SIZE_NAMES[SHAPE_SIZES], *const SHAPE_COLOR_NAMES[SHAPE_COLORS], *const SHAPE_BACKGROUND_NAMES[SHAPE_BACKGROUNDS];
extern const char *const SHAPE_PLACE_NAMES[SHAPE_CELLS][SHAPE_CELLS]; // "at the top left"
extern const uint8_t SHAPE_COLOR_RGB[SHAPE_COLORS][3];
extern const uint8_t SHAPE_BACKGROUND_RGB[SHAPE_BACKGROUNDS][3];

// Scene `index` of (seed, stream); angles within +-rotation degrees.
void shape_scene_draw(uint64_t seed, uint32_t stream, uint64_t index, double rotation, shape_scene *out);
// The scene as numbers of about unit size: figure, colour and ground one-hot, then x, y, radius and angle, each scaled to -1..1 over its
// range.
enum { SHAPE_ATTRIBUTES = SHAPE_KINDS + SHAPE_COLORS + SHAPE_BACKGROUNDS + 4 };
void shape_attributes(const shape_scene *scene, float *out);
void shape_caption(const shape_scene *scene, char *out, size_t size);
// How much of each pixel the shape covers, (side,side) in 0..1, as the share of its 8x8 subsamples that lie inside. side: up to
// SHAPE_MAX_SIDE.
void shape_coverage(const shape_scene *scene, int side, float *out);
// out: (side,side,channels) with channels 1 (grey by Rec. 601) or 3; coverage is scratch of side*side.
void shape_render(const shape_scene *scene, int side, int channels, float *coverage, uint8_t *out);
// Covered area of a shape of radius 1.
double shape_unit_area(int kind);
// Middle of a row's or column's range, and the limits of a size's.
double shape_cell_center(int cell);
void shape_size_range(int size, double *low, double *high);

// The inverse: finds colours, mask, centre and area, then the kind whose rendering fits best. false: a picture without a shape. scratch:
// 2*side*side floats. rotation: how far angles were allowed to go, in degrees.
bool shape_read(const uint8_t *rgb, int side, double rotation, float *scratch, shape_scene *out);

#endif
