// What a network predicts, and its exact conversion into the others. x = alpha x0 + sigma epsilon.
#ifndef DIFFUSION_PREDICTION_H
#define DIFFUSION_PREDICTION_H

#include <stdint.h>

typedef enum prediction_type {
  PREDICT_EPSILON,
  PREDICT_X0,
  PREDICT_V,     // alpha epsilon - sigma x0 [Salimans22]
  PREDICT_SCORE, // grad log q(x) = -epsilon / sigma
  PREDICT_FLOW,  // epsilon - x0, the velocity of alpha = 1 - t, sigma = t [Liu22]
  PREDICT_EDM    // x0 = c_skip x/alpha + c_out F(c_in x/alpha, c_noise), sigma_data a key [Karras22 table 1]
} prediction_type;
#define PREDICTION_NAMES "epsilon|x0|v|score|flow|edm"

// x0 = x0_x x + x0_output output, epsilon = epsilon_x x + epsilon_output output
typedef struct prediction_map {
  double x0_x, x0_output, epsilon_x, epsilon_output;
} prediction_map;
prediction_map prediction_coefficients(int type, double alpha, double sigma, double sigma_data);

// x0 and epsilon of n numbers of raw output; either result may be NULL, or one of them `output` itself. sigma_data: of PREDICT_EDM
// alone.
void prediction_to_x0_epsilon(int type, double alpha, double sigma, double sigma_data, int64_t n, const double *x, const double *output,
                              double *x0, double *epsilon);
// The raw output that stands for (x0, epsilon).
void prediction_from_x0_epsilon(int type, double alpha, double sigma, double sigma_data, int64_t n, const double *x0, const double *epsilon,
                                double *output);

#endif
