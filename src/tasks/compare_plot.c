#include "tasks/compare.h"
void compare_add_plot(const comparison *c, text_buffer *page) { (void)c, (void)page; }
elbo_status compare_add_pictures(comparison *c, text_buffer *page) {
  (void)c, (void)page;
  return ELBO_OK;
}
