// Every prediction is a linear function of (x0, epsilon), and with x = alpha x0 + sigma epsilon both are linear in (x, output). The
// coefficients below stay finite at alpha = 0 and at sigma = 0 wherever the limit does.
#include "diffusion/prediction.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

prediction_map prediction_coefficients(int type, double alpha, double sigma, double sigma_data) {
  double d2 = alpha * alpha + sigma * sigma, sum = alpha + sigma;
  double e2 = sigma * sigma + sigma_data * sigma_data * alpha * alpha, e = sqrt(e2);
  switch ((prediction_type)type) {
  case PREDICT_EPSILON: return (prediction_map){1 / alpha, -sigma / alpha, 0, 1};
  case PREDICT_X0: return (prediction_map){0, 1, 1 / sigma, -alpha / sigma};
  case PREDICT_V: return (prediction_map){alpha / d2, -sigma / d2, sigma / d2, alpha / d2};
  case PREDICT_SCORE: return (prediction_map){1 / alpha, sigma * sigma / alpha, 0, -sigma};
  case PREDICT_FLOW: return (prediction_map){1 / sum, -sigma / sum, 1 / sum, alpha / sum};
  case PREDICT_EDM: // with s = sigma/alpha, d = sigma_data: c_skip = d^2/(s^2 + d^2), c_out = s d/sqrt(s^2 + d^2)
    return (prediction_map){sigma_data * sigma_data * alpha / e2, sigma * sigma_data / e, sigma / e2, -alpha * sigma_data / e};
  }
  return (prediction_map){NAN, NAN, NAN, NAN};
}

void prediction_to_x0_epsilon(int type, double alpha, double sigma, double sigma_data, int64_t n, const double *x, const double *output,
                              double *x0, double *epsilon) {
  prediction_map m = prediction_coefficients(type, alpha, sigma, sigma_data);
  bool by_noise = type == PREDICT_EPSILON || type == PREDICT_SCORE, by_data = type == PREDICT_X0;
  for (int64_t i = 0; i < n; i++) {
    double xi = x[i], oi = output[i]; // a result may take the place of an input
    // As one quotient: at alpha = 0 it is infinite or, with luck, clipped, where a sum of two infinities is not a number.
    if (x0) x0[i] = by_noise ? (xi - sigma * (m.epsilon_output * oi)) / alpha : m.x0_x * xi + m.x0_output * oi;
    if (epsilon) epsilon[i] = by_data ? (xi - alpha * oi) / sigma : m.epsilon_x * xi + m.epsilon_output * oi;
  }
}

void prediction_from_x0_epsilon(int type, double alpha, double sigma, double sigma_data, int64_t n, const double *x0, const double *epsilon,
                                double *output) {
  double a = 0, b = 0, e = sqrt(sigma * sigma + sigma_data * sigma_data * alpha * alpha); // output = a x0 + b epsilon
  switch ((prediction_type)type) {
  case PREDICT_EPSILON: b = 1; break;
  case PREDICT_X0: a = 1; break;
  case PREDICT_V: a = -sigma, b = alpha; break;
  case PREDICT_SCORE: b = -1 / sigma; break;
  case PREDICT_FLOW: a = -1, b = 1; break;
  case PREDICT_EDM: a = sigma / (sigma_data * e), b = -sigma_data * alpha / e; break;
  }
  for (int64_t i = 0; i < n; i++) output[i] = a * x0[i] + b * epsilon[i];
}
